"""Fuzz parts: an inbox and both ends of a connection, fed with parts changed and out of order.

`python -m tests.fuzz.fuzz_parts -max_total_time=60`, see README.md here.
"""

from __future__ import annotations

from tests.fuzz.fuzzer import fuzz

if __name__ == "__main__":
    fuzz("parts")
