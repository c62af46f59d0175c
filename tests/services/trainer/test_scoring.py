"""Honest mIoU: the version that ran at capture, never a later one, never a guess."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ams.core.messages import Clip
from ams.core.metrics import confusion, mean_iou
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip
from ams.video import decode_clip
from services.trainer.session import Session
from tests.services.trainer.conftest import STREET, MakeClip


def decoded(labelled: LabelledClip) -> np.ndarray:
    clip = Clip.model_validate_json(labelled.meta)
    video = labelled.payload[: len(labelled.payload) - (clip.labels.bytes if clip.labels else 0)]
    return decode_clip(video, codec="h264", frames=len(clip.frames), width=clip.width, height=clip.height)


def train_and_publish(session: Session, now_s: float) -> int:
    """Run phases until one is published; returns its version."""
    record = session.run_phase(now_s, lambda: 0.0)
    assert record is not None
    assert record.published, record
    return record.version


def test_version_0_scores_the_same_adapted_and_unadapted(session: Session, make_clip: MakeClip) -> None:
    score = session.take(make_clip(0), 100.0)
    assert score is not None
    assert len(score.frames) == 10
    assert all(frame.adapted == frame.unadapted is not None for frame in score.frames)


def test_a_frame_is_scored_with_the_version_that_ran_even_when_a_better_one_is_out(
    session: Session, make_clip: MakeClip
) -> None:
    session.take(make_clip(0), 100.0)
    version = train_and_publish(session, 100.0)
    late = session.take(make_clip(10, version=0), 110.0)
    prompt = session.take(make_clip(20, version=version), 120.0)
    assert late is not None
    assert prompt is not None
    assert all(frame.adapted == frame.unadapted for frame in late.frames)
    assert prompt.frames[-1].adapted is not None
    assert prompt.frames[-1].unadapted is not None
    assert prompt.frames[-1].adapted > prompt.frames[-1].unadapted + 0.1


def test_the_score_is_the_sliding_miou_of_the_recorded_weights(session: Session, make_clip: MakeClip) -> None:
    session.take(make_clip(0), 100.0)
    version = train_and_publish(session, 100.0)
    clip = make_clip(20, version=version)
    score = session.take(clip, 120.0)
    predicted = session.scorer.predict(session.history.weights_at(version), decoded(clip))
    total = sum(confusion(STREET.labels(20 + i), predicted[i], classes=4, subset=(0, 1, 2, 3)) for i in range(10))
    assert score is not None
    assert score.frames[-1].adapted == pytest.approx(mean_iou(total, (0, 1, 2, 3)))


def test_an_unknown_version_is_unscored_not_guessed(session: Session, make_clip: MakeClip) -> None:
    score = session.take(make_clip(0, version=7), 100.0)
    assert score is not None
    assert score.unscored == 10
    assert all(frame.adapted is None and frame.unadapted is not None for frame in score.frames)


def test_agreement_compares_the_devices_own_labels_with_ours(
    session: Session, make_clip: MakeClip, bundle: ModelBundle
) -> None:
    frames = decoded(make_clip(0))
    own = session.scorer.predict(bundle.version0, frames[-1:])[0]
    same = session.take(make_clip(0, device_labels=own), 100.0)
    wrong = own.copy()
    wrong[:16] = (wrong[:16] + 1) % 4
    half = session.take(make_clip(10, device_labels=wrong), 110.0)
    assert same is not None
    assert half is not None
    assert same.agreement == pytest.approx(1.0, abs=0.01)
    assert half.agreement == pytest.approx(0.5, abs=0.05)


def test_labels_of_another_size_from_the_device_are_not_compared(session: Session, make_clip: MakeClip) -> None:
    score = session.take(make_clip(0, device_labels=np.zeros((8, 8), np.uint8)), 100.0)
    assert score is not None
    assert score.agreement is None


def test_a_repetition_is_scored_once(session: Session, make_clip: MakeClip) -> None:
    clip = make_clip(0)
    assert session.take(clip, 100.0) is not None
    assert session.take(clip, 101.0) is None


def test_frames_without_any_known_class_have_no_score_and_valid_json(session: Session, make_clip: MakeClip) -> None:
    nothing = np.full((10, STREET.height, STREET.width), 255, np.uint8)
    score = session.take(make_clip(0, labels=nothing), 100.0)
    assert score is not None
    assert json.loads(score.model_dump_json())["frames"][0]["adapted"] is None


def test_clips_that_come_out_of_order_are_scored_once_each(session: Session, make_clip: MakeClip) -> None:
    late, prompt = make_clip(10), make_clip(20)
    session.take(make_clip(0), 100.0)
    first = session.take(prompt, 120.0)
    second = session.take(late, 121.0)
    assert first is not None
    assert second is not None
    assert [frame.t_s for frame in second.frames] == pytest.approx([t + 91 for t in range(10, 20)])
    assert second.frames[-1].adapted is not None
    assert session.take(late, 122.0) is None
    assert session.take(prompt, 122.0) is None
    held = [ref.clip.clip_id for ref in session.horizon.held_out()]
    assert set(held) == {prompt.clip_id}, "the newest clip is the one with the newest frames"
