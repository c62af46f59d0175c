"""Fuzz patches: the header, both entropy coders, and applying them.

`python -m tests.fuzz.fuzz_patch -max_total_time=60`, see README.md here.
"""

from __future__ import annotations

from tests.fuzz.fuzzer import fuzz

if __name__ == "__main__":
    fuzz("patch")
