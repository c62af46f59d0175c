"""The feed: what the page shows of a session, gathered from a broker in memory and from preview headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ams.demo.feed
from ams.broker.memory_connection import MemoryConnection
from ams.core.score import ClipScore, FrameScore, PhaseRecord
from ams.demo.feed import MAX_WAITING_CLIPS, SCENES, Feed, Subject, Tail
from ams.models.bundle import ModelBundle
from ams.ports import Broker, LabelledClip
from tests.demo.clips import SID, HandClock, labelled, name_of, other_weights, patch_entry, phase, score

KNOWN_FROM_THE_START = {
    "session": SID,
    "source": "street world",
    "broker": "memory",
    "teacher": {"name": "blocks-teacher", "parameters": 1234},
}


async def write(broker: Broker, *entries: ClipScore | PhaseRecord, **state: str) -> None:
    """What a trainer writes."""
    for entry in entries:
        kind = "clip" if isinstance(entry, ClipScore) else "phase"
        await broker.scores.append(SID, kind, entry.model_dump_json().encode())
    await broker.directory.update(SID, state)


def gather(feed: Feed, broker: Broker, *entries: ClipScore | PhaseRecord, **state: str) -> None:
    """Write, and have the feed look."""

    async def run() -> None:
        await write(broker, *entries, **state)
        await feed._gather()

    asyncio.run(run())


def state_of(feed: Feed, *, frames: int = 0, phases: int = 0, links: int = 0) -> dict[str, Any]:
    """What a page gets that knows so much, as JSON that a browser reads."""
    text = json.dumps(feed.state(frames=frames, phases=phases, links=links), allow_nan=False)
    state: dict[str, Any] = json.loads(text)
    return state


def stats(sent_s: float, **more: Any) -> str:
    return json.dumps({"sent_ns": round(sent_s * 1e9), "uplink_kbps": 80.0, "downlink_kbps": 16.0, **more})


def away(broker: Broker) -> MemoryConnection:
    connection = broker.connection
    assert isinstance(connection, MemoryConnection)
    connection.go_away()
    return connection


# -- lists -----------------------------------------------------------------------------------------------------


def test_a_tail_gives_what_came_after_what_is_known() -> None:
    tail = Tail()
    assert (len(tail), tail.after(0)) == (0, [])
    for number in range(4):
        tail.add({"n": number})
    assert [entry["n"] for entry in tail.after(0)] == [0, 1, 2, 3]
    assert [entry["n"] for entry in tail.after(3)] == [3]
    assert tail.after(4) == []


def test_a_tail_drops_its_beginning_but_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ams.demo.feed, "MAX_POINTS", 3)
    tail = Tail()
    for number in range(10):
        tail.add({"n": number})
    assert len(tail) == 10
    assert [entry["n"] for entry in tail.after(0)] == [7, 8, 9]
    assert [entry["n"] for entry in tail.after(8)] == [8, 9]
    assert tail.after(10) == []


# -- before anything happens -----------------------------------------------------------------------------------


def test_before_anything_happens_the_page_knows_whom_it_shows(feed: Feed, student: ModelBundle) -> None:
    state = state_of(feed)
    assert {name: state[name] for name in KNOWN_FROM_THE_START} == KNOWN_FROM_THE_START
    assert state["student"] == {
        "name": "blocks-student", "weights": student.layout.size, "classes": ["sky", "building", "road", "car"],
        "palette": [[70, 130, 180], [190, 120, 90], [128, 64, 128], [220, 40, 60]],
    }  # fmt: skip
    assert state["counts"] == {"frames": 0, "phases": 0, "links": 0}
    assert (state["frames"], state["phases"], state["links"], state["scenes"]) == ([], [], [], [])
    assert (state["device"], state["controllers"], state["moment"]) == (None, None, None)
    assert state["last_minute"] == {"adapted": None, "unadapted": None}
    assert (state["now_s"], state["trouble"], state["reset"]) == (0.0, "", False)
    assert set(state["totals"].values()) == {0}


def test_only_the_classes_that_count_are_named(feed: Feed, broker: Broker, student: ModelBundle) -> None:
    card = student.card.model_copy(update={"subset": ("road", "car")})
    some = ModelBundle(card, student.graph, student.weights)
    subject = Subject(SID, "", "", some, "t", 1)
    assert subject.as_json()["student"]["classes"] == ["road", "car"]
    assert subject.as_json()["student"]["palette"] == [[128, 64, 128], [220, 40, 60]]


# -- deltas ----------------------------------------------------------------------------------------------------


def test_a_page_gets_every_entry_once(feed: Feed, broker: Broker) -> None:
    gather(feed, broker, score(1, start_s=50.0), phase(53.0), stats=stats(1.0))
    state = state_of(feed)
    assert state["counts"] == {"frames": 3, "phases": 1, "links": 1}
    assert state["frames"] == [{"t_s": t_s, "adapted": 0.8, "unadapted": 0.5, "version": 0} for t_s in (0.0, 1.0, 2.0)]
    (sent,) = state["phases"]
    assert sent == {**phase(53.0).model_dump(), "t_s": 3.0}
    assert state["links"] == [{"t_s": 50.0, "up_kbps": 80.0, "down_kbps": 16.0}]
    assert not state["reset"]

    state = state_of(feed, frames=3, phases=1, links=1)
    assert (state["frames"], state["phases"], state["links"]) == ([], [], [])
    gather(feed, broker, score(2, start_s=60.0), phase(63.0))
    state = state_of(feed, **state["counts"])
    assert [frame["t_s"] for frame in state["frames"]] == [10.0, 11.0, 12.0]
    assert [entry["t_s"] for entry in state["phases"]] == [13.0]
    assert state["links"] == []
    assert state["counts"] == {"frames": 6, "phases": 2, "links": 1}


@pytest.mark.parametrize("known", [{"frames": 4}, {"phases": 2}, {"links": 2}, {"frames": 10**12, "phases": 1}])
def test_a_page_that_knows_more_than_there_is_begins_anew(feed: Feed, broker: Broker, known: dict[str, int]) -> None:
    gather(feed, broker, score(1), phase(3.0), stats=stats(1.0))
    state = state_of(feed, **known)
    assert state["reset"]
    assert (len(state["frames"]), len(state["phases"]), len(state["links"])) == (3, 1, 1)
    assert not state_of(feed, **state["counts"])["reset"]


def test_a_page_that_was_away_for_hours_gets_what_is_kept(
    feed: Feed, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ams.demo.feed, "MAX_POINTS", 4)
    gather(feed, broker, *(score(number, start_s=10.0 * number) for number in range(5)))
    state = state_of(feed, frames=1)
    assert state["counts"]["frames"] == 15
    assert [frame["t_s"] for frame in state["frames"]] == [32.0, 40.0, 41.0, 42.0]
    assert not state["reset"]


# -- times -----------------------------------------------------------------------------------------------------


def test_time_begins_with_the_first_preview_header(feed: Feed, broker: Broker, clock: HandClock) -> None:
    feed.hear({"t_s": 40.0, "caption": "day"})
    gather(feed, broker, score(1, start_s=45.0))
    clock.at_s = 62.5
    state = state_of(feed)
    assert state["now_s"] == 22.5
    assert [frame["t_s"] for frame in state["frames"]] == [5.0, 6.0, 7.0]
    assert state["scenes"] == [{"t_s": 0.0, "name": "day"}]


def test_time_begins_with_the_first_frame_where_there_is_no_preview(
    feed: Feed, broker: Broker, clock: HandClock
) -> None:
    gather(feed, broker, score(1, start_s=80.0))
    feed.hear({"t_s": 90.0, "caption": "day"})
    state = state_of(feed)
    assert state["now_s"] == 20.0
    assert state["frames"][0]["t_s"] == 0.0
    assert state["scenes"] == [{"t_s": 10.0, "name": "day"}]


def test_a_scene_is_noted_when_it_begins(feed: Feed) -> None:
    for t_s, name in ((1.0, "day"), (2.0, "day"), (3.0, ""), (4.0, "dusk"), (5.0, "dusk"), (6.0, "day")):
        feed.hear({"t_s": t_s, "caption": name})
    feed.hear({"t_s": 7.0})
    assert [(scene["t_s"], scene["name"]) for scene in state_of(feed)["scenes"]] == [
        (0.0, "day"), (3.0, "dusk"), (5.0, "day"),
    ]  # fmt: skip


def test_only_the_newest_scenes_are_kept(feed: Feed) -> None:
    for number in range(SCENES + 7):
        feed.hear({"t_s": float(number), "caption": f"scene {number}"})
    scenes = state_of(feed)["scenes"]
    assert len(scenes) == SCENES
    assert (scenes[0]["name"], scenes[-1]["name"]) == ("scene 7", f"scene {SCENES + 6}")


# -- figures ---------------------------------------------------------------------------------------------------


def test_what_has_no_value_stays_without_one(feed: Feed, broker: Broker) -> None:
    frames = (
        FrameScore(seq=0, t_s=1.0, version=9, adapted=None, unadapted=0.4),
        FrameScore(seq=1, t_s=2.0, version=0, adapted=None, unadapted=None),
    )
    gather(feed, broker, ClipScore(clip_id=name_of(1), frames=frames, unscored=1))
    state = state_of(feed)
    assert [(frame["adapted"], frame["unadapted"]) for frame in state["frames"]] == [(None, 0.4), (None, None)]
    assert state["last_minute"] == {"adapted": None, "unadapted": None}


def test_the_last_minute_forgets_what_was_before(feed: Feed, broker: Broker) -> None:
    old = ClipScore(clip_id=name_of(1), frames=(FrameScore(seq=0, t_s=1.0, version=0, adapted=0.1, unadapted=0.1),))
    gather(feed, broker, old, score(2, start_s=100.0))
    assert state_of(feed)["last_minute"] == {"adapted": pytest.approx(0.8), "unadapted": pytest.approx(0.5)}


def test_bytes_are_added_up_over_the_time_that_the_device_names(feed: Feed, broker: Broker, clock: HandClock) -> None:
    gather(feed, broker, stats=stats(10.0))
    assert state_of(feed)["totals"]["bytes_up"] == 0, "nobody knows since when"
    gather(feed, broker, stats=stats(12.0))
    gather(feed, broker, stats=stats(12.0))
    totals = state_of(feed)["totals"]
    assert (totals["bytes_up"], totals["bytes_down"]) == (20_000, 4_000), "2 s of 80 and 16 kbps"
    assert state_of(feed)["counts"]["links"] == 2, "the same report counts once"


def test_a_device_that_begins_anew_does_not_take_bytes_back(feed: Feed, broker: Broker) -> None:
    for sent_s in (100.0, 102.0, 1.0, 3.0):
        gather(feed, broker, stats=stats(sent_s))
    assert state_of(feed)["totals"]["bytes_up"] == 40_000


def test_totals_are_those_of_the_record(feed: Feed, broker: Broker) -> None:
    gather(feed, broker, phase(1.0), phase(2.0, published=False), digest_mismatches="2")
    totals = state_of(feed)["totals"]
    assert (totals["phases"], totals["phases_published"], totals["digest_mismatches"]) == (2, 1, 2)


def test_of_the_device_the_preview_knows_best_and_the_reports_the_rest(feed: Feed, broker: Broker) -> None:
    gather(feed, broker, stats=stats(1.0, version=2, camera_fps=30.0, inference_fps=29.0, frames_late=4, swap_ms=8.0))
    device = state_of(feed)["device"]
    assert (device["version"], device["inference_fps"], device["frames_late"]) == (2, 29.0, 4)
    feed.hear({"t_s": 1.0, "version": 3, "fps": 28, "latency_ms": 21.5, "late": 5, "dropped": 1})
    device = state_of(feed)["device"]
    assert (device["version"], device["inference_fps"], device["frames_late"], device["frames_dropped"]) == (
        3,
        28,
        5,
        1,
    )
    assert (device["camera_fps"], device["latency_ms"], device["swap_ms"]) == (30.0, 21.5, 8.0)
    assert device["clips_dropped"] is None


def test_controllers_are_shown_once_they_have_decided(feed: Feed, broker: Broker) -> None:
    rates = json.dumps({"sampling_hz": 0.8, "clip_interval_s": 6.0, "uplink_kbps": 200.0})
    gather(feed, broker, score(1, phi=None), rates=rates)
    assert state_of(feed)["controllers"] == {
        "sampling_hz": 0.8, "clip_interval_s": 6.0, "training_interval_s": 6.0, "phi": None,
        "uplink_budget_kbps": 200.0,
    }  # fmt: skip
    gather(feed, broker, score(2, phi=0.62), score(3, phi=None), snapshot=json.dumps({"interval_s": 9.0}))
    controllers = state_of(feed)["controllers"]
    assert (controllers["training_interval_s"], controllers["phi"]) == (9.0, 0.62), "the last phi that there was"


# -- moments ---------------------------------------------------------------------------------------------------


def add_clips(broker: Broker, *clips: LabelledClip) -> list[str]:
    """Write labelled clips; returns their entry ids."""

    async def run() -> list[str]:
        return [await broker.labelled.append(clip) for clip in clips]

    return asyncio.run(run())


def test_a_scored_clip_becomes_moments(feed: Feed, broker: Broker, student: ModelBundle, clock: HandClock) -> None:
    (entry,) = add_clips(broker, labelled(1, student))
    gather(feed, broker, score(1, start_s=90.0), scored=entry)
    moment = state_of(feed)["moment"]
    assert (moment["t_s"], moment["version"]) == (0.0, 0)
    assert moment["adapted"] == moment["unadapted"]
    assert feed.reel.find(moment["id"]) is not None
    clock.at_s += 2.0
    assert state_of(feed)["moment"]["t_s"] == 2.0


def test_moments_show_the_version_that_ran(feed: Feed, broker: Broker, student: ModelBundle) -> None:
    weights = other_weights(student, 1)

    async def publish() -> None:
        await broker.patches.append(SID, patch_entry(student, (0, student.version0), (1, weights)))

    (entry,) = add_clips(broker, labelled(1, student))
    asyncio.run(publish())
    gather(feed, broker, score(1, versions=(1, 1, 8)), scored=entry)
    moment = state_of(feed)["moment"]
    assert moment["version"] == 1
    assert moment["adapted"] != moment["unadapted"]
    unknown = feed.reel.find(f"{name_of(1)}-2")
    assert unknown is not None
    assert unknown.adapted is None


def test_a_clip_waits_for_its_score_and_those_after_it_wait_too(
    feed: Feed, broker: Broker, student: ModelBundle
) -> None:
    entries = add_clips(broker, labelled(1, student), labelled(2, student))
    gather(feed, broker, score(2, start_s=10.0))
    assert state_of(feed)["moment"] is None, "nobody has come past the first clip"
    gather(feed, broker, score(1), scored=entries[1])
    assert feed.reel.find(f"{name_of(1)}-0") is not None
    assert feed.reel.find(f"{name_of(2)}-0") is not None


def test_a_clip_that_never_gets_a_score_is_passed_over(feed: Feed, broker: Broker, student: ModelBundle) -> None:
    entries = add_clips(broker, labelled(1, student), labelled(2, student))
    gather(feed, broker, score(2), scored=entries[1])
    assert feed.reel.find(f"{name_of(1)}-0") is None
    assert feed.reel.find(f"{name_of(2)}-0") is not None


def test_a_clip_that_the_labeler_could_not_use_is_passed_over(feed: Feed, broker: Broker, student: ModelBundle) -> None:
    spoilt = LabelledClip(SID, name_of(1), b"{}", b"", b"", error="truncated clip")
    add_clips(broker, spoilt, labelled(2, student))
    gather(feed, broker, score(2))
    assert feed.reel.find(f"{name_of(2)}-0") is not None


def rubbish(student: ModelBundle) -> dict[str, LabelledClip]:
    clip = labelled(1, student)
    small = np.zeros((1, 32, 64), np.uint8)
    return {
        "no header": replace(clip, meta=b"not json"),
        "no video": replace(clip, payload=b"rubbish"),
        "no labels": replace(clip, labels=b"rubbish"),
        "too few labels": replace(clip, labels=labelled(1, student, count=1, labels=small).labels),
    }


@pytest.mark.parametrize("what", ["no header", "no video", "no labels", "too few labels"])
def test_a_clip_that_is_rubbish_is_passed_over(feed: Feed, broker: Broker, student: ModelBundle, what: str) -> None:
    entries = add_clips(broker, rubbish(student)[what], labelled(2, student))
    gather(feed, broker, score(1), score(2, start_s=10.0), scored=entries[1])
    assert feed.reel.find(f"{name_of(1)}-0") is None
    assert feed.reel.find(f"{name_of(2)}-0") is not None
    assert state_of(feed)["counts"]["frames"] == 6, "its scores are shown all the same"


def test_a_clip_that_is_labelled_twice_is_shown_once(feed: Feed, broker: Broker, student: ModelBundle) -> None:
    clip = labelled(1, student)
    entries = add_clips(broker, clip, clip, labelled(2, student))
    gather(feed, broker, score(1), score(2, start_s=10.0), scored=entries[2])
    assert len(feed.reel._waiting) == 6


def test_scores_whose_clips_are_gone_do_not_pile_up(feed: Feed, broker: Broker) -> None:
    for number in range(30):
        gather(feed, broker, score(number))
    assert len(feed._scored) == MAX_WAITING_CLIPS


# -- a broker that is away -------------------------------------------------------------------------------------


def running(feed: Feed, scenario: Callable[[Callable[..., Any]], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `scenario(until)` while the feed gathers without a pause; `until` waits for something to become true."""
    monkeypatch.setattr(ams.demo.feed, "POLL_S", 0.0)

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            assert not gathering.done(), "the feed has given up"
            await asyncio.sleep(0)

    async def run() -> None:
        nonlocal gathering
        gathering = asyncio.create_task(feed.run())
        async with asyncio.timeout(20):
            await scenario(until)
        gathering.cancel()
        await asyncio.wait([gathering])
        assert gathering.cancelled()

    gathering: asyncio.Task[None]
    asyncio.run(run())


