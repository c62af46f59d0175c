"""The labeler on a memory broker: right labels, unusable clips, poison, repetition, a broker that goes away."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from ams.broker.memory_connection import MemoryConnection
from ams.core.label_map import LabelMaps
from ams.core.messages import Clip
from ams.core.preprocess import FramesNHWC
from ams.errors import ModelError
from ams.ports import QueuedClip
from services.labeler.__main__ import main
from services.labeler.teacher import Teacher
from tests.services.labeler.conftest import DEADLINE_S, SID, Bench, labels_of, student_bundle, teacher_bundle

pytestmark = pytest.mark.anyio


class Picky(Teacher):
    """Fails on frames that are white."""

    def label(self, frames_NHWC: FramesNHWC) -> LabelMaps:
        if (frames_NHWC.min(axis=(1, 2, 3)) > 240).any():
            raise ModelError("white is no colour")
        return super().label(frames_NHWC)


class Broken(Teacher):
    """Works once, when it is opened."""

    opened = False

    def label(self, frames_NHWC: FramesNHWC) -> LabelMaps:
        if self.opened:
            raise ModelError("out of memory")
        self.opened = True
        return super().label(frames_NHWC)


def away(bench: Bench) -> MemoryConnection:
    assert isinstance(bench.broker.connection, MemoryConnection)
    return bench.broker.connection


async def test_labels_are_in_the_students_classes_and_size(bench: Bench) -> None:
    small = student_bundle(("sky", "blue", "red"), width=32, height=16, name="small")
    bench.store.put(small)
    clip = bench.clip("red", "green", "blue", model_id=small.model_id, width=128, height=48, own=b"device labels")
    await bench.admit(clip)
    async with bench.running():
        (labelled,) = await bench.labelled(1)
        await bench.drained()
    labels = labels_of(labelled)
    assert labels.shape == (3, 16, 32)
    assert [set(np.unique(labels_HW)) for labels_HW in labels] == [{2}, {255}, {1}]
    assert (labelled.sid, labelled.clip_id, labelled.error) == (clip.sid, clip.clip_id, "")
    assert (labelled.meta, labelled.payload) == (clip.meta, clip.payload)


@pytest.mark.parametrize("dynamic", [True, False])
async def test_clips_of_many_sessions_are_labelled_together(bench: Bench, dynamic: bool) -> None:
    bench.teacher = teacher_bundle(dynamic=dynamic)
    await bench.admit(*(bench.clip("red", "blue", "red", sid=f"cam{n}/cam0") for n in range(5)))
    async with bench.running(batch_wait_s=0.3, batch=5):
        for n in range(5):
            (labelled,) = await bench.labelled(1, f"cam{n}/cam0")
            assert [int(labels_HW[0, 0]) for labels_HW in labels_of(labelled)] == [1, 0, 1]
    assert bench.sample("ams_labeler_batch_frames_count") == 3, "15 frames in batches of 5"
    assert bench.sample("ams_labeler_frames_total") == 15
    assert bench.sample("ams_labeler_clips_total", result="labelled") == 5


async def test_a_batch_that_is_not_full_does_not_wait_for_ever(bench: Bench) -> None:
    async with bench.running(batch=64):
        await bench.admit(bench.clip("red"))
        await bench.labelled(1)


async def test_arrival_order_is_kept(bench: Bench) -> None:
    clips = [bench.clip("red", "blue") for _ in range(6)]
    await bench.admit(*clips)
    async with bench.running(batch=3):
        labelled = await bench.labelled(6)
    assert [item.clip_id for item in labelled] == [clip.clip_id for clip in clips]


async def test_the_owner_is_rung_after_the_clip_is_written(bench: Bench) -> None:
    await bench.broker.leases.acquire(SID, "trainer", ttl_s=60)
    await bench.admit(bench.clip("red"))
    async with bench.running():
        assert await bench.broker.bell.wait("trainer", wait_s=5) == {SID}
        assert len(await bench.broker.labelled.read(SID)) == 1


def with_header(clip: QueuedClip, meta: bytes) -> QueuedClip:
    return QueuedClip(clip.sid, clip.clip_id, meta, clip.payload)


def bad_clips(bench: Bench) -> dict[str, tuple[QueuedClip, str]]:
    """A clip of each kind that cannot be used, and a word of what is said about it."""
    good = bench.clip("red", "blue")
    animals = student_bundle(("cat", "dog"), name="animals")
    bench.store.put(animals)
    header = Clip.model_validate_json(good.meta)
    longer = header.model_copy(
        update={"frames": (*header.frames, header.frames[-1].model_copy(update={"t_ns": 9**12}))}
    )
    return {
        "truncated": (bench.clip("red", "blue", cut=60), "clip"),
        "empty": (bench.clip("red", cut=0), "0 bytes"),
        "wrong size": (bench.clip("red", claimed=(48, 32)), "48x32"),
        "fewer frames": (with_header(bench.clip("red", "blue"), longer.model_dump_json().encode()), "promised were 3"),
        "shorter than its labels": (bench.clip("red", cut=0, own=b"labels"), "label map"),
        "unknown codec": (bench.clip("red", codec="av1"), "av1"),
        "no header": (with_header(bench.clip("red"), b"{"), "header is malformed"),
        "bad header": (with_header(bench.clip("red"), b'{"type":"clip"}'), "stream"),
        "unknown student": (bench.clip("red", model_id="f" * 64), "ffffffffffff"),
        "a teacher as student": (bench.clip("red", model_id=bench.teacher.model_id), "student"),
        "no class in common": (bench.clip("red", model_id=animals.model_id), "animals"),
        "too many pixels": (bench.clip("red", "red", "red", "red"), "pixels"),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "truncated", "empty", "wrong size", "fewer frames", "shorter than its labels", "unknown codec", "no header",
        "bad header", "unknown student", "a teacher as student", "no class in common", "too many pixels",
    ],
)  # fmt: skip
async def test_a_clip_that_cannot_be_used_is_said_and_the_stream_goes_on(bench: Bench, kind: str) -> None:
    bad, word = bad_clips(bench)[kind]
    await bench.broker.directory.update(SID, {"gateway": "g1"})
    good = bench.clip("red")
    await bench.admit(bad, good)
    async with bench.running(max_clip_pixels=3 * 64 * 32):
        labelled = await bench.labelled(2)
        await bench.drained()
        assert await bench.broker.bell.wait("g1", wait_s=1) == {SID}
    by_id = {item.clip_id: item for item in labelled}
    assert word in by_id[bad.clip_id].error
    assert (by_id[bad.clip_id].labels, by_id[bad.clip_id].payload) == (b"", b"")
    assert by_id[good.clip_id].error == ""
    notice = json.loads((await bench.broker.directory.state(SID))["notice"])
    assert (notice["code"], notice["clip_id"]) == ("clip", bad.clip_id)
    assert word in notice["text"]
    assert "/" not in notice["text"].replace("clip/", ""), "a device need not know the labeler's directories"
    assert bench.sample("ams_labeler_clips_total", result="unusable") == 1


async def test_a_class_map_error_names_both_models(bench: Bench) -> None:
    bad, _ = bad_clips(bench)["no class in common"]
    await bench.admit(bad)
    async with bench.running():
        (labelled,) = await bench.labelled(1)
    assert "colours" in labelled.error
    assert "animals" in labelled.error
    assert "cat, dog" in labelled.error


async def test_a_clip_that_the_teacher_fails_on_is_buried_and_harms_no_other(bench: Bench) -> None:
    poison, *others = bench.clip("white"), bench.clip("red", "blue"), bench.clip("blue", sid="other/cam0")
    await bench.admit(others[0], poison, others[1])
    async with bench.running(Picky(bench.teacher, 1), reclaim_idle_s=0.05, max_deliveries=3, batch_wait_s=0.2):
        labelled = await bench.labelled(2)
        await bench.labelled(1, "other/cam0")
        await bench.drained()
    assert [(item.clip_id, bool(item.error)) for item in labelled] == [
        (others[0].clip_id, False),
        (poison.clip_id, True),
    ]
    assert "white is no colour" in labelled[1].error
    (dead,) = bench.queue.dead  # type: ignore[attr-defined]
    assert (dead.clip.clip_id, dead.clip.deliveries) == (poison.clip_id, 3)
    assert bench.sample("ams_labeler_clips_total", result="failed") == 2
    assert bench.sample("ams_labeler_clips_total", result="buried") == 1


async def test_a_clip_that_kills_labelers_is_buried(bench: Bench) -> None:
    await bench.admit(bench.clip("red"))
    await bench.queue.take("dead", count=1, wait_s=0)
    for n in range(2):
        await bench.queue.reclaim(f"dead{n}", count=1, idle_s=0)
    async with bench.running(reclaim_idle_s=0.05, max_deliveries=3):
        (labelled,) = await bench.labelled(1)
        await bench.drained()
    assert "3 tries" in labelled.error
    assert len(bench.queue.dead) == 1  # type: ignore[attr-defined]


async def test_a_teacher_that_fails_on_everything_ends_the_process_and_keeps_the_clips(bench: Bench) -> None:
    await bench.admit(bench.clip("red"))
    broken = bench.service(Broken(bench.teacher, 1))
    with pytest.raises(ModelError, match="out of memory"):
        await asyncio.wait_for(broken.run(), DEADLINE_S)
    assert await bench.queue.depth() == 1
    assert await bench.broker.labelled.read(SID) == []


async def test_what_a_dead_labeler_held_is_taken_over(bench: Bench) -> None:
    await bench.admit(bench.clip("red"))
    assert len(await bench.queue.take("dead", count=1, wait_s=0)) == 1
    async with bench.running(reclaim_idle_s=0.1):
        await bench.labelled(1)
        await bench.drained()


async def test_a_clip_that_is_queued_again_is_not_labelled_again(bench: Bench) -> None:
    clip = bench.clip("red")
    async with bench.running():
        await bench.admit(clip)
        await bench.labelled(1)
        await bench.drained()
        await bench.admit(clip)
        await bench.drained()
    assert len(await bench.broker.labelled.read(SID)) == 1
    assert bench.sample("ams_labeler_clips_total", result="repeated") == 1


async def test_a_broker_that_goes_away_costs_no_clip(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.labeler.service.FIRST_RETRY_S", 0.02)
    started, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class Slow(Teacher):
        """Waits until the broker has gone."""

        def label(self, frames_NHWC: FramesNHWC) -> LabelMaps:
            if frames_NHWC.any():
                loop.call_soon_threadsafe(started.set)
                asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
            return super().label(frames_NHWC)

    clips = [bench.clip("red"), bench.clip("blue")]
    await bench.admit(*clips)
    async with bench.running(Slow(bench.teacher, 1)):
        await started.wait()
        away(bench).go_away()
        go_on.set()
        await bench.until(lambda: bench.sample("ams_labeler_broker_errors_total") >= 2)
        away(bench).come_back()
        labelled = await bench.labelled(2)
        await bench.drained()
    assert [item.clip_id for item in labelled] == [clip.clip_id for clip in clips]


async def test_stop_finishes_what_is_in_hand(bench: Bench) -> None:
    await bench.admit(*(bench.clip("red", "blue") for _ in range(4)))
    async with bench.running():
        await bench.labelled(1)
    assert await bench.queue.depth() == 0
    assert len(await bench.broker.labelled.read(SID)) == 4


async def test_stop_while_the_broker_is_away_gives_up_in_time(bench: Bench) -> None:
    async with bench.running(stop_s=0.05):
        away(bench).go_away()
        await bench.until(lambda: bench.sample("ams_labeler_broker_errors_total"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--teacher", "nobody"], "nobody"),
        (["--teacher", "student"], "imported as a student"),
        (["--teacher", "colours", "--batch", "0"], "--batch"),
        ([], "--teacher"),
    ],
)
def test_what_cannot_work_ends_with_code_2_and_one_line(
    bench: Bench, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--broker-url", "memory://x", "--models-dir", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith("labeler: ")
    assert said in error[0]
