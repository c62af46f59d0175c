"""A sparse change of a student's weights: positions in the flat vector and integers to add.

Additions of integers are exact and order-free, so the change from any version to any other is the sum of the
changes between them. Knows nothing of bytes (`patch`) or of how a change was chosen (`quantiser`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ams.core.layout import IntVector

SAFE_CHANGE = 1 << 30
"""Grid integers are below 2**24, so their sums with smaller changes than this fit into 32 bits."""


@dataclass(frozen=True, eq=False)
class Delta:
    """`values[i]`, never zero, is to be added at `positions[i]`; positions strictly increase. Both int64, [N]."""

    positions: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]

    @classmethod
    def between(cls, before: IntVector, after: IntVector) -> Delta:
        """The change that leads from one flat vector of grid integers to another."""
        difference = after.astype(np.int64) - before.astype(np.int64)
        positions = np.flatnonzero(difference)
        return cls(positions, difference[positions])

    @classmethod
    def none(cls) -> Delta:
        """The change that changes nothing."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def total(cls, deltas: Iterable[Delta]) -> Delta:
        """The sum of changes, in any order."""
        changes = list(deltas)
        if not changes:
            return cls.none()
        positions, inverse = np.unique(np.concatenate([d.positions for d in changes]), return_inverse=True)
        sums = np.zeros(len(positions), np.int64)
        np.add.at(sums, inverse, np.concatenate([d.values for d in changes]))
        kept = sums != 0
        return cls(positions[kept], sums[kept])

    def __len__(self) -> int:
        return len(self.positions)

    def negated(self) -> Delta:
        """The change that undoes this one."""
        return Delta(self.positions, -self.values)

    def added_to(self, n: IntVector) -> npt.NDArray[np.int32] | npt.NDArray[np.int64]:
        """A copy of `n` with the change made; whether it is on the grid is the caller's check.

        As int32 where no sum can leave it, which on large students takes half the time; else as int64.
        """
        if np.abs(self.values).max(initial=0) < SAFE_CHANGE:
            narrow = n.copy()
            narrow[self.positions] += self.values.astype(np.int32)
            return narrow
        wide = n.astype(np.int64)
        wide[self.positions] += self.values
        return wide
