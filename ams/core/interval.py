"""Training interval: how long between two phases, longer while the scene stands still.

The adaptive training rate of the paper's released code (appendix on ATR): while the mean of the last five
sampling rates is below 0.25 fps the interval grows by 2 s a phase, up to six times its base; above 0.35 fps it
falls back to the base. Between the two it keeps its mode (hysteresis). Pure: no clock of its own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SLOW_BELOW_HZ = 0.25
FAST_ABOVE_HZ = 0.35
HISTORY = 5
GROWTH_S = 2.0
MAX_FACTOR = 6.0
BASE_S = 10.0


@dataclass
class TrainingInterval:
    """State of the controller; `interval_s` is T_update in stream seconds."""

    base_s: float = BASE_S
    interval_s: float = field(init=False)
    slowed: bool = field(init=False, default=False)
    _rates_hz: deque[float] = field(init=False, default_factory=lambda: deque(maxlen=HISTORY))

    def __post_init__(self) -> None:
        self.interval_s = self.base_s

    def update(self, sampling_hz: float) -> float:
        """One step, once per training phase, with the current sampling rate; returns the new interval."""
        self._rates_hz.append(sampling_hz)
        mean_hz = sum(self._rates_hz) / len(self._rates_hz)
        if len(self._rates_hz) == HISTORY and mean_hz < SLOW_BELOW_HZ:
            self.slowed = True
        elif mean_hz > FAST_ABOVE_HZ:
            self.slowed = False
        if self.slowed:
            self.interval_s = min(self.interval_s + GROWTH_S, MAX_FACTOR * self.base_s)
        else:
            self.interval_s = self.base_s
        return self.interval_s

    def due(self, now_s: float, last_start_s: float | None) -> bool:
        """Whether the next phase may start at `now_s`."""
        return last_start_s is None or now_s - last_start_s >= self.interval_s
