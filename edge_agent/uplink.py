"""The uplink: a WebSocket to the gateway that comes back whenever it breaks, and what is said on it.

Moves bytes between the socket and `ams.core.session.Connection`, clips from the spool to the server and patches
from the server to the model slot. Transfers, spool and slot outlive a connection, so whatever was cut goes on where
it stopped. Runs in the event loop; never in the way of inference.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

import ams
from ams.clock import ScaledClock
from ams.core.envelope import MAX_FRAME_BYTES
from ams.core.messages import (
    PROTOCOL,
    Ack,
    Error,
    Hello,
    Message,
    Nack,
    Notice,
    Patch,
    Rates,
    Stats,
    StreamHello,
    StreamWelcome,
    Welcome,
)
from ams.core.patch import FEATURE_RANS
from ams.core.session import Connection, Role
from ams.core.transfer import Inbox, Outbox
from ams.errors import HandshakeError, WireError
from edge_agent.backoff import Backoff
from edge_agent.clip_dispatch import ClipDispatch
from edge_agent.counters import Counters
from edge_agent.model_slot import ModelSlot
from edge_agent.patch_intake import PatchIntake
from edge_agent.spool import Spool

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
STATS_INTERVAL_S = 5.0
"""Stream seconds between two reports."""

STABLE_S = 5.0
"""A connection that was welcomed and held for so many real seconds makes the next wait short again."""

FRAME_SLACK_BYTES = 1024
"""So that a message slightly over the limit is refused by our own words, not by the socket's."""


@dataclass(frozen=True)
class Identity:
    """Who this agent is and where it reports."""

    server_url: str
    device: str
    token: str
    boot_id: str
    stream: str
    model_id: str
    codec: str
    patch_limit_bytes: int


