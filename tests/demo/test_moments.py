"""Moments: what three networks say of one frame, and the reel that plays frames as far apart as they were."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

import ams.demo.moments
from ams.core import label_map
from ams.core.layout import IntVector
from ams.core.metrics import confusion, mean_iou
from ams.demo.moments import PICTURES, Moment, MomentMaker, MomentReel
from ams.errors import AmsError
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip, PatchEntry
from ams.video import decode_clip
from edge_agent.onnx_runtime import OnnxRuntimeStudent
from tests.blocks.street import CLASSES, PALETTE
from tests.demo.clips import STREET, labelled, other_weights, patch_entry, score


def moment(name: str, t_s: float) -> Moment:
    return Moment(name, t_s, 0, None, None, {})


def moments(first_s: float, count: int, *, every_s: float = 1.0) -> list[Moment]:
    """Moments of one clip, named after their capture times."""
    times_s = [first_s + every_s * index for index in range(count)]
    return [moment(f"{t_s:g}", t_s) for t_s in times_s]


def shown_at(reel: MomentReel, now_s: float) -> str | None:
    current = reel.advance(now_s)
    return None if current is None else current.id


# -- the reel --------------------------------------------------------------------------------------------------


def test_before_the_first_clip_there_is_nothing_to_look_at() -> None:
    reel = MomentReel()
    reel.add([], 5.0)
    assert reel.advance(10.0) is None
    assert reel.find("0") is None


def test_frames_are_shown_in_order_and_as_far_apart_as_they_were() -> None:
    reel = MomentReel()
    reel.add([moment("a", 3.0), moment("b", 3.5), moment("c", 7.0)], 100.0)
    seen = [shown_at(reel, now_s) for now_s in (99.9, 100.0, 100.4, 100.5, 103.9, 104.0, 200.0)]
    assert seen == [None, "a", "a", "b", "b", "c", "c"]


def test_a_clip_that_comes_early_waits_for_the_one_before() -> None:
    reel = MomentReel()
    reel.add(moments(0, 4), 100.0)  # until 103
    reel.add(moments(10, 2), 101.0)
    assert [shown_at(reel, now_s) for now_s in (101.5, 103.1, 103.21, 104.21)] == ["1", "3", "10", "11"]


def test_a_clip_that_comes_late_is_shown_at_once() -> None:
    reel = MomentReel()
    reel.add(moments(0, 2), 100.0)
    reel.add(moments(2, 2), 150.0)
    assert [shown_at(reel, now_s) for now_s in (149.0, 150.0, 151.0)] == ["1", "2", "3"]


def test_whoever_looks_seldom_sees_the_newest_that_is_due() -> None:
    reel = MomentReel()
    reel.add(moments(0, 10), 100.0)
    assert shown_at(reel, 106.5) == "6"


def test_the_reel_never_falls_further_behind_than_it_may() -> None:
    """Many clips at once, as after an outage: what cannot be shown in time is left out, the newest is not."""
    reel = MomentReel()
    for first in range(0, 200, 10):
        reel.add(moments(first, 10), 100.0)
    seen = [(now_s, float(shown_at(reel, now_s) or 0)) for now_s in np.arange(100.0, 145.0, 0.25)]
    assert [t_s for _, t_s in seen] == sorted(t_s for _, t_s in seen)
    first_of_last = next(now_s for now_s, t_s in seen if t_s >= 190)
    assert first_of_last <= 100.0 + MomentReel.LAG_S
    assert seen[-1][1] == 199


def test_not_even_a_long_clip_holds_up_the_next() -> None:
    reel = MomentReel()
    reel.add(moments(0, 60, every_s=2.0), 100.0)  # two minutes of frames
    reel.add(moments(500, 3), 110.0)
    assert shown_at(reel, 110.0 + MomentReel.LAG_S) == "500"
    assert shown_at(reel, 112.0 + MomentReel.LAG_S) == "502"


def test_the_newest_moments_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ams.demo.moments, "KEPT", 5)
    reel = MomentReel()
    reel.add(moments(0, 4), 100.0)
    reel.add(moments(10, 3), 105.0)
    assert [reel.find(name) is not None for name in ("0", "1", "2", "3", "10", "11", "12")] == [False] * 2 + [True] * 5


def test_what_is_on_screen_can_be_found() -> None:
    reel = MomentReel()
    for first in range(0, 100, 10):
        reel.add(moments(first, 10), 100.0 + first)
        for now_s in range(100 + first, 110 + first):
            current = reel.advance(now_s)
            assert current is not None
            assert reel.find(current.id) is current


# -- the maker -------------------------------------------------------------------------------------------------


@pytest.fixture
def maker(student: ModelBundle) -> MomentMaker:
    return MomentMaker(student)


def predicted(student: ModelBundle, weights: IntVector, frame_HWC: np.ndarray) -> np.ndarray:
    runtime = OnnxRuntimeStudent(student.card, student.graph, student.layout, student.layout.to_float(weights))
    return runtime.predict(frame_HWC)


def painted(labels_HW: np.ndarray) -> np.ndarray:
    """The picture of labels, RGBA."""
    colours = np.array([(*colour, 255) for colour in PALETTE], np.uint8)
    return colours[labels_HW]


def opened(picture: bytes) -> np.ndarray:
    """A PNG's pixels, RGBA."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def frames_of(clip: LabelledClip) -> np.ndarray:
    return decode_clip(clip.payload, codec="h264", frames=3, width=STREET.width, height=STREET.height)


