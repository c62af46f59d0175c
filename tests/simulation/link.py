"""A WebSocket without a socket: ordered and reliable until it is cut, slow as it likes, and sometimes silent for ever.

`Pipe` is one direction, `Link` both, `AgentSocket` and `GatewaySocket` the ends as the agent's `websockets` client and
the gateway's `Socket` know them. What is cut loses what is under way, between messages. Belongs to the world: a
paused process does not hold up the network, only its own reading.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close

from tests.simulation.loop import VirtualLoop

BUFFER_BYTES = 128 * 1024
"""What lies between the two applications before a sender has to wait."""


@dataclass
class Weather:
    """How the network of one device is now."""

    latency_s: float = 0.02
    bytes_per_s: float = 1e6
    stalled_until_s: float = 0.0
    online: bool = True
    hangs: bool = False


@dataclass(frozen=True)
class _Closing:
    code: int


class Pipe:
    """One direction."""

    def __init__(self, loop: VirtualLoop, weather: Weather, rng: random.Random) -> None:
        self._loop = loop
        self._weather = weather
        self._rng = rng
        self._flying: deque[tuple[float, bytes | _Closing]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._sent_until_s = 0.0
        self._arrived: deque[bytes | _Closing] = deque()
        self._bytes = 0
        self._readers: list[asyncio.Future[None]] = []
        self._writers: list[asyncio.Future[None]] = []
        self.silent = False
        self.gone = False  # nothing can be sent any more

    def push(self, item: bytes | _Closing) -> None:
        """Put something on its way."""
        if self.silent:
            self._bytes += len(item) if isinstance(item, bytes) else 0
            return
        now_s, size = self._loop.now_s, len(item) if isinstance(item, bytes) else 8
        self._bytes += size if isinstance(item, bytes) else 0
        self._sent_until_s = max(self._sent_until_s, now_s) + size / self._weather.bytes_per_s
        arrives_s = self._sent_until_s + self._weather.latency_s * self._rng.uniform(0.5, 1.5)
        if self._flying:
            arrives_s = max(arrives_s, self._flying[-1][0])
        self._flying.append((arrives_s, item))
        self._schedule()

    async def room(self) -> None:
        """Wait while too much lies between sender and reader."""
        while self._bytes > BUFFER_BYTES and not self.gone:
            future = self._loop.create_future()
            self._writers.append(future)
            await future

    async def pull(self) -> bytes | _Closing:
        """The next thing that arrived."""
        while not self._arrived:
            future = self._loop.create_future()
            self._readers.append(future)
            await future
        item = self._arrived.popleft()
        if isinstance(item, bytes):
            self._bytes -= len(item)
            self._wake(self._writers)
        return item

    def fall_silent(self) -> None:
        """From now on nothing arrives."""
        self.silent = True
        self._flying.clear()

    def break_off(self, code: int = 1006) -> None:
        """The reader learns that the connection is gone; what was under way is lost."""
        self.fall_silent()
        self._arrived.append(_Closing(code))
        self._wake(self._readers)

    def refuse(self) -> None:
        """The writer learns that the connection is gone."""
        self.gone = True
        self._wake(self._writers)

    def _schedule(self) -> None:
        if self._timer is None and self._flying:
            due_s = max(self._flying[0][0], self._weather.stalled_until_s)
            self._timer = self._loop.at(due_s, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        if self._loop.now_s >= self._weather.stalled_until_s:
            while self._flying and self._flying[0][0] <= self._loop.now_s:
                self._arrived.append(self._flying.popleft()[1])
            self._wake(self._readers)
        self._schedule()

    @staticmethod
    def _wake(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)
        futures.clear()


class Link:
    """One connection between an agent and a gateway. `tap` sees, and may change, every message put on its way."""

    def __init__(
        self,
        loop: VirtualLoop,
        weather: Weather,
        rng: random.Random,
        tap: Callable[[str, str, bytes], bytes],
        device: str,
    ) -> None:
        self.device = device
        self.up, self.down = Pipe(loop, weather, rng), Pipe(loop, weather, rng)
        self._loop = loop
        self._tap = tap
        self._rng = rng
        self.over = False

    def inject(self, way: str, data: bytes) -> None:
        """A message that the peer itself would not have sent now."""
        (self.up if way == "up" else self.down).push(data)

    async def send(self, way: str, data: bytes) -> None:
        """Send; raises ConnectionResetError when the connection is known to be gone."""
        pipe = self.up if way == "up" else self.down
        if pipe.gone:
            raise ConnectionResetError("the connection is gone")
        pipe.push(self._tap(self.device, way, data))
        await pipe.room()
        if pipe.gone:
            raise ConnectionResetError("the connection is gone")

    def close(self, way: str, code: int) -> None:
        """One side closes, in order behind what it has sent."""
        pipe = self.up if way == "up" else self.down
        if not pipe.gone:
            pipe.push(_Closing(code))
            pipe.refuse()

    def cut(self, *, agent_notices: bool = True, gateway_notices: bool = True) -> None:
        """Cut the line; each side notices after a moment, or never."""
        self.over = True
        self.up.fall_silent()
        self.down.fall_silent()
        for notices, reads, writes in ((agent_notices, self.down, self.up), (gateway_notices, self.up, self.down)):
            if notices:
                delay_s = self._rng.choice((0.001, 0.05, 1.0))
                self._loop.at(self._loop.now_s + delay_s, self._notice, reads, writes)

    @staticmethod
    def _notice(reads: Pipe, writes: Pipe) -> None:
        reads.break_off()
        writes.refuse()


class AgentSocket:
    """The agent's end, as `websockets.asyncio.client.connect` gives it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def send(self, data: bytes) -> None:
        """Send a binary message."""
        try:
            await self._link.send("up", data)
        except ConnectionResetError:
            raise ConnectionClosedError(None, None) from None

    def __aiter__(self) -> AgentSocket:
        return self

    async def __anext__(self) -> bytes:
        item = await self._link.down.pull()
        if isinstance(item, bytes):
            return item
        self._link.down._arrived.append(item)  # whoever reads again hears it again
        self._link.close("up", 1000)
        if item.code in (1000, 1001):
            raise StopAsyncIteration from ConnectionClosedOK(Close(item.code, ""), None)
        raise ConnectionClosedError(None if item.code == 1006 else Close(item.code, ""), None)

    async def close(self) -> None:
        """Leave."""
        self._link.close("up", 1000)


class GatewaySocket:
    """The gateway's end, as `services.gateway.app` gives it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def receive(self) -> bytes | str | None:
        """The next message, or None when the peer is gone."""
        item = await self._link.up.pull()
        if isinstance(item, bytes):
            return item
        self._link.up._arrived.append(item)
        self._link.close("down", 1000)
        return None

    async def send(self, data: bytes) -> None:
        """Send a binary message."""
        await self._link.send("down", data)

    async def close(self, code: int) -> None:
        """Close."""
        self._link.close("down", code)
