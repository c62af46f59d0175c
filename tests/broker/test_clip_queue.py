"""ClipQueue: what every adapter promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ams.broker import keys
from ams.errors import BrokerError
from ams.ports import Broker, QueuedClip

pytestmark = pytest.mark.anyio

Build = Callable[..., QueuedClip]


async def test_clip_comes_out_as_it_went_in(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    clip = queued(payload=bytes(range(256)) * 1200)  # 300 kB, every byte value
    assert await queue.admit(clip, credit=1)
    (taken,) = await queue.take("labeler-1", count=4, wait_s=0)
    assert taken == replace(clip, entry_id=taken.entry_id, deliveries=1)
    assert taken.entry_id


async def test_clips_come_out_oldest_first_and_once(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    for n in range(5):
        assert await queue.admit(queued(f"c{n}"), credit=8)
    first = await queue.take("labeler-1", count=3, wait_s=0)
    second = await queue.take("labeler-2", count=3, wait_s=0)
    assert [clip.clip_id for clip in (*first, *second)] == ["c0", "c1", "c2", "c3", "c4"]
    assert await queue.take("labeler-1", count=3, wait_s=0) == []


async def test_clips_admitted_before_any_labeler_are_kept(broker: Broker, queued: Build) -> None:
    assert await broker.clips("teacher").admit(queued(), credit=1)
    assert len(await broker.clips("teacher").take("labeler-1", count=1, wait_s=0)) == 1


async def test_taking_nothing(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    assert await queue.take("labeler-1", count=4, wait_s=0) == []
    assert await queue.take("labeler-1", count=4, wait_s=0.01) == []
    await queue.admit(queued(), credit=1)
    assert await queue.take("labeler-1", count=0, wait_s=0) == []


async def test_take_waits_for_a_clip(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(queue.take("labeler-1", count=4, wait_s=30))
        await asyncio.sleep(0.01)
        assert await queue.admit(queued(), credit=1)
    assert [clip.clip_id for clip in waiting.result()] == ["c1"]


async def test_a_cancelled_wait_leaves_the_queue_usable(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    waiting = asyncio.create_task(queue.take("labeler-1", count=4, wait_s=30))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await queue.admit(queued(), credit=1)
    assert len(await queue.take("labeler-2", count=4, wait_s=5)) == 1


async def test_two_waiting_consumers_share(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(queue.take(f"labeler-{n}", count=1, wait_s=30)) for n in range(2)]
        await asyncio.sleep(0.01)
        for n in range(2):
            await queue.admit(queued(f"c{n}"), credit=2)
    assert sorted(clip.clip_id for task in waiting for clip in task.result()) == ["c0", "c1"]


async def test_credit_runs_out_and_comes_back(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    assert await queue.admit(queued("c1"), credit=2)
    assert await queue.admit(queued("c2"), credit=2)
    assert not await queue.admit(queued("c3"), credit=2)
    assert not await queue.admit(queued("c3"), credit=2), "a refusal holds no credit itself"
    assert await queue.admit(queued("c9", sid="pi/rear"), credit=2), "credit is each session's own"
    first, *_ = await queue.take("labeler-1", count=4, wait_s=0)
    assert not await queue.admit(queued("c3"), credit=2), "a clip that is worked on still counts"
    await queue.done(first)
    assert await queue.admit(queued("c3"), credit=2)


async def test_refused_clip_is_not_queued(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    assert not await queue.admit(queued(), credit=0)
    assert await queue.depth() == 0
    assert await queue.take("labeler-1", count=1, wait_s=0) == []


async def test_admitting_again_does_not_count_twice(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    for _ in range(3):
        assert await queue.admit(queued("c1"), credit=2)
    assert await queue.admit(queued("c2"), credit=2)
    assert not await queue.admit(queued("c3"), credit=2)


async def test_admitting_again_without_credit_left_is_allowed(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    assert await queue.admit(queued("c1"), credit=1)
    assert await queue.admit(queued("c1"), credit=1)


async def test_concurrent_admissions_never_exceed_the_credit(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    async with asyncio.TaskGroup() as tasks:
        admissions = [tasks.create_task(queue.admit(queued(f"c{n}"), credit=4)) for n in range(24)]
    assert sum(task.result() for task in admissions) == 4
    assert await queue.depth() == 4


async def test_full_queue_refuses_and_keeps_what_it_has(
    broker: Broker, queued: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAX_QUEUED_CLIPS", 2)
    queue = broker.clips("teacher")
    assert await queue.admit(queued("c1", sid="a/x"), credit=9)
    assert await queue.admit(queued("c2", sid="b/x"), credit=9)
    assert not await queue.admit(queued("c3", sid="c/x"), credit=9)
    taken = await queue.take("labeler-1", count=9, wait_s=0)
    assert [clip.clip_id for clip in taken] == ["c1", "c2"]
    await queue.done(taken[0])
    assert await queue.admit(queued("c3", sid="c/x"), credit=1), "the refusal held no credit"


async def test_done_removes_and_may_be_repeated(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    await queue.admit(queued("c1"), credit=2)
    await queue.admit(queued("c2"), credit=2)
    first, second = await queue.take("labeler-1", count=2, wait_s=0)
    assert await queue.depth() == 2
    await queue.done(first)
    await queue.done(first)
    assert await queue.depth() == 1
    assert await queue.reclaim("labeler-2", count=9, idle_s=0) == [replace(second, deliveries=2)]


async def test_dead_consumers_clips_are_reclaimed_and_counted(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    for n in range(3):
        await queue.admit(queued(f"c{n}"), credit=3)
    taken = await queue.take("dead", count=3, wait_s=0)
    again = await queue.reclaim("labeler-2", count=2, idle_s=0)
    assert again == [replace(clip, deliveries=2) for clip in taken[:2]]
    third = await queue.reclaim("labeler-3", count=9, idle_s=0)
    assert [(clip.clip_id, clip.deliveries) for clip in third] == [("c0", 3), ("c1", 3), ("c2", 2)]
    for clip in third:
        await queue.done(clip)
    assert await queue.reclaim("labeler-2", count=9, idle_s=0) == []
    assert await queue.depth() == 0


async def test_live_consumers_clips_are_left_alone(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    await queue.admit(queued("c1"), credit=2)
    await queue.take("alive", count=1, wait_s=0)
    await queue.admit(queued("c2"), credit=2)
    assert await queue.reclaim("labeler-2", count=9, idle_s=60) == []
    assert await queue.reclaim("labeler-2", count=0, idle_s=0) == []


async def test_reclaiming_from_a_queue_that_never_was(broker: Broker) -> None:
    assert await broker.clips("teacher").reclaim("labeler-1", count=4, idle_s=0) == []


async def test_both_finish_a_reclaimed_clip(broker: Broker, queued: Build) -> None:
    queue = broker.clips("teacher")
    await queue.admit(queued(), credit=1)
    (slow,) = await queue.take("slow", count=1, wait_s=0)
    (second,) = await queue.reclaim("quick", count=1, idle_s=0)
    await queue.done(slow)
    await queue.done(second)
    assert await queue.depth() == 0
    assert await queue.admit(queued("c2"), credit=1)


async def test_bury(harness: Any, queued: Build) -> None:
    queue = harness.broker.clips("teacher")
    await queue.admit(queued(), credit=1)
    (clip,) = await queue.take("labeler-1", count=1, wait_s=0)
    await queue.bury(clip, "cannot be decoded")
    assert await queue.depth() == 0
    assert await queue.reclaim("labeler-1", count=1, idle_s=0) == []
    assert await harness.dead_letters("teacher") == [("c1", clip.payload, "cannot be decoded")]
    assert await queue.admit(queued("c2"), credit=1), "its credit came back"


async def test_teachers_have_queues_of_their_own(broker: Broker, queued: Build) -> None:
    await broker.clips("large").admit(queued(), credit=1)
    assert await broker.clips("small").depth() == 0
    assert await broker.clips("small").take("labeler-1", count=1, wait_s=0) == []
    assert await broker.clips("large").depth() == 1


async def test_name_that_would_break_the_hash_tag_is_refused(broker: Broker, queued: Build) -> None:
    with pytest.raises(BrokerError, match="braces"):
        await broker.clips("tea}cher").admit(queued(), credit=1)
