"""Rate control of the downlink: which share of the weights a phase may change, and how coarse its change is sent.

Two knobs, one budget. Before a phase: the coordinate fraction (gamma) whose update should just use the budget, since
training fewer weights beats training all and dropping most of the change. After it: the finest quantiser step that
fits, found by bisection; nothing finer than `finest` is sent even when it would fit, since that buys no accuracy
(docs/lab-log.md). Pure: the size of an encoded change is passed in, and so is what may be spent (`bitrate`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ams.core.delta import Delta
from ams.core.layout import FloatVector, IntVector, Layout
from ams.core.quantiser import Quantiser
from ams.core.selection import Mask

COARSEST = 128.0
"""Times the finest step: beyond this hardly anything of a change is left."""

SEARCH_STEPS = 7
"""Halvings of the range of steps, on a logarithmic scale: to within 4 % of the finest one that fits."""

MIN_UPDATE_BYTES = 512
"""Below this an update is not worth its header; the next one pays for it."""

BYTES_PER_WEIGHT = 0.14
"""What an update of all weights takes, per weight, at the finest step: where the control of gamma begins."""

EXPONENT = 0.7
"""Bytes grow like gamma to this power: the fewer weights may change, the more each of them does."""

ALL_FROM = 0.6
"""A larger gamma becomes 1: with all weights trained, what a slightly coarser step loses can be carried over."""

LEAST_FRACTION = 0.01
SMOOTHING = 0.5
"""Share of the way, on a logarithmic scale, that one phase's size moves the estimate."""


@dataclass
class CoordinateControl:
    """Gamma for a number of bytes, learned from the sizes of earlier updates of a student of `weights` weights.

    The model behind it: bytes = a * weights * gamma ** EXPONENT.
    """

    weights: int
    bytes_per_weight: float = BYTES_PER_WEIGHT

    def fraction_for(self, budget_bytes: int) -> float:
        """The coordinate fraction whose update should take `budget_bytes`."""
        ratio = budget_bytes / (self.bytes_per_weight * self.weights)
        fraction = float(max(LEAST_FRACTION, ratio ** (1 / EXPONENT)))
        return 1.0 if fraction >= ALL_FROM else fraction

    def learn(self, fraction: float, finest_bytes: int) -> None:
        """Note the bytes of an update at the finest step, of a phase that might change this share of the weights."""
        seen = finest_bytes / (self.weights * fraction**EXPONENT)
        if seen > 0:
            self.bytes_per_weight *= (seen / self.bytes_per_weight) ** SMOOTHING


@dataclass(frozen=True)
class RateControl:
    """Chooses the quantiser's step for a number of bytes; `finest` is the quantiser with the finest step."""

    finest: Quantiser = field(default_factory=Quantiser)

    def fit(
        self,
        start: IntVector,
        wanted: FloatVector,
        mask: Mask,
        layout: Layout,
        *,
        budget_bytes: int | None,
        size_of: Callable[[Delta], int],
    ) -> tuple[Delta, int]:
        """The change from `start` towards `wanted`, where `mask` is true, whose encoding has at most `budget_bytes`.

        And the bytes that it takes at the finest step. `size_of` gives the bytes of an encoded change; without a budget
        the finest step it is. The change is empty when not even the coarsest step fits. Raises ModelError when a wanted
        weight is NaN or infinite.
        """
        best = self.finest.quantise(start, wanted, mask, layout)
        finest_bytes = size_of(best)
        if budget_bytes is None or finest_bytes <= budget_bytes:
            return best, finest_bytes
        fine, coarse, best = 1.0, COARSEST, Delta.none()
        for _ in range(SEARCH_STEPS):
            middle = (fine * coarse) ** 0.5
            candidate = self.finest.coarser(middle).quantise(start, wanted, mask, layout)
            if size_of(candidate) <= budget_bytes:
                coarse, best = middle, candidate
            else:
                fine = middle
        return best, finest_bytes
