"""Evaluation: real streams through the real system, and what comes of it."""
