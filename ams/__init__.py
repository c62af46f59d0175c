"""Adaptive Model Streaming: the shared library, the only code that more than one process uses."""

__version__ = "0.1.0"
