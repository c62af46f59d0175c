"""Stream time: the wall clock's monotonic seconds, scaled.

At `speed` 0.25 a stream second takes four real ones: cameras, controllers, intervals and rates all slow down
together, so a slow machine can run what a fast one would. Network and broker deadlines stay in real seconds.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class ScaledClock:
    """The real clock of `ams.ports.Clock`; all processes of one machine read the same time from it."""

    speed: float = 1.0

    def now_s(self) -> float:
        """Stream seconds since the machine's start."""
        return time.monotonic() * self.speed

    def now_ns(self) -> int:
        """The same in whole nanoseconds."""
        return int(time.monotonic_ns() * self.speed)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many stream seconds."""
        await asyncio.sleep(seconds / self.speed)
