"""One device's connection, from the first byte to the close: moves bytes, and knows nobody else's.

Three tasks: `run` waits for the end, one reads and answers the device, one attends to the broker, to heartbeats and
to deadlines. Reading stops while an answer cannot be sent or a clip is being admitted, so a device can neither fill
our memory nor outrun the broker. The order of messages, parts and deadlines is `ams.core.session`'s; the sessions on
the broker are `stream`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from ams.core.envelope import MAX_FRAME_BYTES, encode
from ams.core.messages import Ack, Clip, Error, Hello, Message, Nack, Notice, Refused, Stats, Welcome
from ams.core.session import MISSED_HEARTBEATS, SLOWEST_LINK_BYTES_PER_S, Connection, Received, Role
from ams.core.transfer import Outbox
from ams.errors import BrokerError, BrokerUnavailableError, HandshakeError, WireError
from ams.ports import QueuedClip
from services.gateway.ending import (
    BROKER_AWAY,
    GONE,
    HELLO_TIMEOUT,
    REPLACED,
    SILENT,
    TOKEN,
    ConnectionOverError,
    Ending,
    malformed,
    refusal,
)
from services.gateway.handshake import SERVER, authenticate, read_hello
from services.gateway.metrics import TRANSPORT
from services.gateway.registry import DeviceMemory
from services.gateway.shared import Shared
from services.gateway.stream import DeviceStream

log = logging.getLogger(__name__)

GOODBYE_S = 2.0
"""Deadline of the last message, the close and the last note to the broker."""

RETRY_S = 1.0
"""Pause before a connection turns to a broker again that was away."""

TOKEN_CHECK_S = 30.0
"""How often a connected device's token is looked up again, so that revoking a device ends its connection."""


class Socket(Protocol):
    """A WebSocket, accepted."""

    async def receive(self) -> bytes | str | None:
        """The next message, or None when the peer is gone."""
        ...

    async def send(self, data: bytes) -> None:
        """Send a binary message, waiting while too much is buffered. Raises ConnectionError when the peer is gone."""
        ...

    async def close(self, code: int) -> None:
        """Close with a code; closing what is closed changes nothing."""
        ...


