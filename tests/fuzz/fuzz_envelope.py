"""Fuzz the envelope, its messages, and the patch that a Patch message carries.

`python -m tests.fuzz.fuzz_envelope -max_total_time=60`, see README.md here.
"""

from __future__ import annotations

from tests.fuzz.fuzzer import fuzz

if __name__ == "__main__":
    fuzz("envelope")
