"""The memory adapter's own promises: injected time, being away, one broker for all who share it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ams.broker import keys
from ams.broker.memory import new_memory
from ams.broker.memory_connection import MemoryConnection
from ams.errors import BrokerUnavailableError
from ams.ports import Broker, PatchEntry, QueuedClip, UpstreamEvent

pytestmark = pytest.mark.anyio

SID = "pi/front"


class Time:
    """Unix seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def broker(time: Time) -> Broker:
    return new_memory(time)


@pytest.fixture
def connection(broker: Broker) -> MemoryConnection:
    assert isinstance(broker.connection, MemoryConnection)
    return broker.connection


async def test_lease_ends_exactly_when_it_said(broker: Broker, time: Time) -> None:
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=10)
    assert lease is not None
    time.now_s += 9.9
    assert await broker.leases.acquire(SID, "trainer-2", ttl_s=10) is None
    assert await broker.leases.renew(lease, ttl_s=10)
    time.now_s += 9.9
    assert await broker.leases.owner(SID) == "trainer-1"
    time.now_s += 0.1
    assert await broker.leases.owner(SID) is None
    assert not await broker.leases.renew(lease, ttl_s=10)
    second = await broker.leases.acquire(SID, "trainer-2", ttl_s=10)
    assert second is not None
    assert second.fence == lease.fence + 1


async def test_credit_heals(broker: Broker, time: Time, queued: Callable[..., QueuedClip]) -> None:
    queue = broker.clips("teacher")
    assert await queue.admit(queued("lost"), credit=1)
    time.now_s += keys.CREDIT_MAX_AGE_S
    assert not await queue.admit(queued("next"), credit=1)
    time.now_s += 0.1
    assert await queue.admit(queued("next"), credit=1)


async def test_reclaim_after_the_idle_time(broker: Broker, time: Time, queued: Callable[..., QueuedClip]) -> None:
    queue = broker.clips("teacher")
    await queue.admit(queued(), credit=1)
    await queue.take("dead", count=1, wait_s=0)
    time.now_s += 29.9
    assert await queue.reclaim("labeler-2", count=1, idle_s=30) == []
    time.now_s += 0.1
    assert [clip.deliveries for clip in await queue.reclaim("labeler-2", count=1, idle_s=30)] == [2]
    assert await queue.reclaim("labeler-3", count=1, idle_s=30) == [], "its time begins anew"


async def test_state_and_logs_expire(broker: Broker, time: Time) -> None:
    await broker.directory.update(SID, {"a": "1"})
    await broker.upstream.post(SID, UpstreamEvent("stats", b"{}"))
    time.now_s += keys.DAY_S - 1
    assert await broker.directory.state(SID) == {"a": "1"}
    assert len(await broker.upstream.read(SID)) == 1
    time.now_s += 1
    assert await broker.directory.state(SID) == {}
    assert await broker.upstream.read(SID) == []


async def test_ids_grow_though_the_clock_goes_back(broker: Broker, time: Time) -> None:
    for step_s in (0.0, 0.0, -5.0, 5.001):
        time.now_s += step_s
        await broker.upstream.post(SID, UpstreamEvent("stats", b""))
    ids = [event.entry_id for event in await broker.upstream.read(SID)]
    assert ids == ["1000000000-0", "1000000000-1", "1000000000-2", "1000000001-0"]


async def test_away_and_back(broker: Broker, connection: MemoryConnection) -> None:
    await broker.devices.enrol("pi", "ab")
    connection.go_away()
    for attempt in (
        broker.connection.ping(),
        broker.devices.token_hash("pi"),
        broker.clips("teacher").depth(),
        broker.bell.wait("trainer-1", wait_s=30),
    ):
        with pytest.raises(BrokerUnavailableError, match="come_back"):
            await attempt
    connection.come_back()
    assert await broker.devices.token_hash("pi") == "ab"


async def test_going_away_ends_a_wait(broker: Broker, connection: MemoryConnection) -> None:
    waiting = asyncio.create_task(broker.clips("teacher").take("labeler-1", count=1, wait_s=30))
    await asyncio.sleep(0.01)
    connection.go_away()
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailableError):
            await waiting


async def test_back_but_empty(broker: Broker, connection: MemoryConnection, queued: Callable[..., QueuedClip]) -> None:
    queue = broker.clips("teacher")
    await queue.admit(queued(), credit=1)
    (old,) = await queue.take("labeler-1", count=1, wait_s=0)
    await broker.patches.append(SID, PatchEntry("takeover", 3, 0, 0))
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=10)
    assert lease is not None
    connection.go_away()
    connection.come_back(empty=True)
    await queue.done(old)
    assert await queue.depth() == 0
    assert await queue.admit(queued("c2"), credit=1)
    assert len(await queue.take("labeler-1", count=1, wait_s=0)) == 1
    assert not await broker.leases.renew(lease, ttl_s=10)
    assert await broker.patches.read(SID) == []
