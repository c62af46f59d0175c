"""The integer grid: every streamed weight is `n * 2**e` with |n| < 2**24, so float32 holds it exactly.

Sums of integers do not depend on their order; this is what makes device and server agree bit for bit however
the device got to a version (docs/decisions/0001-integer-grid.md). Knows one tensor at a time; `layout` knows them all.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ams.errors import ModelError

LIMIT = 1 << 24
"""Exclusive bound of |n|: beyond it float32 skips integers."""

MIN_EXPONENT = -120
MAX_EXPONENT = 100

HEADROOM_BITS = 4
"""A tensor may grow to 2**4 times its largest pretrained weight before its grid saturates."""

ZERO_TENSOR_EXPONENT = -24
"""Grid of a tensor that is all zeros at import: it may grow to 1."""


def grid_exponent(weights: npt.NDArray[np.floating]) -> int:
    """The exponent e that leaves `HEADROOM_BITS` above the largest |weight|. Raises ModelError on NaN or inf."""
    largest = float(np.max(np.abs(weights), initial=0.0))
    if not math.isfinite(largest):
        raise ModelError("a streamed tensor holds NaN or infinity; export the model again from sound weights")
    if largest == 0.0:
        return ZERO_TENSOR_EXPONENT
    _, power = math.frexp(largest)  # largest < 2**power
    return max(MIN_EXPONENT, min(MAX_EXPONENT, power - (24 - HEADROOM_BITS)))


def snap(weights: npt.NDArray[np.floating], exponent: int) -> npt.NDArray[np.int32]:
    """The nearest grid integers to float weights (same shape), saturated to |n| < 2**24."""
    scaled = np.rint(np.ldexp(weights.astype(np.float64), -exponent))
    return np.clip(scaled, -(LIMIT - 1), LIMIT - 1).astype(np.int32)
