"""CPU time to encode, decode and apply an update, SHA-256 of the result included, ours against the paper's encoding."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from statistics import median

from ams.core import paper_encoding
from ams.core.delta import Delta
from ams.core.patch import GAP_ZSTD, RANS, Patch
from ams.core.quantiser import Quantiser
from benchmarks.updates import synthetic

MODEL_ID = "00" * 32

FINE_RMS = 0.35
"""A step so fine that nearly all of the 5 % that may change do: the most that there is to code."""


def run(*, quick: bool) -> dict[str, float | int]:
    """`ratio` is ours / the paper's, both ends, for one phase's result at gamma 5 %.

    Ours sends what the trainer's quantiser leaves of it; `fine_ratio` is with a step that drops little, and
    `fine_device_s` its decoding, applying and digest.
    """
    layout, start, wanted, mask = synthetic(0, weights=200_000 if quick else 2_100_000)
    delta = Quantiser().quantise(start, wanted, mask, layout)
    fine = Quantiser(FINE_RMS).quantise(start, wanted, mask, layout)
    weights = layout.to_float(start)

    def publish(change: Delta, coder: int = RANS) -> bytes:
        # The digest of the new weights is computed by both ends, as in life.
        digest = layout.digest(change.added_to(start).astype("int32", copy=False))
        return Patch(1, 2, MODEL_ID, digest, change).encode(layout, coder=coder)

    def apply(data: bytes) -> None:
        Patch.decode(data, layout).apply(start, layout, model_id=MODEL_ID, version=1)

    def papers() -> None:
        hashlib.sha256(wanted.data).digest()
        updated = paper_encoding.apply(paper_encoding.encode(wanted, mask), weights)
        hashlib.sha256(updated.data).digest()

    data = publish(fine)
    times = _median_s(
        {
            "ours": lambda: apply(publish(delta)),
            "fine": lambda: apply(publish(fine)),
            "gap_zstd": lambda: apply(publish(fine, GAP_ZSTD)),
            "device": lambda: apply(data),
            "paper": papers,
        },
        rounds=3 if quick else 15,
    )
    return {
        "ratio": times["ours"] / times["paper"],
        "fine_ratio": times["fine"] / times["paper"],
        "fine_gap_zstd_ratio": times["gap_zstd"] / times["paper"],
        "ours_s": times["ours"],
        "fine_device_s": times["device"],
        "paper_s": times["paper"],
        "changed": len(delta),
        "fine_changed": len(fine),
        "paper_changed": int(mask.sum()),
    }


def _median_s(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU times of some works, one after the other in each round: a busy machine slows all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started = time.process_time()
            work()
            times[name].append(time.process_time() - started)
    return {name: median(found) for name, found in times.items()}
