"""The labeler."""
