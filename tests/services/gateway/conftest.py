"""A gateway on a real socket with a memory broker in the same process, and a device that speaks the protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ams.broker.memory import new_memory
from ams.broker.memory_connection import MemoryConnection
from ams.core.messages import AnyMessage, Clip, FrameStamp, Hello, Message, Progress, StreamHello, Welcome
from ams.core.session import Connection, Received, Role
from ams.core.transfer import Inbox, Outbox
from ams.ports import Broker, PatchEntry, UpstreamEvent
from services.gateway.app import create_app
from services.gateway.config import GatewaySettings
from services.gateway.metrics import GatewayMetrics
from services.gateway.server import GatewayServer, listen
from services.gateway.service import GatewayService

DEVICE, TOKEN, TEACHER = "cam", "a token", "t" * 64
SID = f"{DEVICE}/cam0"
MODEL = "a" * 64
DIGEST0 = "0" * 64
DEADLINE_S = 5.0

M = TypeVar("M", bound=AnyMessage)


def digest_of(version: int) -> str:
    return f"{version:064x}"


def entry(base: int, version: int, patch: bytes = b"patch", *, fence: int = 1) -> PatchEntry:
    return PatchEntry("patch" if base else "keyframe", fence, base, version, digest_of(version), patch)


def clip(number: int = 1, *, stream: str = "cam0", model_id: str = MODEL) -> Clip:
    """Clip `number`, captured at second `number`."""
    return Clip(
        stream=stream, clip_id=f"{number:032x}", model_id=model_id, width=64, height=32, boot_id="boot", sent_ns=9,
        frames=(FrameStamp(seq=number, t_ns=number * 10**9, version=0),),
    )  # fmt: skip


def hello(*streams: StreamHello, **changes: object) -> Hello:
    held = streams or (StreamHello(name="cam0", model_id=MODEL, digest=DIGEST0),)
    fields = {"device": DEVICE, "token": TOKEN, "boot_id": "boot", "sent_ns": 1, "agent": "test/1", "streams": held}
    return Hello.model_validate(fields | changes)


def running(version: int) -> StreamHello:
    return StreamHello(name="cam0", model_id=MODEL, version=version, digest=digest_of(version))


@dataclass
class Device:
    """The other end of a gateway's socket."""

    socket: ClientConnection
    connection: Connection
    heard: list[Received] = field(default_factory=list)

    async def say(self, message: Message, payload: bytes = b"") -> None:
        self.connection.send(message, payload)
        await self.flush()

    async def flush(self) -> None:
        while (data := self.connection.data_to_send(time.monotonic())) is not None:
            await self.socket.send(data)

    async def receive(self) -> list[Received]:
        """One WebSocket message; raises ConnectionClosed at the end."""
        async with asyncio.timeout(DEADLINE_S):
            data = await self.socket.recv()
        assert isinstance(data, bytes)
        received = self.connection.receive(data, time.monotonic())
        await self.flush()
        return received

    async def hear(self, kind: type[M]) -> tuple[M, bytes]:
        """The next message of this kind; others that come before it are kept in `heard`."""
        while True:
            for received in await self.receive():
                if isinstance(received.message, kind):
                    return received.message, received.payload
                self.heard.append(received)


@dataclass
class Gateway:
    """A gateway that serves."""

    port: int
    broker: Broker
    service: GatewayService
    metrics: GatewayMetrics
    server: GatewayServer

    @property
    def away(self) -> MemoryConnection:
        assert isinstance(self.broker.connection, MemoryConnection)
        return self.broker.connection

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @asynccontextmanager
    async def device(
        self, greeting: Hello | None = None, *, inbox: Inbox | None = None, outbox: Outbox | None = None
    ) -> AsyncIterator[Device]:
        """A socket that has said Hello."""
        inbox = Inbox(1 << 24) if inbox is None else inbox
        outbox = Outbox() if outbox is None else outbox
        async with connect(f"ws://127.0.0.1:{self.port}/v1/device", compression=None, ping_interval=None) as socket:
            device = Device(socket, Connection(Role.DEVICE, inbox, outbox, now_s=time.monotonic()))
            said = greeting or hello()
            partial: tuple[Progress, ...] = inbox.progress()
            with suppress(ConnectionClosed):  # a gateway that refuses at once need not wait for our Hello
                await device.say(said.model_copy(update={"partial": partial}))
            yield device

    @asynccontextmanager
    async def welcomed(self, *streams: StreamHello) -> AsyncIterator[Device]:
        async with self.device(hello(*streams)) as device:
            await device.hear(Welcome)
            yield device

    async def publish(self, item: PatchEntry) -> None:
        """What an owner does: append, then ring the gateway that serves the session."""
        await self.broker.patches.append(SID, item)
        await self.ring()

    async def ring(self) -> None:
        name = (await self.broker.directory.state(SID))["gateway"]
        await self.broker.bell.ring(name, SID)

    async def events(self, count: int) -> list[tuple[str, dict[str, object]]]:
        """The first events that the owner would read, once there are `count`."""
        found: list[UpstreamEvent] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < count:
                found = list(await self.broker.upstream.read(SID))
                await asyncio.sleep(0.005)
        return [(event.kind, json.loads(event.body)) for event in found]

    async def state(self, **wanted: str) -> dict[str, str]:
        """The session's state, once it has these fields."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                state = await self.broker.directory.state(SID)
                if wanted.items() <= state.items():
                    return state
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(broker: Broker | None = None, **changes: object) -> AsyncIterator[Gateway]:
    """A gateway on a free port that knows one device."""
    broker = broker or new_memory()
    await broker.devices.enrol(DEVICE, hashlib.sha256(TOKEN.encode()).hexdigest())
    fields = {"broker_url": "memory://here", "teacher": TEACHER, "name": "g1", "port": 0, "sweep_s": 0.05}
    settings = GatewaySettings.model_validate(fields | changes)
    metrics = GatewayMetrics()
    service = GatewayService(broker, settings, metrics)
    listening = asyncio.Event()
    server = GatewayServer(create_app(service), listening.set)
    listener = listen(settings.host, settings.port)
    bell = asyncio.create_task(service.run())
    served = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await listening.wait()
        yield Gateway(listener.getsockname()[1], broker, service, metrics, server)
    finally:
        await service.drain()
        server.should_exit = True
        await served
        bell.cancel()


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with serving() as started:
        yield started
