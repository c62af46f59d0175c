"""The layout of a student's streamed weights: one flat vector, tensor after tensor, in the card's order.

Every flat vector in AMS, on either side of the wire, has this order and this length. Knows offsets, grids and
the digest; does not know where weights come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ams.core.card import ModelCard, Parameter
from ams.core.grid import LIMIT, snap
from ams.errors import ModelError

DIGEST_DOMAIN = b"ams-weights-v1\0"

IntVector = npt.NDArray[np.int32]
"""Flat vector of grid integers, [P]."""

FloatVector = npt.NDArray[np.float32]
"""Flat vector of weights, [P]."""


@dataclass(frozen=True)
class Slot:
    """Where one tensor lies in the flat vector: elements `start` to `stop`."""

    parameter: Parameter
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """Order, shape and grid of all streamed tensors of one student."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, card: ModelCard) -> Layout:
        """The layout that a card declares: its streamed parameters in their order."""
        return cls(tuple(p for p in card.parameters if p.kind.streamed))

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """One slot per tensor, in order, without gaps."""
        slots, start = [], 0
        for parameter in self.parameters:
            slots.append(Slot(parameter, start, start + parameter.size))
            start += parameter.size
        return tuple(slots)

    @cached_property
    def size(self) -> int:
        """P, the number of streamed weights."""
        return sum(parameter.size for parameter in self.parameters)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """First element of every tensor, [tensors]; for `searchsorted`."""
        return np.array([slot.start for slot in self.slots], dtype=np.int64)

    @cached_property
    def scales(self) -> FloatVector:
        """2**e of every element, [P]."""
        exponents = [np.full(p.size, p.exponent, np.int32) for p in self.parameters]
        return np.ldexp(np.float32(1), np.concatenate(exponents)).astype(np.float32)

    def to_float(self, n: IntVector) -> FloatVector:
        """The weights of grid integers; exact, since |n| < 2**24."""
        return n.astype(np.float32) * self.scales

    def to_grid(self, weights: npt.NDArray[np.floating]) -> IntVector:
        """The nearest grid integers to flat float weights, [P] to [P]."""
        self._check(weights)
        return np.concatenate([snap(weights[s.start : s.stop], s.parameter.exponent) for s in self.slots])

    def tensors(self, weights: FloatVector) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Name and view of every tensor of a flat vector, in its own shape."""
        self._check(weights)
        for slot in self.slots:
            yield slot.parameter.name, weights[slot.start : slot.stop].reshape(slot.parameter.shape)

    def flatten(self, tensors: dict[str, npt.NDArray[np.float32]]) -> FloatVector:
        """The flat vector of named tensors. Raises ModelError for a missing tensor or another shape."""
        pieces = []
        for parameter in self.parameters:
            tensor = tensors.get(parameter.name)
            if tensor is None or tensor.shape != parameter.shape:
                came = "nothing" if tensor is None else f"shape {tensor.shape}"
                raise ModelError(f"tensor {parameter.name!r}: the card says shape {parameter.shape}, got {came}")
            pieces.append(np.asarray(tensor, np.float32).ravel())
        return np.concatenate(pieces)

    def digest(self, n: IntVector) -> bytes:
        """SHA-256 (32 bytes) of grid integers: what every patch promises and both sides check."""
        self._check(n)
        digest = hashlib.sha256(DIGEST_DOMAIN)
        digest.update(np.ascontiguousarray(n, dtype="<i4").data)
        return digest.digest()

    def in_range(self, n: npt.NDArray[np.int64] | IntVector) -> bool:
        """Whether every integer is on the grid."""
        return not n.size or (int(n.max()) < LIMIT and int(n.min()) > -LIMIT)

    def _check(self, vector: npt.NDArray[np.generic]) -> None:
        if vector.shape != (self.size,):
            raise ModelError(f"expected a flat vector of {self.size} weights, got shape {vector.shape}")
