"""The record of a run, read from a broker in memory: what is counted, what is averaged, what is kept, what is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

import ams.run_record
from ams.broker.memory import new_memory
from ams.broker.memory_connection import MemoryConnection
from ams.core.score import ClipScore, FrameScore, PhaseRecord
from ams.errors import BrokerUnavailableError
from ams.ports import Broker
from ams.run_record import RunRecord, summary

SID = "cam/cam0"


@pytest.fixture
def broker() -> Broker:
    return new_memory(now=lambda: 1_000.0)


@pytest.fixture
def record(broker: Broker) -> RunRecord:
    return RunRecord(broker, SID)


def frame(t_s: float, adapted: float | None = 0.8, unadapted: float | None = 0.5) -> FrameScore:
    return FrameScore(seq=round(t_s * 10), t_s=t_s, version=1, adapted=adapted, unadapted=unadapted)


def clip(name: str, *frames: FrameScore, unscored: int = 0, agreement: float | None = None) -> ClipScore:
    return ClipScore(clip_id=name, frames=frames or (frame(1.0),), unscored=unscored, agreement=agreement)


def phase(t_s: float, *, published: bool = True) -> PhaseRecord:
    return PhaseRecord(
        t_s=t_s, seconds=2.0, steps=12, loss_first=1.0, loss_last=0.5, gain=0.1, held_out=3, published=published,
        version=1,
    )  # fmt: skip


def write(broker: Broker, *entries: ClipScore | PhaseRecord, **state: str) -> None:
    """What a trainer writes: entries of the score log, then fields of the session's state."""

    async def run() -> None:
        for entry in entries:
            kind = "clip" if isinstance(entry, ClipScore) else "phase"
            await broker.scores.append(SID, kind, entry.model_dump_json().encode())
        await broker.directory.update(SID, state)

    asyncio.run(run())


def refresh(record: RunRecord) -> tuple[list[ClipScore], list[PhaseRecord]]:
    return asyncio.run(record.refresh())


# -- reading ---------------------------------------------------------------------------------------------------


def test_what_is_new_is_given_out_once_in_order_of_arrival(broker: Broker, record: RunRecord) -> None:
    assert refresh(record) == ([], [])
    write(broker, clip("b"), phase(3.0), clip("a"))
    assert refresh(record) == ([clip("b"), clip("a")], [phase(3.0)])
    assert refresh(record) == ([], [])
    write(broker, clip("c"))
    assert refresh(record) == ([clip("c")], [])
    assert record.clips == [clip("b"), clip("a"), clip("c")]


def test_a_clip_that_is_scored_twice_counts_once(broker: Broker, record: RunRecord) -> None:
    score = clip("a", frame(1.0), frame(2.0, adapted=None), unscored=1)
    write(broker, score, score)
    assert refresh(record)[0] == [score]
    write(broker, score, clip("b"))
    assert refresh(record)[0] == [clip("b")]
    assert (record.clip_count, record.scored_count, record.unscored_count) == (2, 2, 1)
    assert len(record.frames) == 3


def test_frames_lie_in_order_of_capture_though_clips_come_late(broker: Broker, record: RunRecord) -> None:
    write(broker, clip("late", frame(20.0), frame(21.0)), clip("early", frame(5.0), frame(6.0)))
    refresh(record)
    write(broker, clip("middle", frame(12.0)))
    refresh(record)
    assert [entry.t_s for entry in record.frames] == [5.0, 6.0, 12.0, 20.0, 21.0]


def test_phases_are_counted_and_so_are_those_that_were_published(broker: Broker, record: RunRecord) -> None:
    write(broker, phase(1.0), phase(2.0, published=False), phase(3.0))
    refresh(record)
    assert (record.phase_count, record.published_count) == (3, 2)


def test_clips_seen_are_those_scored_and_those_that_could_not_be_used(broker: Broker, record: RunRecord) -> None:
    assert record.clips_seen == 0
    write(broker, clip("a"), clip("b"), unusable_clips="3")
    refresh(record)
    assert record.clips_seen == 5


def test_a_broker_that_is_away_costs_nothing_that_was_known(broker: Broker, record: RunRecord) -> None:
    write(broker, clip("a"), stats='{"version": 4}')
    refresh(record)
    connection = broker.connection
    assert isinstance(connection, MemoryConnection)
    connection.go_away()
    with pytest.raises(BrokerUnavailableError):
        refresh(record)
    assert record.clips == [clip("a")]
    assert record.stats == {"version": 4}
    connection.come_back()
    write(broker, clip("b"))
    assert refresh(record)[0] == [clip("b")]


