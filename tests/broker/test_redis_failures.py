"""A Redis that dies, comes back empty, comes back full, hangs or is out of memory. Each test has its own server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from ams.broker.redis import open_redis
from ams.broker.server import RedisServer
from ams.errors import BrokerUnavailableError, FencedError
from ams.ports import Broker, LabelledClip, PatchEntry, QueuedClip, UpstreamEvent

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

SID = "pi/front"
TIMEOUT_S = 0.3

Build = Callable[..., QueuedClip]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
async def broker(server: RedisServer) -> AsyncIterator[Broker]:
    broker = open_redis(server.url, timeout_s=TIMEOUT_S)
    yield broker
    await broker.connection.close()


async def test_every_port_says_when_redis_is_gone_and_works_again(
    server: RedisServer, broker: Broker, queued: Build
) -> None:
    queue = broker.clips("teacher")
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease is not None

    def everything() -> list[Callable[[], Awaitable[object]]]:
        return [
            lambda: queue.admit(queued(), credit=8),
            lambda: queue.take("labeler-1", count=1, wait_s=0),
            lambda: queue.take("labeler-1", count=1, wait_s=0.01),
            lambda: queue.reclaim("labeler-1", count=1, idle_s=0),
            lambda: queue.done(queued()),
            lambda: queue.bury(queued(), "broken"),
            lambda: queue.depth(),
            lambda: broker.labelled.append(LabelledClip(SID, "c1", b"", b"", b"")),
            lambda: broker.labelled.read(SID),
            lambda: broker.labelled.trim(SID, before="1-1"),
            lambda: broker.patches.append(SID, PatchEntry("patch", 1, 0, 1)),
            lambda: broker.patches.read(SID),
            lambda: broker.upstream.post(SID, UpstreamEvent("stats", b"")),
            lambda: broker.upstream.read(SID),
            lambda: broker.scores.append(SID, "clip", b"{}"),
            lambda: broker.scores.read(SID),
            lambda: broker.directory.touch(SID, 1.0),
            lambda: broker.directory.seen_since(0),
            lambda: broker.directory.forget_before(0),
            lambda: broker.directory.update(SID, {"a": "1"}),
            lambda: broker.directory.state(SID),
            lambda: broker.leases.acquire(SID, "trainer-1", ttl_s=60),
            lambda: broker.leases.renew(lease, ttl_s=60),
            lambda: broker.leases.release(lease),
            lambda: broker.leases.owner(SID),
            lambda: broker.bell.ring("trainer-1", SID),
            lambda: broker.bell.wait("trainer-1", wait_s=0.01),
            lambda: broker.devices.enrol("pi", "ab"),
            lambda: broker.devices.token_hash("pi"),
            lambda: broker.devices.revoke("pi"),
            lambda: broker.connection.ping(),
        ]

    for operation in everything():
        await operation()
    server.kill()
    for operation in everything():
        with pytest.raises(BrokerUnavailableError, match="trying again may help"):
            await operation()
    server.start()
    for operation in everything():
        await operation()


async def test_back_and_empty(server: RedisServer, broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    await queue.admit(queued(), credit=1)
    (old,) = await queue.take("labeler-1", count=1, wait_s=0)
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease is not None
    await broker.bell.ring("trainer-1", SID)
    assert await broker.bell.wait("trainer-1", wait_s=0) == {SID}

    server.kill()
    with pytest.raises(BrokerUnavailableError):
        await broker.bell.wait("trainer-1", wait_s=1)
    server.start()

    await queue.done(old)
    assert await queue.admit(queued("c2"), credit=1)
    assert [clip.clip_id for clip in await queue.take("labeler-1", count=1, wait_s=1)] == ["c2"]
    assert not await broker.leases.renew(lease, ttl_s=60)
    await broker.bell.ring("trainer-1", SID)
    assert await broker.bell.wait("trainer-1", wait_s=1) == {SID}


async def test_waiting_readers_hear_of_the_death_at_once(server: RedisServer, broker: Broker) -> None:
    async with asyncio.timeout(5):
        waiting = [
            asyncio.create_task(broker.clips("teacher").take("labeler-1", count=1, wait_s=60)),
            asyncio.create_task(broker.bell.wait("trainer-1", wait_s=60)),
        ]
        await asyncio.sleep(0.05)
        server.kill()
        for task in waiting:
            with pytest.raises(BrokerUnavailableError):
                await task


async def test_back_with_what_was_on_disk(tmp_path: Path, queued: Build) -> None:
    with RedisServer(tmp_path / "aof", appendonly=True) as server:
        broker = open_redis(server.url, timeout_s=TIMEOUT_S)
        queue = broker.clips("teacher")
        await queue.admit(queued(), credit=1)
        await queue.take("dead", count=1, wait_s=0)
        lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
        assert lease is not None
        await broker.patches.append(SID, PatchEntry("takeover", lease.fence, 0, 0))
        await broker.leases.release(lease)
        await asyncio.to_thread(server.restart)
        assert [clip.deliveries for clip in await queue.reclaim("labeler-2", count=1, idle_s=0)] == [2]
        assert not await queue.admit(queued("c2"), credit=1)
        second = await broker.leases.acquire(SID, "trainer-2", ttl_s=60)
        assert second is not None
        assert second.fence > lease.fence
        await broker.patches.append(SID, PatchEntry("takeover", second.fence, 0, 0))
        with pytest.raises(FencedError):
            await broker.patches.append(SID, PatchEntry("patch", lease.fence, 0, 1))
        await broker.connection.close()


async def test_hanging_server_is_given_up_on(server: RedisServer, broker: Broker) -> None:
    await broker.devices.enrol("pi", "ab")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(BrokerUnavailableError, match="trying again"):
                await broker.devices.token_hash("pi")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert await broker.devices.token_hash("pi") == "ab"


async def test_cancelled_command_leaves_no_reply_behind(server: RedisServer, broker: Broker) -> None:
    """A reply that nobody waited for must not answer the next command on the same connection."""
    await broker.devices.enrol("pi", "ab")
    await broker.devices.enrol("other", "cd")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        asking = asyncio.create_task(broker.devices.token_hash("pi"))
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert await broker.devices.token_hash("other") == "cd"
    assert await broker.devices.token_hash("nobody") is None


async def test_full_memory_is_a_clear_refusal_and_nothing_is_lost(
    server: RedisServer, broker: Broker, queued: Build
) -> None:
    queue = broker.clips("teacher")
    await queue.admit(queued("c1"), credit=8)
    async with Redis.from_url(server.url) as raw:
        await raw.config_set("maxmemory", "100kb")
        with pytest.raises(BrokerUnavailableError, match="maxmemory"):
            await queue.admit(queued("c2"), credit=8)
        with pytest.raises(BrokerUnavailableError, match="maxmemory"):
            await broker.labelled.append(LabelledClip(SID, "c1", b"", b"", b""))
        with pytest.raises(BrokerUnavailableError, match="maxmemory"):
            await broker.patches.append(SID, PatchEntry("takeover", 1, 0, 0))
        await raw.config_set("maxmemory", "0")
    assert [clip.clip_id for clip in await queue.take("labeler-1", count=9, wait_s=0)] == ["c1"]
    assert await queue.admit(queued("c2"), credit=8)


async def test_replica_is_named_as_one(server: RedisServer, broker: Broker) -> None:
    async with Redis.from_url(server.url) as raw:
        await raw.replicaof("127.0.0.1", "1")
        with pytest.raises(BrokerUnavailableError, match="primary"):
            await broker.devices.enrol("pi", "ab")
