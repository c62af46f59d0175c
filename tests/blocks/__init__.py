"""A street of blocks with two tiny networks: what end-to-end tests run on, made in seconds."""
