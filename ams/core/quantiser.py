"""The quantiser: which multiples of which step become the patch, given what a training phase wants.

Every changed weight moves by a multiple of a power-of-two step of its tensor; what rounds to zero is not sent.
The trainer goes on from the quantised weights, so the quantiser is inside the loop and its error is simply
dropped. The step is given relative to the root mean square of the tensor's wanted changes, and so coarse that most
changes round to zero: quantising is itself a selection. The lab log has the trials. Knows no bytes and no versions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ams.core.delta import Delta
from ams.core.grid import LIMIT
from ams.core.layout import FloatVector, IntVector, Layout
from ams.core.patch import MAX_STEP
from ams.errors import ModelError


@dataclass(frozen=True)
class Quantiser:
    """`step_rms`: step as a multiple of the RMS change of a tensor, rounded to a power of two grid units; 0 is exact.

    `dead_zone`: share of a step below which a change is not sent; above 0.5 fewer weights move, each of them by a whole
    step.
    """

    step_rms: float = 2.0
    dead_zone: float = 0.5

    def coarser(self, times: float) -> Quantiser:
        """The same with so many times the step."""
        return replace(self, step_rms=self.step_rms * times)

    def quantise(self, start: IntVector, wanted: FloatVector, mask: npt.NDArray[np.bool_], layout: Layout) -> Delta:
        """The change from `start` towards the float weights `wanted`, only where `mask` is true. All are [P].

        Raises ModelError when a wanted weight is NaN or infinite.
        """
        result = start.astype(np.int64)
        for slot in layout.slots:
            chosen = mask[slot.start : slot.stop]
            if not chosen.any():
                continue
            before = start[slot.start : slot.stop][chosen].astype(np.float64)
            target = np.ldexp(wanted[slot.start : slot.stop][chosen].astype(np.float64), -slot.parameter.exponent)
            change = target - before
            rms = math.sqrt(float(np.mean(np.square(change))))
            if rms == 0.0:
                continue
            if not math.isfinite(rms):
                raise ModelError(f"training left tensor {slot.parameter.name!r} without finite weights; undo the phase")
            exponent = max(0, min(MAX_STEP, round(math.log2(rms * self.step_rms)))) if self.step_rms else 0
            step = 1 << exponent
            multiple = self._rounded(change / step)
            # Near the end of the grid a weight stops at the last multiple that still fits.
            highest = np.floor((LIMIT - 1 - before) / step)
            lowest = np.ceil((-(LIMIT - 1) - before) / step)
            view = result[slot.start : slot.stop]
            view[chosen] += (np.clip(multiple, lowest, highest) * step).astype(np.int64)
        return Delta.between(start, result.astype(np.int32))

    def _rounded(self, steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The nearest whole numbers of steps; zero inside the dead zone, and one step right beyond it."""
        if not self.step_rms:
            return np.rint(steps)
        size = np.abs(steps)
        return np.where(size < self.dead_zone, 0.0, np.maximum(1.0, np.rint(size))) * np.sign(steps)
