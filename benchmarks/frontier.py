"""Frontiers of mIoU against kbps, and how far one lies below another: the Bjontegaard delta rate. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Points = Sequence[tuple[float, float]]
"""(kbps, mIoU in points) of one scheme at several rates."""

SAMPLES = 200
T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 11: 2.20}
"""Student's t for a 95 % interval, by degrees of freedom; beyond these 2.1 is near enough."""


def bd_rate(reference: Points, other: Points) -> float:
    """Mean relative difference of the bitrate at equal mIoU, -0.75 for a quarter of the bytes; NaN without overlap.

    Between measured points the logarithm of the rate is interpolated linearly. Of points that cost more and gain
    nothing only the cheaper counts: what would be chosen.
    """
    ours, theirs = _envelope(other), _envelope(reference)
    low = max(ours[0][0], theirs[0][0])
    high = min(ours[0][-1], theirs[0][-1])
    if not high > low:
        return math.nan
    at = np.linspace(low, high, SAMPLES)
    return float(np.exp(np.mean(np.interp(at, *ours) - np.interp(at, *theirs))) - 1)


def _envelope(points: Points) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """mIoU, increasing, and the logarithm of the least rate at which it is had."""
    kept: list[tuple[float, float]] = []
    for kbps, miou in sorted(points):
        if not kept or miou > kept[-1][0]:
            kept.append((miou, math.log(kbps)))
    mious, rates = zip(*kept, strict=True)
    return np.array(mious), np.array(rates)


def paired(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences, and half of its 95 % interval (NaN for a single one)."""
    count = len(differences)
    mean = float(np.mean(differences))
    if count < 2:
        return mean, math.nan
    spread = float(np.std(differences, ddof=1)) / math.sqrt(count)
    return mean, T_95.get(count - 1, 2.1) * spread
