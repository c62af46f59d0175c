"""Changes divided by their step: per tensor the largest power of two that divides all its changes, and the quotients.

What every entropy coder of patches codes. Knows tensors and integers; knows no bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ams.core.delta import Delta
from ams.core.grid import LIMIT
from ams.core.layout import Layout
from ams.errors import CorruptPatchError

MAX_STEP = 24


@dataclass(frozen=True, eq=False)
class SteppedDelta:
    """Positions [N], their number in each tensor [T], step exponent of each tensor [T], and quotients [N]; int64."""

    positions: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    quotients: npt.NDArray[np.int64]

    @classmethod
    def of(cls, delta: Delta, layout: Layout) -> SteppedDelta:
        """A change, divided."""
        counts = changes_per_tensor(delta.positions, layout)
        steps = np.zeros(len(counts), np.int64)
        changed = np.flatnonzero(counts)
        if not len(changed):
            return cls(delta.positions, counts, steps, delta.values)
        first = (np.cumsum(counts) - counts)[changed]
        bits = np.bitwise_or.reduceat(np.abs(delta.values), first)  # the lowest set bit of the union divides all
        steps[changed] = np.bitwise_count((bits & -bits) - 1)
        return cls(delta.positions, counts, steps, delta.values >> np.repeat(steps, counts))

    def delta(self) -> Delta:
        """The change itself. Raises CorruptPatchError for one that changes nothing somewhere, or leaves the grid."""
        values = self.quotients << np.repeat(self.steps, self.counts)
        if np.any(values == 0) or np.any(np.abs(values) >= 2 * LIMIT):
            raise CorruptPatchError("a value is zero or beyond the grid")
        return Delta(self.positions, values)


def changes_per_tensor(positions: npt.NDArray[np.int64], layout: Layout) -> npt.NDArray[np.int64]:
    """How many of some increasing positions, [N], lie in each tensor, [T]."""
    return np.diff(np.searchsorted(positions, np.append(layout.starts, layout.size)))