@pytest.mark.parametrize("part", ["scores", "directory"])
def test_a_broker_that_goes_away_between_two_questions_costs_no_news(broker: Broker, part: str) -> None:
    """Whoever asks again gets everything: nothing may be noted as told before it is."""

    class Once:
        """A port that fails the first time."""

        def __init__(self) -> None:
            self.failed = False

        def __getattr__(self, name: str) -> object:
            if not self.failed:
                self.failed = True
                raise BrokerUnavailableError("away")
            return getattr(getattr(broker, part), name)

    write(broker, clip("a"), phase(1.0), digest_mismatches="1")
    record = RunRecord(replace(broker, **{part: Once()}), SID)
    with pytest.raises(BrokerUnavailableError):
        refresh(record)
    assert refresh(record) == ([clip("a")], [phase(1.0)])
    assert record.state["digest_mismatches"] == "1"
    assert record.clip_count == 1


def test_the_state_never_knows_more_than_the_scores(broker: Broker) -> None:
    """The state says up to where clips are scored; their scores must be known by then."""

    class Busy:
        """A trainer scores a clip right after the log was read."""

        def __getattr__(self, name: str) -> object:
            return getattr(broker.scores, name)

        async def read(self, sid: str, *, after: str = "") -> object:
            entries = await broker.scores.read(sid, after=after)
            await broker.scores.append(SID, "clip", clip("new").model_dump_json().encode())
            await broker.directory.update(SID, {"scored": "7-0"})
            return entries

    record = RunRecord(replace(broker, scores=Busy()), SID)  # type: ignore[arg-type]
    clips, _ = refresh(record)
    assert not clips
    assert "scored" not in record.state


# -- figures ---------------------------------------------------------------------------------------------------


def test_miou_is_the_mean_over_the_last_seconds_of_stream(broker: Broker, record: RunRecord) -> None:
    write(broker, clip("a", *(frame(t, adapted=t / 100, unadapted=0.1) for t in (10.0, 20.0, 30.0, 40.0, 50.0))))
    refresh(record)
    assert record.miou("adapted", last_s=20) == pytest.approx(0.45), "of 40 and 50: 30 is just too old"
    assert record.miou("adapted") == pytest.approx(0.40), "30 s if nothing else is asked for"
    assert record.miou("adapted", last_s=1000) == pytest.approx(0.30)
    assert record.miou("unadapted", last_s=20) == pytest.approx(0.1)


def test_both_students_are_judged_on_the_same_frames(broker: Broker, record: RunRecord) -> None:
    write(
        broker,
        clip("a", frame(1.0, None, 0.1), frame(2.0, 0.6, 0.4), frame(3.0, 0.9, None), frame(4.0, 0.8, 0.5)),
    )
    refresh(record)
    assert record.miou("adapted") == pytest.approx(0.7)
    assert record.miou("unadapted") == pytest.approx(0.45)


def test_without_a_frame_of_both_there_is_no_miou(broker: Broker, record: RunRecord) -> None:
    assert record.miou("adapted") is None
    write(broker, clip("a", frame(1.0, None, 0.4), frame(2.0, 0.9, None)))
    refresh(record)
    assert record.miou("adapted") is None
    assert record.miou("unadapted") is None


# -- bounds ----------------------------------------------------------------------------------------------------


def test_of_a_long_run_the_newest_is_kept_and_the_rest_counted(
    broker: Broker, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ams.run_record, "MAX_FRAMES", 5)
    monkeypatch.setattr(ams.run_record, "MAX_CLIPS", 3)
    monkeypatch.setattr(ams.run_record, "MAX_PHASES", 2)
    for number in range(10):
        write(broker, clip(f"c{number}", frame(10.0 * number), frame(10.0 * number + 1)), phase(float(number)))
        refresh(record)
    assert [entry.t_s for entry in record.frames] == [71.0, 80.0, 81.0, 90.0, 91.0]
    assert [entry.clip_id for entry in record.clips] == ["c7", "c8", "c9"]
    assert [entry.t_s for entry in record.phases] == [8.0, 9.0]
    assert len(record._clip_ids) == 3
    assert (record.clip_count, record.scored_count, record.phase_count, record.published_count) == (10, 20, 10, 10)


