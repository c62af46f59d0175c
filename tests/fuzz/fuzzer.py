"""Atheris (libFuzzer) around one promise: seeds its corpus, runs it, and says now and then what was seen.

The corpus, and inputs that break the promise, are kept in build/fuzz/, which git ignores.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent.parent / "build" / "fuzz"
MAX_CPU_S = 1.0
"""For one input, processor time."""

MAX_SECONDS = 60
"""On the wall: only for what does not end at all, since a busy machine may stop us for long."""

MAX_MEGABYTES = 8192
"""Generous, because atheris itself keeps 2 KB a run; `test_mutations` measures what the code under test takes."""

MAX_BYTES = 8192
REPORT_EVERY = 10_000


def fuzz(name: str) -> None:
    """Break `take_NAME` of `promises`, until libFuzzer's own options on the command line say that it is enough.

    Does not return. libFuzzer ends the process with a status other than 0 at the first broken promise, and leaves the
    input in build/fuzz/NAME/.
    """
    try:
        import atheris
    except ImportError:
        sys.exit("the fuzzers need atheris: pip install atheris")
    with atheris.instrument_imports(include=["ams"]):
        from tests.fuzz import promises
        from tests.fuzz.seeds import SEEDS
    take = getattr(promises, f"take_{name}")
    corpus = BUILD / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for file, data in SEEDS[name].items():
        (corpus / file).write_bytes(data)
    seen: promises.Seen = Counter()

    def run(data: bytes) -> None:
        seen["runs"] += 1
        began_s = time.thread_time()
        take(data, seen)
        assert time.thread_time() - began_s < MAX_CPU_S
        if seen["runs"] % REPORT_EVERY == 0:
            print("seen:", {key: seen[key] for key in sorted(seen)}, file=sys.stderr)

    options = {"timeout": MAX_SECONDS, "rss_limit_mb": MAX_MEGABYTES, "max_len": MAX_BYTES}
    flags = [f"-artifact_prefix={BUILD / name}/", *(f"-{key}={value}" for key, value in options.items())]
    atheris.Setup([sys.argv[0], *flags, *sys.argv[1:], str(corpus)], run)
    atheris.Fuzz()
