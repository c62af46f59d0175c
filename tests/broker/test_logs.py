"""LabelLog, Upstream and ScoreLog: order, bounds and trims, as every adapter promises them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ams.broker import keys
from ams.ports import Broker, LabelledClip, ScoreEntry, UpstreamEvent

pytestmark = pytest.mark.anyio

SID = "pi/front"
NODE_ENTRIES = 100
"""Small entries that Redis may keep beyond an approximate bound."""

MOST_LABELLED = keys.LABELLED.maxlen or 0
MOST_EVENTS = keys.UP.maxlen or 0

Build = Callable[..., LabelledClip]


async def test_labelled_clip_comes_back_as_it_went_in(broker: Broker, labelled: Build) -> None:
    clip = labelled(payload=bytes(range(256)) * 1200)
    failed = LabelledClip(SID, "c2", b"", b"", b"", error="cannot be decoded")
    ids = [await broker.labelled.append(clip), await broker.labelled.append(failed)]
    assert await broker.labelled.read(SID) == [replace(clip, entry_id=ids[0]), replace(failed, entry_id=ids[1])]


async def test_labels_are_read_in_order_from_any_place(broker: Broker, labelled: Build) -> None:
    ids = [await broker.labelled.append(labelled(f"c{n}")) for n in range(12)]
    clips = await broker.labelled.read(SID)
    assert [clip.clip_id for clip in clips] == [f"c{n}" for n in range(12)]
    assert [clip.entry_id for clip in clips] == ids
    assert [clip.clip_id for clip in await broker.labelled.read(SID, after=ids[8])] == ["c9", "c10", "c11"]
    assert [clip.clip_id for clip in await broker.labelled.read(SID, after=ids[1], count=2)] == ["c2", "c3"]
    assert await broker.labelled.read(SID, after=ids[-1]) == []
    assert await broker.labelled.read("pi/rear") == []


async def test_labels_may_repeat(broker: Broker, labelled: Build) -> None:
    assert await broker.labelled.append(labelled()) != await broker.labelled.append(labelled())
    assert len(await broker.labelled.read(SID)) == 2


async def test_labels_are_trimmed_before_an_id(broker: Broker, labelled: Build) -> None:
    ids = [await broker.labelled.append(labelled(f"c{n}")) for n in range(5)]
    await broker.labelled.trim(SID, before=ids[3])
    assert [clip.clip_id for clip in await broker.labelled.read(SID)] == ["c3", "c4"]
    assert [clip.clip_id for clip in await broker.labelled.read(SID, after=ids[0])] == ["c3", "c4"]
    await broker.labelled.trim("pi/rear", before=ids[3])


async def test_labels_that_nobody_trims_are_bounded(broker: Broker) -> None:
    for n in range(MOST_LABELLED + 2 * NODE_ENTRIES):
        await broker.labelled.append(LabelledClip(SID, f"c{n}", b"", b"", b""))
    clips = await broker.labelled.read(SID, count=10_000)
    assert MOST_LABELLED <= len(clips) <= MOST_LABELLED + NODE_ENTRIES
    assert clips[-1].clip_id == f"c{MOST_LABELLED + 2 * NODE_ENTRIES - 1}"


async def test_upstream_events(broker: Broker) -> None:
    for n in range(3):
        await broker.upstream.post(SID, UpstreamEvent("applied", b'{"version":%d}' % n))
    await broker.upstream.post(SID, UpstreamEvent("stats", bytes(range(256))))
    events = await broker.upstream.read(SID)
    assert [(event.kind, event.body) for event in events[:2]] == [
        ("applied", b'{"version":0}'),
        ("applied", b'{"version":1}'),
    ]
    assert events[3].body == bytes(range(256))
    assert await broker.upstream.read(SID, after=events[2].entry_id) == [events[3]]
    assert await broker.upstream.read(SID, after=events[3].entry_id) == []
    assert await broker.upstream.read("pi/rear") == []


async def test_upstream_drops_the_oldest(broker: Broker) -> None:
    for n in range(MOST_EVENTS + 2 * NODE_ENTRIES):
        await broker.upstream.post(SID, UpstreamEvent("stats", b"%d" % n))
    events = await broker.upstream.read(SID, count=10_000)
    assert MOST_EVENTS <= len(events) <= MOST_EVENTS + NODE_ENTRIES
    assert events[-1].body == b"%d" % (MOST_EVENTS + 2 * NODE_ENTRIES - 1)


async def test_scores(broker: Broker) -> None:
    await broker.scores.append(SID, "clip", b"{}")
    await broker.scores.append(SID, "phase", bytes(range(256)))
    first, second = await broker.scores.read(SID)
    assert first == ScoreEntry("clip", b"{}", first.entry_id)
    assert second == ScoreEntry("phase", bytes(range(256)), second.entry_id)
    assert await broker.scores.read(SID, after=first.entry_id) == [second]
    assert await broker.scores.read(SID, count=1) == [first]