def miou(labels_HW: np.ndarray, predicted_HW: np.ndarray) -> float:
    subset = tuple(range(len(CLASSES)))
    return mean_iou(confusion(labels_HW, predicted_HW, classes=len(CLASSES), subset=subset), subset)


def test_all_three_networks_see_the_frame_that_the_server_got(maker: MomentMaker, student: ModelBundle) -> None:
    clip = labelled(1, student)
    made = maker.make(clip, score(1))
    assert [(one.t_s, one.version) for one in made] == [(0.0, 0), (1.0, 0), (2.0, 0)]
    assert len({one.id for one in made}) == 3
    for index, one in enumerate(made):
        assert tuple(sorted(one.pictures)) == tuple(sorted(PICTURES))
        frame, truth = frames_of(clip)[index], STREET.labels(index)
        own = predicted(student, student.version0, frame)
        assert np.array_equal(opened(one.pictures["unadapted.png"]), painted(own))
        assert np.array_equal(opened(one.pictures["teacher.png"]), painted(truth))
        assert one.unadapted == pytest.approx(miou(truth, own))
        camera = cv2.imdecode(np.frombuffer(one.pictures["camera.jpg"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(camera.astype(int) - frame).mean() < 6


def test_version_0_is_adapted_and_unadapted_at_once(maker: MomentMaker, student: ModelBundle) -> None:
    for one in maker.make(labelled(1, student), score(1)):
        assert one.pictures["adapted.png"] == one.pictures["unadapted.png"]
        assert one.adapted == one.unadapted


def test_the_adapted_student_is_the_version_that_ran(maker: MomentMaker, student: ModelBundle) -> None:
    first, second = other_weights(student, 1), other_weights(student, 2)
    entries = [
        PatchEntry("takeover", 1, 0, 0),
        patch_entry(student, (0, student.version0), (1, first)),
        patch_entry(student, (1, first), (2, second)),
    ]
    maker.replay(entries[:2])
    maker.replay(entries[2:])
    clip = labelled(1, student)
    made = maker.make(clip, score(1, versions=(2, 0, 1)))
    assert [one.version for one in made] == [2, 0, 1]
    for index, weights in enumerate((second, student.version0, first)):
        frame, truth = frames_of(clip)[index], STREET.labels(index)
        adapted, unadapted = predicted(student, weights, frame), predicted(student, student.version0, frame)
        assert np.array_equal(opened(made[index].pictures["adapted.png"]), painted(adapted))
        assert np.array_equal(opened(made[index].pictures["unadapted.png"]), painted(unadapted))
        assert made[index].adapted == pytest.approx(miou(truth, adapted))
        assert made[index].unadapted == pytest.approx(miou(truth, unadapted))
    assert made[0].pictures["adapted.png"] != made[0].pictures["unadapted.png"]
    assert made[1].pictures["adapted.png"] == made[1].pictures["unadapted.png"]


def test_a_version_that_is_not_known_has_no_adapted_picture(maker: MomentMaker, student: ModelBundle) -> None:
    known, unknown, _ = maker.make(labelled(1, student), score(1, versions=(0, 7, 0)))
    assert known.adapted is not None
    assert unknown.version == 7
    assert unknown.adapted is None
    assert unknown.unadapted is not None
    assert set(unknown.pictures) == set(PICTURES) - {"adapted.png"}


def test_a_patch_that_does_not_fit_is_passed_over(
    maker: MomentMaker, student: ModelBundle, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = other_weights(student, 1), other_weights(student, 2)
    good = patch_entry(student, (0, student.version0), (1, first))
    maker.replay([dataclasses.replace(good, patch=b"rubbish", entry_id="1-1"),
                  patch_entry(student, (5, first), (6, second)), good])  # fmt: skip
    assert "entry 1-1 of the patch log cannot be shown" in caplog.text
    versions = [one.adapted is not None for one in maker.make(labelled(1, student), score(1, versions=(6, 1, 0)))]
    assert versions == [False, True, True]


def test_only_a_few_versions_are_kept_built_and_version_0_is_one_of_them(
    maker: MomentMaker, student: ModelBundle
) -> None:
    weights = [student.version0, *(other_weights(student, seed) for seed in range(1, 6))]
    maker.replay([
        patch_entry(student, (version, weights[version]), (version + 1, weights[version + 1])) for version in range(5)
    ])  # fmt: skip
    for version in range(1, 6):
        maker.make(labelled(1, student), score(1, versions=(version, version, 0)))
    assert len(maker._running) == 3
    assert 0 in maker._running


def test_a_frame_without_a_label_that_counts_has_no_miou(maker: MomentMaker, student: ModelBundle) -> None:
    ignored = np.full((3, STREET.height, STREET.width), 255, np.uint8)
    one = maker.make(labelled(1, student, labels=ignored), score(1))[0]
    assert (one.adapted, one.unadapted) == (None, None)
    assert not opened(one.pictures["teacher.png"])[..., 3].any(), "nothing is drawn where there is no label"


def rubbish() -> dict[str, dict[str, bytes]]:
    small = np.zeros((3, 16, 16), np.uint8)
    short = np.zeros((1, STREET.height, STREET.width), np.uint8)
    return {
        "no header": {"meta": b"not json"},
        "another header": {"meta": b"{}"},
        "no video": {"payload": b"rubbish"},
        "nothing": {"payload": b""},
        "no labels": {"labels": b""},
        "labels that are none": {"labels": b"rubbish" * 20},
        "labels of another size": {"labels": label_map.encode(small)},
        "labels of too few frames": {"labels": label_map.encode(short)},
    }


@pytest.mark.parametrize("what", rubbish())
def test_a_clip_that_is_rubbish_is_refused(maker: MomentMaker, student: ModelBundle, what: str) -> None:
    clip = dataclasses.replace(labelled(1, student), **rubbish()[what])  # type: ignore[arg-type]
    with pytest.raises((AmsError, ValueError)):
        maker.make(clip, score(1))


def test_a_clip_that_is_cut_off_is_refused(maker: MomentMaker, student: ModelBundle) -> None:
    clip = labelled(1, student)
    with pytest.raises(AmsError):
        maker.make(dataclasses.replace(clip, payload=clip.payload[: len(clip.payload) // 2]), score(1))


def test_a_score_of_more_frames_than_the_clip_has_is_refused(maker: MomentMaker, student: ModelBundle) -> None:
    with pytest.raises((AmsError, ValueError)):
        maker.make(labelled(1, student), score(1, versions=(0, 0, 0, 0)))


def test_a_card_without_colours_gets_some(student: ModelBundle) -> None:
    plain = ModelBundle(student.card.model_copy(update={"palette": ()}), student.graph, student.weights)
    one = MomentMaker(plain).make(labelled(1, student), score(1))[0]
    colours = opened(one.pictures["teacher.png"])[STREET.labels(0) < len(CLASSES)]
    assert len(np.unique(colours, axis=0)) == len(np.unique(STREET.labels(0)))
    assert (colours[:, 3] == 255).all()