def test_a_broker_that_is_away_is_said_and_forgotten_when_it_is_back(
    feed: Feed, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(until: Callable[..., Any]) -> None:
        await write(broker, score(1))
        await until(lambda: state_of(feed)["counts"]["frames"] == 3)
        assert state_of(feed)["trouble"] == ""
        connection = away(broker)
        await until(lambda: state_of(feed)["trouble"] != "")
        assert state_of(feed)["trouble"].startswith("the broker is away, the camera goes on: ")
        assert state_of(feed)["counts"]["frames"] == 3, "what is known is still shown"
        connection.come_back()
        await write(broker, score(2, start_s=10.0))
        await until(lambda: state_of(feed)["counts"]["frames"] == 6)
        await until(lambda: state_of(feed)["trouble"] == "")

    running(feed, scenario, monkeypatch)


@pytest.mark.parametrize("operation", range(1, 6))
def test_wherever_the_broker_goes_away_nothing_is_lost_and_nothing_doubled(
    feed: Feed, broker: Broker, student: ModelBundle, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    """One look asks the broker a few times; each time may be the one that fails."""
    connection = broker.connection
    assert isinstance(connection, MemoryConnection)
    (entry,) = add_clips(broker, labelled(1, student))
    asyncio.run(write(broker, score(1), phase(3.0), scored=entry, stats=stats(1.0)))
    reach, calls = connection.reach, 0

    async def reach_but_once() -> None:
        nonlocal calls
        calls += 1
        if calls == operation:
            connection.go_away()
        try:
            await reach()
        finally:
            connection.come_back()

    monkeypatch.setattr(connection, "reach", reach_but_once)

    async def scenario(until: Callable[..., Any]) -> None:
        await until(lambda: calls > 12)
        await until(lambda: feed.reel.find(f"{name_of(1)}-2") is not None)

    running(feed, scenario, monkeypatch)
    state = state_of(feed)
    assert state["counts"] == {"frames": 3, "phases": 1, "links": 1}
    assert len(feed.reel._waiting) + (state["moment"] is not None) == 3
    assert state["trouble"] == ""
