"""The Redis adapter's own promises: keys within the table, entries that vanish, steps that a crash cut apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from ams.broker import connect, keys
from ams.broker.redis_clips import GROUP, RedisClipQueue
from ams.broker.redis_connection import RedisConnection
from ams.broker.server import RedisServer
from ams.errors import BrokerError
from ams.ports import Broker, LabelledClip, PatchEntry, QueuedClip, UpstreamEvent

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

SID = "pi/front"
QUEUE = "ams:clips:{teacher:0}"

Build = Callable[..., QueuedClip]


@pytest.fixture
async def raw(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url) as client:
        await client.flushdb()
        yield client


@pytest.fixture
async def broker(raw: Redis, redis_server: RedisServer) -> AsyncIterator[Broker]:
    broker = connect(redis_server.url)
    yield broker
    await broker.connection.close()


async def test_every_key_is_in_the_table_with_its_bounds(raw: Redis, broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    for n in range(3):
        await queue.admit(queued(f"c{n}"), credit=8)
    taken = await queue.take("labeler-1", count=2, wait_s=0)
    await queue.bury(taken[0], "broken")
    await broker.labelled.append(LabelledClip(SID, "c1", b"", b"", b""))
    await broker.upstream.post(SID, UpstreamEvent("stats", b"{}"))
    await broker.scores.append(SID, "clip", b"{}")
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease is not None
    assert await broker.leases.renew(lease, ttl_s=60)
    await broker.patches.append(SID, PatchEntry("takeover", lease.fence, 0, 0))
    await broker.directory.touch(SID, 1e9)
    await broker.directory.update(SID, {"a": "1"})
    await broker.bell.ring("trainer-1", SID)
    await broker.bell.wait("trainer-1", wait_s=0)
    await broker.devices.enrol("pi", "ab")

    seen = {name.decode() async for name in raw.scan_iter()}
    rows = {name: keys.kind_of(name) for name in seen}
    assert None not in rows.values(), f"keys outside the table: {[name for name, row in rows.items() if row is None]}"
    assert set(rows.values()) == set(keys.TABLE), "this test writes a key of every row"
    for name, row in rows.items():
        assert row is not None
        assert await raw.type(name) == row.type.encode()
        left_ms = await raw.pttl(name)
        if row.ttl_s is None:
            assert left_ms == -1, f"{name} was to stay"
        else:
            assert 0 < left_ms <= row.ttl_s * 1000, f"{name} was to expire"


async def test_pending_entries_that_were_trimmed_are_cleared(raw: Redis, broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    for n in range(6):
        await queue.admit(queued(f"c{n}"), credit=8)
    await queue.take("dead", count=6, wait_s=0)
    await raw.xtrim(QUEUE, maxlen=2, approximate=False)
    reclaimed = await queue.reclaim("labeler-2", count=9, idle_s=0)
    assert [(clip.clip_id, clip.deliveries) for clip in reclaimed] == [("c4", 2), ("c5", 2)]
    assert (await raw.xpending(QUEUE, GROUP))["pending"] == 2
    for clip in reclaimed:
        await queue.done(clip)
    assert (await raw.xpending(QUEUE, GROUP))["pending"] == 0


async def test_reclaim_looks_past_many_clips_that_are_not_idle(raw: Redis, broker: Broker, queued: Build) -> None:
    """XAUTOCLAIM examines ten entries per one wanted and then returns a cursor."""
    queue = broker.clips("teacher")
    for n in range(40):
        await queue.admit(queued(f"c{n}", payload=b""), credit=99)
    taken = await queue.take("alive", count=40, wait_s=0)
    await raw.xclaim(QUEUE, GROUP, "dead", 0, [taken[-1].entry_id], idle=100_000, retrycount=3)
    assert [(clip.clip_id, clip.deliveries) for clip in await queue.reclaim("labeler-2", count=1, idle_s=90)] == [
        ("c39", 4)
    ]


async def test_admission_that_died_between_its_steps_is_repeated(raw: Redis, broker: Broker, queued: Build) -> None:
    await raw.zadd(keys.CREDIT(SID).name, {"c1": 4e9})
    queue = broker.clips("teacher")
    assert await queue.admit(queued("c1"), credit=1), "reserved by the one that died; the device sends it again"
    assert await queue.depth() == 1


async def test_credit_of_the_dead_heals(raw: Redis, broker: Broker, queued: Build) -> None:
    seconds, _ = await raw.time()
    await raw.zadd(keys.CREDIT(SID).name, {"old": seconds - keys.CREDIT_MAX_AGE_S - 5, "new": seconds})
    queue = broker.clips("teacher")
    assert await queue.admit(queued("c1"), credit=2)
    assert not await queue.admit(queued("c2"), credit=2)
    assert await raw.zrange(keys.CREDIT(SID).name, 0, -1) == [b"new", b"c1"]


async def test_group_that_vanished_is_created_again(raw: Redis, broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    await queue.admit(queued(), credit=8)
    await queue.take("labeler-1", count=1, wait_s=0)
    await raw.flushdb()
    assert await queue.reclaim("labeler-1", count=1, idle_s=0) == []
    await raw.flushdb()
    assert await queue.admit(queued("c2"), credit=8)
    assert [clip.clip_id for clip in await queue.take("labeler-1", count=1, wait_s=0)] == ["c2"]


async def test_waiting_while_everything_is_flushed(raw: Redis, broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    assert await queue.take("labeler-1", count=1, wait_s=0) == []
    waiting = asyncio.create_task(queue.take("labeler-1", count=1, wait_s=30))
    await asyncio.sleep(0.01)
    await raw.flushdb()
    await queue.admit(queued(), credit=1)
    async with asyncio.timeout(5):
        assert [clip.clip_id for clip in await waiting] == ["c1"]


async def test_consumers_that_ended_are_forgotten(raw: Redis, broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    assert isinstance(queue, RedisClipQueue)
    assert await queue.forget_consumers(idle_s=0) == 0
    await queue.admit(queued(), credit=1)
    await queue.take("holds-a-clip", count=1, wait_s=0)
    await queue.take("ended", count=1, wait_s=0)
    assert await queue.forget_consumers(idle_s=3600) == 0
    assert await queue.forget_consumers(idle_s=0) >= 0
    names = [consumer["name"] for consumer in await raw.xinfo_consumers(QUEUE, GROUP)]
    assert names == [b"holds-a-clip"]


async def test_shards(redis_server: RedisServer, raw: Redis, queued: Build) -> None:
    broker = connect(redis_server.url, shards=3)
    queue = broker.clips("teacher")
    for n in range(12):
        assert await queue.admit(queued(f"c{n}", sid=f"d{n}/x"), credit=1)
    assert await queue.depth() == 12
    assert len([name async for name in raw.scan_iter("ams:clips:*")]) == 3
    taken: list[QueuedClip] = []
    for _ in range(40):
        found = await queue.take("labeler-1", count=2, wait_s=0.05)
        assert len(found) <= 2
        taken += found
        if len(taken) == 12:
            break
    assert {clip.clip_id for clip in taken} == {f"c{n}" for n in range(12)}
    await queue.bury(taken[0], "broken")
    again = await queue.reclaim("labeler-2", count=99, idle_s=0)
    assert len(again) == 11
    for clip in again:
        await queue.done(clip)
    assert await queue.depth() == 0
    await broker.connection.close()


async def test_entry_of_a_stranger_can_be_buried(raw: Redis, broker: Broker) -> None:
    await raw.xadd(QUEUE, {"hello": "world"})
    queue = broker.clips("teacher")
    (stranger,) = await queue.take("labeler-1", count=1, wait_s=0)
    assert stranger.clip_id == ""
    await queue.bury(stranger, "no clip")
    assert await queue.depth() == 0


async def test_patch_log_of_a_newer_ams_is_refused(raw: Redis, broker: Broker) -> None:
    await raw.xadd(keys.PATCHES(SID).name, {"kind": "delta9", "base": 0, "version": 1}, id="1-1")
    with pytest.raises(BrokerError, match="newer AMS"):
        await broker.patches.read(SID)


async def test_owner_that_lost_a_race_hears_it_from_redis(
    raw: Redis, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up saw nothing, then a new owner wrote, then we: Redis itself refuses our id."""
    connection = broker.connection
    assert isinstance(connection, RedisConnection)
    send = connection.batch

    async def overtaken(*commands: tuple[str | bytes | int | float, ...], atomic: bool = True) -> list[object]:
        await raw.xadd(keys.PATCHES(SID).name, {"kind": "takeover", "base": 0, "version": 0}, id="9-1")
        return await send(*commands, atomic=atomic)

    monkeypatch.setattr(connection, "batch", overtaken)
    with pytest.raises(BrokerError, match="fence 9"):
        await broker.patches.append(SID, PatchEntry("takeover", 8, 0, 0))
    assert [entry.fence for entry in await broker.patches.read(SID)] == [9]


async def test_database_of_another_program(raw: Redis, broker: Broker) -> None:
    await raw.set("ams:sessions", "mine")
    with pytest.raises(BrokerError, match="Another program"):
        await broker.directory.touch(SID, 1.0)
    await raw.set(keys.LEASE(SID).name, "not json")
    with pytest.raises(BrokerError, match="expected JSON"):
        await broker.leases.owner(SID)


async def test_more_at_once_than_there_are_connections(raw: Redis, broker: Broker) -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for n in range(200):
            tasks.create_task(broker.devices.enrol(f"d{n}", "ab"))
    assert await raw.hlen("ams:devices") == 200
    assert len(await raw.client_list()) < 50
