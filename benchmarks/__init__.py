"""Benchmarks: one file per figure that we claim, each printing a ratio from one run."""
