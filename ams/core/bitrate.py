"""Bitrate: how many bytes the next clip may have so that the uplink stays inside its budget.

A leaky bucket: the budget fills it, clips empty it, and at most `burst_s` seconds of budget can be saved up, so a
quiet minute cannot be followed by a flood. Pure: `now_s` is passed in, in stream time.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_S = 30.0
MIN_CLIP_BYTES = 2048
"""Below this a clip of even one frame is not worth sending; the next one pays for it."""


@dataclass
class BitrateBudget:
    """State of the bucket: `kbps` is the budget (1 kbit = 1000 bit), `level_bytes` what may be spent now."""

    kbps: float
    burst_s: float = BURST_S
    level_bytes: float = 0.0
    _last_s: float | None = None

    def grant_bytes(self, now_s: float, clip_s: float) -> int:
        """Bytes for a clip that covers the last `clip_s` seconds; never below `MIN_CLIP_BYTES`."""
        bytes_per_s = self.kbps * 125
        if self._last_s is None:
            self.level_bytes = clip_s * bytes_per_s
        else:
            self.level_bytes += (now_s - self._last_s) * bytes_per_s
        self._last_s = now_s
        self.level_bytes = min(self.level_bytes, max(self.burst_s, clip_s) * bytes_per_s)
        return max(MIN_CLIP_BYTES, int(self.level_bytes))

    def spend(self, clip_bytes: int) -> None:
        """Note what a clip really took; an overshoot is paid back by the next."""
        self.level_bytes -= clip_bytes