def test_the_bounds_hold_when_everything_comes_at_once(
    broker: Broker, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ams.run_record, "MAX_FRAMES", 3)
    monkeypatch.setattr(ams.run_record, "MAX_CLIPS", 2)
    write(broker, *(clip(f"c{number}", frame(float(9 - number))) for number in range(9)))
    assert len(refresh(record)[0]) == 9
    assert [entry.t_s for entry in record.frames] == [7.0, 8.0, 9.0], "the newest in time, not the last to come"
    assert len(record.clips) == 2


# -- telling ---------------------------------------------------------------------------------------------------


def test_the_line_waits_for_the_first_labels(broker: Broker, record: RunRecord) -> None:
    assert record.line() == (
        "mIoU: waiting for the first labels | up     0 kbps, down     0 kbps | camera  0.0 fps, inference  0.0 fps"
        " | version 0 | 0 of 0 phases published"
    )
    write(broker, clip("a", frame(1.0, None, 0.3)))
    refresh(record)
    assert record.line().startswith("mIoU: waiting for the first labels | ")


def test_the_line_tells_accuracy_rates_and_phases(broker: Broker, record: RunRecord) -> None:
    stats = {"uplink_kbps": 101.4, "downlink_kbps": 42.0, "camera_fps": 30.0, "inference_fps": 29.96, "version": 3}
    write(
        broker, clip("a", frame(1.0, 0.2, 0.2), frame(40.0, 0.8125, 0.5)), phase(2.0), phase(3.0, published=False),
        stats=json.dumps(stats),
    )  # fmt: skip
    refresh(record)
    assert record.line() == (
        "mIoU  81.2 adapted,  50.0 unadapted | up   101 kbps, down    42 kbps | camera 30.0 fps, inference 30.0 fps"
        " | version 3 | 1 of 2 phases published"
    )
    assert record.line(last_s=100).startswith("mIoU  50.6 adapted,  35.0 unadapted | ")


KEYS = {
    "adapted_miou", "unadapted_miou", "camera_fps", "inference_fps", "frames", "inferences", "frames_late",
    "frames_dropped", "late_share", "latency_p50_ms", "latency_p95_ms", "uplink_kbps", "downlink_kbps", "patches",
    "digest_mismatches", "patches_refused", "version", "phases", "phases_published", "clips", "frames_scored",
    "frames_unscored", "device_agreement", "stream_s",
}  # fmt: skip


def test_the_summary_is_complete_even_when_the_agent_said_nothing(record: RunRecord) -> None:
    figures = summary(record, {})
    assert set(figures) == KEYS
    unknown = {"adapted_miou", "unadapted_miou", "device_agreement"}
    assert {name for name, value in figures.items() if value is None} == unknown
    assert {value for name, value in figures.items() if name not in unknown} == {0}
    json.dumps(figures, allow_nan=False)


def test_the_summary_joins_what_the_agent_and_the_server_know(broker: Broker, record: RunRecord) -> None:
    write(
        broker, clip("a", frame(1.0, 0.81234, 0.5), agreement=0.99), clip("b", frame(2.0, 0.81234, None), unscored=2),
        clip("c", frame(3.0, 0.81234, 0.5), agreement=0.98), phase(1.0), digest_mismatches="2",
    )  # fmt: skip
    refresh(record)
    figures = summary(record, {"digest_mismatches": 1, "frames": 900, "camera_fps": 29.987, "stream_s": 30.04})
    assert set(figures) == KEYS
    assert (figures["adapted_miou"], figures["unadapted_miou"]) == (81.23, 50.0)
    assert figures["digest_mismatches"] == 3
    assert (figures["frames"], figures["camera_fps"], figures["stream_s"]) == (900, 29.99, 30.0)
    assert (figures["clips"], figures["frames_scored"], figures["frames_unscored"]) == (3, 3, 2)
    assert (figures["phases"], figures["phases_published"]) == (1, 1)
    assert figures["device_agreement"] == 0.985


def test_the_summary_is_over_as_many_seconds_as_asked_for(broker: Broker, record: RunRecord) -> None:
    write(broker, clip("a", frame(1.0, 0.2, 0.2), frame(40.0, 0.8, 0.6)))
    refresh(record)
    assert summary(record, {})["adapted_miou"] == 80.0
    assert summary(record, {}, last_s=60)["adapted_miou"] == 50.0