class Uplink:
    """One device's connection. All methods run in the event loop's thread."""

    def __init__(
        self,
        identity: Identity,
        slot: ModelSlot,
        spool: Spool,
        counters: Counters,
        clock: ScaledClock,
        *,
        on_welcome: Callable[[StreamWelcome], None],
        on_rates: Callable[[Rates], None],
        report: Callable[[], Stats],
        backoff: Backoff | None = None,
    ) -> None:
        self._identity = identity
        self._slot = slot
        self._counters = counters
        self._clock = clock
        self._on_welcome = on_welcome
        self._on_rates = on_rates
        self._report = report
        self._backoff = backoff or Backoff()
        self._inbox = Inbox(identity.patch_limit_bytes)
        self._outbox = Outbox()
        self._connection: Connection | None = None
        self._welcomed_s = math.inf
        self._wake = asyncio.Event()
        self.clips = ClipDispatch(spool, self._outbox, counters, clock, wake=self._wake.set)
        self.patches = PatchIntake(slot, counters, stream=identity.stream, send=self._send_if_connected)

    @property
    def connected(self) -> bool:
        """True between Welcome and the end of a connection."""
        return self._connection is not None and self._connection.established

    async def run(self) -> None:
        """Stay connected until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.patches.run())
            group.create_task(self._stay_connected())

    def _send_if_connected(self, message: Message) -> None:
        """Say something that is only of interest now; Hello says the rest on the next connection."""
        if self._connection is not None and self._connection.established:
            self._connection.send(message)
            self._wake.set()

    # -- connecting --------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        url = self._identity.server_url
        while True:
            failure: Exception | None = None
            self._welcomed_s = math.inf
            try:
                await self._converse()
            except* (OSError, WebSocketException, WireError) as group:
                failure = _first(group)
            assert failure is not None
            if time.monotonic() - self._welcomed_s >= STABLE_S:
                self._backoff.reset()
            refused = isinstance(failure, (HandshakeError, InvalidStatus)) and not _is_passing(failure)
            wait_s = self._backoff.next_s(refused=refused)
            if isinstance(failure, HandshakeError):
                log.error("gateway at %s refuses this device (%s): %s; still inferring, next try in %.1f s",
                          url, failure.code, failure, wait_s)  # fmt: skip
            else:
                reason = _say(failure)
                log.warning("gateway not reachable at %s: %s; still inferring, next try in %.1f s", url, reason, wait_s)
            await asyncio.sleep(wait_s)

    async def _converse(self) -> None:
        """One connection from its opening to its end, which is always an exception."""
        async with connect(
            self._identity.server_url,
            compression=None,
            max_size=MAX_FRAME_BYTES + FRAME_SLACK_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
        ) as socket:
            connection = Connection(Role.DEVICE, self._inbox, self._outbox, now_s=time.monotonic())
            connection.send(self._hello())
            self._connection = connection
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._receive(socket, connection))
                    group.create_task(self._transmit(socket, connection))
                    group.create_task(self._watch(connection))
                    group.create_task(self._send_stats())
            finally:
                self._connection = None
                self.clips.connection_lost()

    def _hello(self) -> Hello:
        identity, running = self._identity, self._slot.current
        return Hello(
            agent=f"ams-edge/{ams.__version__}",
            device=identity.device,
            token=identity.token,
            boot_id=identity.boot_id,
            sent_ns=self._clock.now_ns(),
            features=(FEATURE_RANS,),
            streams=(
                StreamHello(
                    name=identity.stream,
                    model_id=identity.model_id,
                    version=running.version,
                    digest=running.digest.hex(),
                    codecs=(identity.codec,),
                ),
            ),
            partial=self._inbox.progress(),
        )

    # -- moving bytes ------------------------------------------------------------------------------------------

    async def _receive(self, socket: ClientConnection, connection: Connection) -> None:
        async for data in socket:
            if isinstance(data, str):
                raise WireError("a text message came; AMS messages are binary, so this is not an AMS gateway")
            self._counters.bytes_down += len(data)
            for event in connection.receive(data, time.monotonic()):
                self._hear(connection, event.message, event.payload)
            self._wake.set()
        raise WireError("the gateway closed the connection")

    async def _transmit(self, socket: ClientConnection, connection: Connection) -> None:
        while True:
            self._wake.clear()
            now_s = time.monotonic()
            if connection.established:
                self.clips.feed(connection, now_s)
            connection.keep_alive(now_s)
            while (data := connection.data_to_send(time.monotonic())) is not None:
                try:
                    await socket.send(data)
                except ConnectionClosed:
                    return  # what came before the end says why; the receiver reads it and ends the connection
                self._counters.bytes_up += len(data)
            now_s = time.monotonic()
            wait_s = min(connection.heartbeat_due_s() - now_s, self.clips.due_in_s(now_s))
            # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes together with the event, and a
            # connection whose end and last message come together would then never end.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.01, wait_s)):
                    await self._wake.wait()

    async def _watch(self, connection: Connection) -> None:
        """End a connection on which nothing comes any more."""
        while True:
            left_s = connection.deadline_s() - time.monotonic()
            if left_s <= 0:
                raise WireError("nothing came from the gateway for three heartbeats")
            await asyncio.sleep(min(left_s, connection.heartbeat_s))

    async def _send_stats(self) -> None:
        while True:
            await self._clock.sleep(STATS_INTERVAL_S)
            if self.connected:
                self._send_if_connected(self._report())

    # -- what the server says ----------------------------------------------------------------------------------

    def _hear(self, connection: Connection, message: Message, payload: bytes) -> None:
        stream = getattr(message, "stream", None)
        if stream not in (None, self._identity.stream) and not isinstance(message, Notice):
            connection.send(Notice(code="unknown_stream", text=f"there is no stream {stream!r} here", stream=stream))
            return
        match message:
            case Welcome():
                self._welcomed(message)
            case Rates():
                self._on_rates(message)
            case Patch():
                self.patches.take(message, payload)
            case Ack(of="clip", clip_id=str(clip_id)):
                self.clips.acknowledged(clip_id)
            case Nack():
                self.clips.not_taken(message, time.monotonic())
            case Notice():
                log.info("gateway: %s (%s)", message.text, message.code)
            case Error():
                if message.retry:
                    raise WireError(f"{message.text} ({message.code})")
                raise HandshakeError(message.code, message.text)
            case _:
                connection.send(Notice(code="unexpected", text=f"a {message.type} is of no use to a device"))

    def _welcomed(self, welcome: Welcome) -> None:
        ours = next((s for s in welcome.streams if s.name == self._identity.stream), None)
        if ours is None or welcome.protocol != PROTOCOL:
            raise HandshakeError(
                "welcome",
                f"expected stream {self._identity.stream!r} on protocol {PROTOCOL}, the gateway welcomes "
                f"{', '.join(s.name for s in welcome.streams) or 'no stream'} on protocol {welcome.protocol}",
            )
        self._welcomed_s = time.monotonic()
        self.clips.welcomed(self._welcomed_s)
        log.info("connected to %s as session %s", self._identity.server_url, ours.session)
        self._on_welcome(ours)
        self._on_rates(ours.rates)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first real cause inside nested exception groups."""
    failure: BaseException = group
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    assert isinstance(failure, Exception)
    return failure


def _is_passing(failure: Exception) -> bool:
    """Whether an HTTP refusal may pass by itself: the server's own trouble, or too many requests."""
    if not isinstance(failure, InvalidStatus):
        return False
    status = failure.response.status_code
    return status >= 500 or status in (408, 425, 429)


def _say(failure: Exception) -> str:
    if isinstance(failure, InvalidStatus):
        return f"HTTP status {failure.response.status_code} instead of a WebSocket; check the path and the proxy"
    return str(failure) or type(failure).__name__
