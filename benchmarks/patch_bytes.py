"""Bytes per update at equal accuracy: ours over the paper's bitmap + gzip -9 + float16 at gamma 5 %.

In the closed loop of `patch_frontier` (the same runs): ours at a fifth of the paper's bytes, and the difference of mIoU
that comes with it, paired over traces and seeds. The figure that counts is that of the paper's student, 2.1 M weights;
the shipped student's, which is smaller, is reported beside it.
"""

from __future__ import annotations

import numpy as np

from benchmarks.frontier import paired
from benchmarks.patch_frontier import Frontier, runs_of
from benchmarks.runs import replay_all

OURS, PAPERS = "ours-0.2", "paper-5"


def run(*, quick: bool) -> dict[str, float | int | str]:
    """`ratio` is ours / the paper's bytes, for the largest student that was run."""
    figures: dict[str, float | int | str] = {}
    for student in ["shipped"] if quick else ["shipped", "paper"]:
        wanted = [run for run in runs_of(student, quick=quick) if run.scheme in (OURS, PAPERS)]
        frontier = Frontier(student, replay_all(wanted))
        ours = [result for key, result in frontier.results.items() if key.scheme == OURS]
        papers = [result for key, result in frontier.results.items() if key.scheme == PAPERS]
        ours_bytes, paper_bytes = (float(np.mean([np.mean(r.bytes) for r in runs])) for runs in (ours, papers))
        changed = float(np.mean([np.mean(result.changed) for result in ours]))
        gain, half = paired(frontier.differences(OURS, PAPERS))
        figures |= {
            f"{student}_ratio": ours_bytes / paper_bytes,
            f"{student}_ours_bytes": round(ours_bytes),
            f"{student}_paper_bytes": round(paper_bytes),
            f"{student}_ours_bits_per_update": 8 * ours_bytes / changed,
            f"{student}_miou_difference": round(gain, 2),
            f"{student}_miou_difference_95": round(half, 2) if not np.isnan(half) else "one pair",
        }
        figures["ratio"] = ours_bytes / paper_bytes
    return figures
