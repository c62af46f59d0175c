"""What the in-memory ports share: the time, being away, and waking whoever waits.

A test can make the broker go away and come back, empty or not, as a real server does. Every operation gives the
event loop a turn, as a network would. One event loop at a time may use a memory broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ams.errors import BrokerUnavailableError


class MemoryConnection:
    """BrokerConnection to a broker within this process. `now` gives Unix seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._away = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._clearing: list[Callable[[], None]] = []

    def clears_with(self, clear: Callable[[], None]) -> None:
        """Have `clear` called when the broker comes back empty."""
        self._clearing.append(clear)

    def go_away(self) -> None:
        """From now on everything raises BrokerUnavailableError."""
        self._away = True
        self.wake()

    def come_back(self, *, empty: bool = False) -> None:
        """Answer again, with what was there or with nothing."""
        self._away = False
        if empty:
            for clear in self._clearing:
                clear()

    async def reach(self) -> None:
        """Begin an operation. Raises BrokerUnavailableError while away."""
        await asyncio.sleep(0)
        if self._away:
            raise BrokerUnavailableError("the memory broker was told to be away: call come_back() on its connection")

    def wake(self) -> None:
        """Something was written: whoever waits looks again."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait_until(self, deadline_s: float) -> bool:
        """Wait for `wake`, at most until this time of the event loop; False when nothing is left to wait for."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline_s:
            return False
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout_at(deadline_s):
                await future
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(future)
        return True

    async def ping(self) -> None:
        """Raises BrokerUnavailableError while away."""
        await self.reach()

    async def close(self) -> None:
        """Nothing to give back."""
