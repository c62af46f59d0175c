"""Bytes per update: our patch, header and digest included, against the paper's bitmap + gzip -9 + float16.

Synthetic update; the frontier of accuracy against bytes on video is another benchmark. Quantiser as by default.
"""

from __future__ import annotations

from ams.core import paper_encoding
from ams.core.delta import Delta
from ams.core.patch import Patch
from ams.core.quantiser import Quantiser
from benchmarks.updates import synthetic


def run(*, quick: bool) -> dict[str, float | int]:
    """`ratio` is ours / the paper's."""
    layout, start, wanted, mask = synthetic(0, weights=200_000 if quick else 2_100_000)
    delta: Delta = Quantiser().quantise(start, wanted, mask, layout)
    result = delta.added_to(start).astype("int32")
    ours = len(Patch(1, 2, "00" * 32, layout.digest(result), delta).encode(layout))
    papers = len(paper_encoding.encode(wanted, mask))
    return {
        "ratio": ours / papers,
        "ours_bytes": ours,
        "paper_bytes": papers,
        "ours_bits_per_weight": 8 * ours / int(mask.sum()),
        "paper_bits_per_weight": 8 * papers / int(mask.sum()),
    }
