"""Updates of one session: which weights the next phase may change, and what of its change is sent.

With the selection `auto`, the downlink's budget decides both: how many coordinates, gradient-guided, and how coarse
their change. With one of the paper's selections the coordinate fraction is fixed; a budget then only coarsens.

Where all weights are trained, part of what quantising lost is carried over: the next phase trains from the device's
weights plus that part. Where only some are, it is dropped; those that the next phase may not change could not be sent.
Knows no versions and no broker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ams.core.bitrate import BitrateBudget
from ams.core.delta import Delta
from ams.core.downlink import MIN_UPDATE_BYTES, CoordinateControl, RateControl
from ams.core.layout import IntVector, Layout
from ams.core.quantiser import Quantiser
from ams.core.selection import CoordinateSelection, FullSelection, GradientGuidedSelection, selection_named
from ams.learn.phase import PhaseResult
from services.trainer.config import TrainerSettings

AUTO = "auto"


@dataclass(frozen=True, eq=False)
class _Left:
    """What an update left undone, [P] in grid units, beside the weights `after` that it led to."""

    after: IntVector
    undone: IntVector


class UpdateControl:
    """`begin` a phase, train from its `origin`, `fit` its result, say what was `sent`; in this order."""

    def __init__(self, settings: TrainerSettings, layout: Layout, rng: np.random.Generator) -> None:
        self._layout = layout
        self._budget: BitrateBudget | None = None
        if settings.downlink_kbps:
            self._budget = BitrateBudget(settings.downlink_kbps, least_bytes=MIN_UPDATE_BYTES)
        self._control = CoordinateControl(layout.size)
        self._rate = RateControl(Quantiser(settings.step_rms, settings.dead_zone))
        self._fixed: CoordinateSelection | None = None
        if settings.selection != AUTO:
            sizes = tuple(parameter.size for parameter in layout.parameters)
            self._fixed = selection_named(
                settings.selection, fraction=settings.coordinate_fraction, sizes=sizes, rng=rng
            )
        self._granted: int | None = None
        self._carry = settings.carry
        self._left: _Left | None = None
        self._pending: _Left | None = None
        self.fraction = 1.0 if self._fixed is None else settings.coordinate_fraction

    def begin(self, now_s: float, interval_s: float) -> CoordinateSelection:
        """The selection of the phase at `now_s` (stream seconds); phases are `interval_s` apart."""
        if self._budget is not None:
            self._granted = self._budget.grant_bytes(now_s, interval_s)
        if self._fixed is not None:
            return self._fixed
        self.fraction = 1.0
        if self._budget is not None:
            # What the budget brings from phase to phase, not what was saved up: that is for the scene that changes.
            self.fraction = self._control.fraction_for(int(self._budget.kbps * 125 * interval_s))
        return FullSelection() if self.fraction >= 1 else GradientGuidedSelection(self.fraction)

    def origin(self, device: IntVector) -> IntVector:
        """Where the phase trains from, [P]: the device's weights, and part of what the last update left undone.

        What was left is good for one phase, and only while the device has what that update led to.
        """
        left, self._left = self._left, None
        if left is None or self.fraction < 1 or not np.array_equal(left.after, device):
            return device
        origin: IntVector = device + np.rint(self._carry * left.undone).astype(np.int32)
        return origin

    def fit(self, start: IntVector, wanted: PhaseResult, size_of: Callable[[Delta], int]) -> Delta:
        """What of a phase's change is to be sent; `size_of` gives the bytes of an encoded change.

        Raises ModelError when training left a weight that is not finite.
        """
        delta, finest_bytes = self._rate.fit(
            start, wanted.weights, wanted.mask, self._layout, budget_bytes=self._granted, size_of=size_of
        )
        self._control.learn(self.fraction, finest_bytes)
        self._pending = None
        if self._carry and self.fraction >= 1:
            after = delta.added_to(start).astype(np.int32, copy=False)
            self._pending = _Left(after, self._layout.to_grid(wanted.weights) - after)
        return delta

    def sent(self, update_bytes: int) -> None:
        """An update of so many bytes was published."""
        self._left, self._pending = self._pending, None
        if self._budget is not None:
            self._budget.spend(update_bytes)