async def say_goodbye(socket: Socket, ending: Ending) -> None:
    """The last message and the close; a peer that does not take them in time is left alone."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(GOODBYE_S):
            if ending.message is not None:
                await socket.send(encode(ending.message))
            await socket.close(ending.close_code)


class DeviceConnection:
    """A device that has opened a WebSocket. `run` returns when it is over."""

    def __init__(self, socket: Socket, shared: Shared) -> None:
        self._socket = socket
        self._shared = shared
        self._settings = shared.settings
        self._metrics = shared.metrics
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._wake = asyncio.Event()
        self._sending = asyncio.Lock()
        self._streams: dict[str, DeviceStream] = {}
        self._due: set[str] = set()
        self._retry_s = 0.0
        self._listening_since_s: float | None = None
        self._device = ""
        # Set by the handshake, before anything uses them:
        self._memory: DeviceMemory
        self._connection: Connection
        self._token_hash: str
        self._token_checked_s: float

    async def run(self) -> None:
        """Serve the device until it goes, breaks the protocol, or somebody calls `end`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._until_over(lambda: self._converse(tasks)))
                ending = await self._ended
                raise _StopTasksError
        except* _StopTasksError:
            pass
        finally:
            self._shared.devices.leave(self._device, self)
        if not self._streams:
            self._metrics.handshakes.labels(ending.result).inc()
        await say_goodbye(self._socket, ending)
        log.info("%s: connection ended (%s)", self._device or "unknown device", ending.result)
        await self._note_disconnected()

    def end(self, ending: Ending) -> None:
        """Bring the connection to its end; the first reason given is the one that counts."""
        if not self._ended.done():
            self._ended.set_result(ending)

    def replaced(self) -> None:
        """Another connection of the same device has come."""
        self.end(REPLACED)

    def ring(self, sid: str) -> None:
        """There may be news for this session on the broker."""
        self._due.add(sid)
        self._wake.set()

    async def _until_over(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one of the connection's tasks; whatever it raises on purpose ends the connection."""
        try:
            await work()
        except ConnectionOverError as over:
            self.end(over.ending)
        except HandshakeError as error:
            self.end(refusal(error.code, str(error)))
        except WireError as error:
            self.end(malformed(str(error)))
        except ConnectionError:
            self.end(GONE)

    # -- the handshake -----------------------------------------------------------------------------------------

    async def _converse(self, tasks: asyncio.TaskGroup) -> None:
        try:
            async with asyncio.timeout(self._settings.hello_timeout_s):
                first = await self._receive()
        except TimeoutError as error:
            raise ConnectionOverError(HELLO_TIMEOUT) from error
        hello = read_hello(first)
        try:
            await self._greet(hello, first)
        except BrokerError as error:
            self._broker_failed(error)
            raise ConnectionOverError(BROKER_AWAY) from error
        tasks.create_task(self._until_over(self._attend_until_over))
        await self._read()

    async def _greet(self, hello: Hello, first: bytes) -> None:
        async with self._shared.turns:
            self._token_hash = await authenticate(self._shared, hello)
        self._token_checked_s = time.monotonic()
        memory = await self._shared.devices.enter(hello.device, self)
        self._memory, self._device = memory, hello.device
        self._connection = Connection(
            Role.SERVER, memory.inbox, Outbox(), now_s=time.monotonic(), heartbeat_s=self._settings.heartbeat_s
        )
        self._connection.receive(first, time.monotonic())
        streams = {s.name: DeviceStream(self._shared, hello, s, self._send) for s in hello.streams}
        async with self._shared.turns:
            welcomes = [await stream.announce() for stream in streams.values()]
        self._send(
            Welcome(
                server=SERVER,
                heartbeat_s=self._settings.heartbeat_s,
                streams=tuple(welcomes),
                partial=memory.inbox.progress(),
            )
        )
        self._streams = streams
        self._due.update(stream.sid for stream in streams.values())
        self._metrics.handshakes.labels("ok").inc()
        log.info("%s: connected with %d streams, %s", hello.device, len(streams), hello.agent or "no agent named")

    # -- from the device ---------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            data = await self._receive()
            received = self._connection.receive(data, time.monotonic())
            if not received:
                self._metrics.messages.labels("up", TRANSPORT).inc()
            for event in received:
                self._metrics.messages.labels("up", event.message.type).inc()
                await self._hear(event)
            await self._flush()

    async def _receive(self) -> bytes:
        self._listening_since_s = time.monotonic()
        data = await self._socket.receive()
        self._listening_since_s = None
        if data is None:
            raise ConnectionOverError(GONE)
        if isinstance(data, str):
            raise ConnectionOverError(malformed("a text message came; AMS messages are binary"))
        self._metrics.bytes_up.inc(len(data))
        return data

    async def _hear(self, received: Received) -> None:
        message = received.message
        stream = self._streams.get(getattr(message, "stream", None) or "")
        match message:
            case Clip():
                self._send(await self._answer_to(message, received.payload, stream))
            case Notice():
                log.info("%s: device says: %s (%s)", self._device, message.text, message.code)
            case Error():
                log.warning("%s: device gives up: %s (%s)", self._device, message.text, message.code)
                raise ConnectionOverError(GONE)
            case Ack(of="patch") | Refused() | Stats() if stream is None:
                text = f"stream {message.stream!r} is not in this connection's Hello; the {message.type} was skipped"
                self._send(Notice(code="unknown_stream", text=text))
            case Ack(of="patch") if stream is not None:
                stream.applied(message)
                self.ring(stream.sid)
            case Refused() if stream is not None:
                stream.refused(message)
                self.ring(stream.sid)
            case Stats() if stream is not None:
                stream.stats(message)
                self._wake.set()
            case _:
                text = f"a {message.type} is of no use to a gateway and was skipped"
                self._send(Notice(code="unexpected", text=text))

    async def _answer_to(self, clip: Clip, payload: bytes, stream: DeviceStream | None) -> Ack | Nack:
        """Admit a clip or say why not. Without `retry_after_s` the device is not to send it again."""

        def nack(code: str, text: str, retry_after_s: float | None = None) -> Nack:
            self._metrics.clips.labels(code).inc()
            return Nack(stream=clip.stream, clip_id=clip.clip_id, code=code, text=text, retry_after_s=retry_after_s)

        limit = self._settings.max_clip_bytes
        if stream is None:
            return nack("unknown_stream", f"stream {clip.stream!r} is not in this connection's Hello")
        if clip.model_id != stream.model_id:
            return nack("model", "the clip names another model than Hello did; connect again after changing the model")
        if len(payload) > limit:
            return nack("too_large", f"the clip has {len(payload)} bytes, Welcome allows {limit}; lower its bitrate")
        ack = Ack(stream=clip.stream, of="clip", clip_id=clip.clip_id)
        if self._memory.has_admitted(stream.sid, clip.clip_id):
            self._metrics.clips.labels("repeated").inc()
            return ack
        now_s = time.monotonic()
        wait_s = stream.order.wait_s(clip, now_s)
        if wait_s is not None:
            text = "an older clip of this stream was told to come back; it comes first"
            return nack("order", text, stream.order.come_back(clip, wait_s, now_s, behind=True))
        queued = QueuedClip(stream.sid, clip.clip_id, clip.model_dump_json().encode(), payload)
        try:
            admitted = await self._shared.clips.admit(queued, credit=self._settings.credit)
        except BrokerError as error:
            self._broker_failed(error)
            text = "the gateway cannot reach its broker now; keep the clip"
            back_s = stream.order.come_back(clip, self._settings.broker_retry_s, time.monotonic())
            return nack("broker_unavailable", text, back_s)
        if not admitted:
            text = f"{self._settings.credit} clips of this stream wait for the teacher, or its queue is full"
            return nack("credit", text, stream.order.come_back(clip, self._settings.credit_retry_s, time.monotonic()))
        stream.order.admitted(clip)
        self._memory.admitted(stream.sid, clip.clip_id)
        self._metrics.clips.labels("admitted").inc()
        return ack

    # -- to the device -----------------------------------------------------------------------------------------

    def _send(self, message: Message, payload: bytes = b"") -> None:
        """Queue a message; whoever calls this flushes soon."""
        self._connection.send(message, payload)
        self._metrics.messages.labels("down", message.type).inc()

    async def _flush(self) -> None:
        """Send what may be sent. Raises ConnectionOverError when the link does not take it at any bearable rate."""
        async with self._sending:
            while (data := self._connection.data_to_send(time.monotonic())) is not None:
                patience_s = MISSED_HEARTBEATS * self._settings.heartbeat_s + MAX_FRAME_BYTES / SLOWEST_LINK_BYTES_PER_S
                try:
                    async with asyncio.timeout(patience_s):
                        await self._socket.send(data)
                except TimeoutError as error:
                    raise ConnectionOverError(SILENT) from error
                self._metrics.bytes_down.inc(len(data))

    # -- the broker, heartbeats and deadlines ------------------------------------------------------------------

    async def _attend_until_over(self) -> None:
        look_s = time.monotonic()
        while True:
            self._wake.clear()
            now_s = time.monotonic()
            if now_s >= self._deadline_s():
                raise ConnectionOverError(SILENT)
            self._connection.keep_alive(now_s)
            if now_s >= look_s:
                self._due.update(stream.sid for stream in self._streams.values())
                look_s = now_s + self._shared.sweep_interval_s()
            if now_s >= self._retry_s:
                await self._attend()
            await self._flush()
            until_s = min(self._connection.heartbeat_due_s(), self._deadline_s(), look_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.01, until_s - time.monotonic())):
                    await self._wake.wait()

    def _deadline_s(self) -> float:
        """When the device is to be taken for dead. While we do not listen, its silence is our own doing."""
        if self._listening_since_s is None:
            return float("inf")
        return max(self._connection.deadline_s(), self._listening_since_s + self._settings.heartbeat_s)

    async def _attend(self) -> None:
        """Tell the broker what is new, and look what it has for the streams that are due."""
        due, self._due = self._due, set()
        if not due and not any(stream.has_post for stream in self._streams.values()):
            return
        try:
            async with self._shared.turns:
                await self._check_token()
                for stream in self._streams.values():
                    if stream.sid in due or stream.has_post:
                        await stream.attend(look=stream.sid in due)
                        due.discard(stream.sid)
        except BrokerError as error:
            self._broker_failed(error)
            self._due |= due
            self._retry_s = time.monotonic() + RETRY_S

    async def _check_token(self) -> None:
        if time.monotonic() - self._token_checked_s < TOKEN_CHECK_S:
            return
        stored = await self._shared.broker.devices.token_hash(self._device)
        self._token_checked_s = time.monotonic()
        forgotten = stored is None and any(stream.broker_forgot for stream in self._streams.values())
        if stored != self._token_hash and not forgotten:
            raise ConnectionOverError(TOKEN)

    async def _note_disconnected(self) -> None:
        with contextlib.suppress(TimeoutError, BrokerError):
            async with asyncio.timeout(GOODBYE_S), self._shared.turns:
                for stream in self._streams.values():
                    if self._device not in self._shared.devices:
                        await stream.disconnected()

    def _broker_failed(self, error: BrokerError) -> None:
        self._metrics.broker_errors.inc()
        # That the broker is away is the process's news; a broker that refuses is not expected by anybody.
        level = logging.DEBUG if isinstance(error, BrokerUnavailableError) else logging.ERROR
        log.log(level, "%s: broker failed: %s", self._device, error)


class _StopTasksError(Exception):
    """Makes a task group cancel its tasks."""
