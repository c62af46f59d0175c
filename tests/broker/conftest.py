"""The two adapters that the contract suite runs on. Every test gets an empty broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from ams.broker import connect
from ams.broker.memory import new_memory
from ams.broker.memory_clips import MemoryClipQueue
from ams.broker.server import RedisServer
from ams.ports import Broker, LabelledClip, QueuedClip

EVERY_BYTE = bytes(range(256))


@dataclass(frozen=True)
class Harness:
    """A broker under test, and what only the adapter can tell about it."""

    broker: Broker
    url: str | None

    async def dead_letters(self, teacher: str) -> Sequence[tuple[str, bytes, str]]:
        """Clip id, payload and reason of each dead letter."""
        if self.url is None:
            queue = self.broker.clips(teacher)
            assert isinstance(queue, MemoryClipQueue)
            return [(letter.clip.clip_id, letter.clip.payload, letter.reason) for letter in queue.dead]
        async with Redis.from_url(self.url) as raw:
            found: Any = await raw.xrange(f"ams:dead:{{{teacher}:0}}")
        return [(fields[b"clip"].decode(), fields[b"payload"], fields[b"reason"].decode()) for _, fields in found]


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def broker_url(request: pytest.FixtureRequest) -> str | None:
    """Where a real server listens, None for memory."""
    if request.param == "memory":
        return None
    server = request.getfixturevalue("redis_server")
    assert isinstance(server, RedisServer)
    return server.url


@pytest.fixture
async def harness(broker_url: str | None) -> AsyncIterator[Harness]:
    if broker_url is not None:
        async with Redis.from_url(broker_url) as raw:
            await raw.flushdb()
    broker = new_memory() if broker_url is None else connect(broker_url)
    yield Harness(broker, broker_url)
    await broker.connection.close()


@pytest.fixture
def broker(harness: Harness) -> Broker:
    return harness.broker


@pytest.fixture
def queued() -> Callable[..., QueuedClip]:
    def build(clip_id: str = "c1", sid: str = "pi/front", payload: bytes = EVERY_BYTE) -> QueuedClip:
        return QueuedClip(sid=sid, clip_id=clip_id, meta=b'{"t":1}', payload=payload)

    return build


@pytest.fixture
def labelled() -> Callable[..., LabelledClip]:
    def build(clip_id: str = "c1", sid: str = "pi/front", payload: bytes = EVERY_BYTE) -> LabelledClip:
        return LabelledClip(sid, clip_id, b'{"t":1}', payload, labels=EVERY_BYTE[::-1], confidence=b"\x00\xff")

    return build
