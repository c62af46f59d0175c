"""Time to encode, decode and apply an update, SHA-256 of the result included, ours against the paper's encoding."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from statistics import median

from ams.core import paper_encoding
from ams.core.patch import Patch
from ams.core.quantiser import Quantiser
from benchmarks.updates import synthetic

MODEL_ID = "00" * 32


def _median_s(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return median(times)


def run(*, quick: bool) -> dict[str, float | int]:
    """`ratio` is ours / the paper's."""
    layout, start, wanted, mask = synthetic(0, weights=200_000 if quick else 2_100_000)
    delta = Quantiser().quantise(start, wanted, mask, layout)
    weights = layout.to_float(start)

    def ours() -> None:
        # The digest of the new weights is computed by both ends, as in life.
        digest = layout.digest(delta.added_to(start).astype("int32"))
        data = Patch(1, 2, MODEL_ID, digest, delta).encode(layout)
        Patch.decode(data, layout).apply(start, layout, model_id=MODEL_ID, version=1)

    def papers() -> None:
        hashlib.sha256(wanted.data).digest()
        updated = paper_encoding.apply(paper_encoding.encode(wanted, mask), weights)
        hashlib.sha256(updated.data).digest()

    repeats = 3 if quick else 9
    ours_s, papers_s = _median_s(ours, repeats), _median_s(papers, repeats)
    return {"ratio": ours_s / papers_s, "ours_s": ours_s, "paper_s": papers_s}
