"""Sampling rate: how many frames a second the device should send, from how fast the scene changes.

The controller of the paper (section 3.2) with the constants of its released code: once a training phase
`r <- clip(r - 0.2 * tanh(20 * (phi - 0.6)), 0.1, 1.0)`, where phi is the mean phi-score of the frames new since the
last phase. A static scene has a high phi and is sampled less. Pure: no clock, phi is passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PHI_TARGET = 0.6
MAX_STEP_HZ = 0.2
GAIN = 20.0
MIN_HZ = 0.1
MAX_HZ = 1.0


@dataclass
class SamplingRate:
    """State of the controller; `hz` is the rate that the device is told."""

    hz: float = MAX_HZ
    min_hz: float = MIN_HZ
    max_hz: float = MAX_HZ

    def update(self, phi: float) -> float:
        """One step, once per training phase, with the mean phi-score of the new frames; returns the new rate.

        NaN (no pair of frames to compare) leaves the rate as it is.
        """
        if not math.isnan(phi):
            step_hz = MAX_STEP_HZ * math.tanh(GAIN * (phi - PHI_TARGET))
            self.hz = min(self.max_hz, max(self.min_hz, self.hz - step_hz))
        return self.hz
