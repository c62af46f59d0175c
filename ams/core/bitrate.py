"""Bitrate: how many bytes the next clip or update may have so that a link stays inside its budget.

A leaky bucket: the budget fills it, clips or updates empty it, and at most `burst_s` seconds of budget can be saved up,
so a quiet minute cannot be followed by a flood. Pure: `now_s` is passed in, in stream time.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_S = 30.0
MIN_CLIP_BYTES = 2048
"""Below this a clip of even one frame is not worth sending; the next one pays for it."""


@dataclass
class BitrateBudget:
    """State of the bucket: `kbps` is the budget (1 kbit = 1000 bit), `level_bytes` what may be spent now.

    Less than `least_bytes` is never granted: the next one pays for it.
    """

    kbps: float
    burst_s: float = BURST_S
    least_bytes: int = MIN_CLIP_BYTES
    level_bytes: float = 0.0
    _last_s: float | None = None

    def grant_bytes(self, now_s: float, covers_s: float) -> int:
        """Bytes for what covers the last `covers_s` seconds: a clip, or a phase's update."""
        bytes_per_s = self.kbps * 125
        if self._last_s is None:
            self.level_bytes = covers_s * bytes_per_s
        else:
            self.level_bytes += (now_s - self._last_s) * bytes_per_s
        self._last_s = now_s
        self.level_bytes = min(self.level_bytes, max(self.burst_s, covers_s) * bytes_per_s)
        return max(self.least_bytes, int(self.level_bytes))

    def spend(self, spent_bytes: int) -> None:
        """Note what it really took; an overshoot is paid back by the next."""
        self.level_bytes -= spent_bytes
