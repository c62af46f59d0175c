"""What a session decides: when to train, what to publish, how to answer a device."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ams.core.delta import Delta
from ams.core.gating import GUARD_S
from ams.core.history import VersionHistory
from ams.core.patch import Patch
from ams.core.score import PhaseRecord
from ams.errors import ModelError
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip, UpstreamEvent
from services.trainer.config import TrainerSettings
from services.trainer.publisher import MAX_ANSWERS
from services.trainer.session import Session
from tests.services.trainer.conftest import SID, STREET, MakeClip


def phase(session: Session, now_s: float) -> PhaseRecord:
    record = session.run_phase(now_s, lambda: 0.0)
    assert record is not None
    return record


def event(kind: str, session: Session, version: int, digest: bytes | None = None, **more: object) -> UpstreamEvent:
    weights = session.history.weights_at(version) if session.history.knows(version) else session.history.latest
    known = digest or session._layout.digest(weights)
    return UpstreamEvent(kind, json.dumps({"version": version, "digest": known.hex(), **more}).encode())


def refusal(session: Session, version: int, running: int, reason: str) -> UpstreamEvent:
    digest = session._layout.digest(session.history.weights_at(running)).hex()
    body = {
        "stream": "cam0", "version": version, "reason": reason, "running_version": running, "running_digest": digest,
    }  # fmt: skip
    return UpstreamEvent("refused", json.dumps(body).encode())


def taught(session: Session, make_clip: MakeClip, phases: int, *, first: int = 0) -> Session:
    for start in range(first, first + 10 * phases, 10):
        session.take(make_clip(start), 100.0 + start)
        session.run_phase(100.0 + start, lambda: 0.0)
    return session


def test_a_phase_makes_the_student_better_and_its_patch_gives_exactly_the_record(
    session: Session, make_clip: MakeClip, bundle: ModelBundle
) -> None:
    session.take(make_clip(0), 100.0)
    assert session.phase_due(100.0)
    record = phase(session, 100.0)
    assert record.published
    assert record.gain > 0.02
    assert record.loss_last < record.loss_first
    entry = session.publisher.outgoing[0]
    patch = Patch.decode(entry.patch, bundle.layout)
    got = patch.apply(bundle.version0, bundle.layout, model_id=bundle.model_id, version=0)
    assert np.array_equal(got, session.history.latest)
    assert record.changed <= round(0.3 * bundle.layout.size)


def test_no_phase_without_something_new_or_before_the_interval(session: Session, make_clip: MakeClip) -> None:
    assert not session.phase_due(100.0)
    session.take(make_clip(0), 100.0)
    session.run_phase(100.0, lambda: 0.0)
    assert not session.phase_due(120.0), "nothing new"
    session.take(make_clip(10), 105.0)
    assert not session.phase_due(105.0), "too early"
    assert session.phase_due(111.0)


def test_at_most_two_versions_are_unacknowledged(session: Session, make_clip: MakeClip) -> None:
    taught(session, make_clip, 2)
    assert session.history.version == 2
    session.take(make_clip(20), 120.0)
    assert not session.phase_due(130.0)
    session.hear(event("applied", session, 1))
    assert session.phase_due(130.0)


def test_held_out_frames_are_at_least_a_second_from_training_frames(session: Session, make_clip: MakeClip) -> None:
    session.take(make_clip(0), 100.0)
    session.take(make_clip(10), 110.0)
    trained = [ref.clip.times_s[ref.index] for ref in session.horizon.trainable()]
    for ref in session.horizon.held_out():
        assert min(abs(ref.clip.times_s[ref.index] - t) for t in trained) >= GUARD_S - 1e-5
    drawn = session.horizon.draw(np.random.default_rng(0), steps=50, batch=8)
    judged = {(ref.clip.clip_id, ref.index) for ref in session.horizon.held_out()}
    assert not judged & {(ref.clip.clip_id, ref.index) for batch in drawn for ref in batch}
    session.take(make_clip(20), 120.0)
    assert judged <= {(ref.clip.clip_id, ref.index) for ref in session.horizon.trainable()}, "trained on next time"


def test_a_phase_that_does_not_gain_enough_is_refused_and_forgotten(
    bundle: ModelBundle, student: Student, settings: TrainerSettings, make_clip: MakeClip
) -> None:
    strict = Session(SID, 1, bundle, student, settings.model_copy(update={"gate_margin": 0.99}))
    strict.take(make_clip(0), 100.0)
    record = phase(strict, 100.0)
    assert not record.published
    assert not strict.publisher.outgoing
    assert strict.history.version == 0
    assert np.array_equal(strict.history.latest, bundle.version0)


def test_a_worse_model_is_not_shipped(session: Session, make_clip: MakeClip) -> None:
    for number in range(5):
        taught(session, make_clip, 1, first=10 * number)
        session.hear(event("applied", session, session.history.version))
    # Now the labels of two clips are nonsense and the newest clip's are right: what is learned from nonsense must not
    # go out.
    for first in (50, 60):
        swapped = np.stack([(STREET.labels(t) + 1) % 4 for t in range(first, first + 10)]).astype(np.uint8)
        session.take(make_clip(first, labels=swapped), 100.0 + first)
    session.take(make_clip(70, count=3), 180.0)
    before = session.history.version
    record = phase(session, 180.0)
    assert not record.published
    assert record.gain < 0
    assert session.history.version == before


def test_a_device_with_another_digest_gets_a_keyframe_under_a_new_version(
    session: Session, make_clip: MakeClip, bundle: ModelBundle
) -> None:
    taught(session, make_clip, 1)
    session.publisher.outgoing.clear()
    session.hear(event("applied", session, 1, digest=bytes(32)))
    (entry,) = session.publisher.outgoing
    assert (entry.kind, entry.base, entry.version) == ("keyframe", 0, 2)
    patch = Patch.decode(entry.patch, bundle.layout)
    result = patch.apply(bundle.version0, bundle.layout, model_id=bundle.model_id, version=0)
    assert np.array_equal(result, session.history.latest)
    assert session.publisher.answers.digest_mismatches == 1


def test_a_device_that_the_log_does_not_reach_gets_a_cumulative_patch(session: Session, make_clip: MakeClip) -> None:
    taught(session, make_clip, 2)
    session.publisher.outgoing.clear()
    session.hear(event("resume", session, 1))
    assert not session.publisher.outgoing, "the gateway sends the chain"
    session.hear(event("resume", session, 1, log_reaches=False))
    (entry,) = session.publisher.outgoing
    assert (entry.base, entry.version) == (1, 2)


def test_a_device_ahead_of_the_record_gets_a_higher_version(session: Session) -> None:
    session.hear(event("resume", session, 9))
    (entry,) = session.publisher.outgoing
    assert (entry.kind, entry.version) == ("keyframe", 10)
    assert session.publisher.answers.digest_mismatches == 0


def test_what_a_device_says_again_gets_one_keyframe(session: Session, make_clip: MakeClip) -> None:
    taught(session, make_clip, 1)
    session.publisher.outgoing.clear()
    for _ in range(10):
        session.hear(event("resume", session, 1, digest=bytes(32)))
    assert len(session.publisher.outgoing) == 1
    session.hear(event("applied", session, 2))
    session.hear(event("resume", session, 1, digest=bytes(32)))
    assert len(session.publisher.outgoing) == 2


def test_what_a_device_says_again_gets_another_keyframe_when_the_broker_lost_the_first(
    session: Session, make_clip: MakeClip
) -> None:
    taught(session, make_clip, 1)
    session.publisher.outgoing.clear()
    for _ in range(3):
        session.hear(event("resume", session, 1, digest=bytes(32), log_reaches=False))
    assert [entry.version for entry in session.publisher.outgoing] == [2, 2, 2], "no number is used up"


def test_a_corrupt_patch_is_answered_with_a_cumulative_one(
    session: Session, make_clip: MakeClip, bundle: ModelBundle
) -> None:
    taught(session, make_clip, 2)
    session.publisher.outgoing.clear()
    session.hear(refusal(session, 2, 1, "corrupt"))
    (entry,) = session.publisher.outgoing
    assert (entry.base, entry.version) == (1, 2)
    patch = Patch.decode(entry.patch, bundle.layout)
    running = session.history.weights_at(1)
    result = patch.apply(running, bundle.layout, model_id=bundle.model_id, version=1)
    assert np.array_equal(result, session.history.latest)


def test_a_failed_canary_rolls_back_to_what_ran_under_a_new_version(
    session: Session, make_clip: MakeClip, bundle: ModelBundle
) -> None:
    taught(session, make_clip, 2)
    good = session.history.weights_at(1)
    session.publisher.outgoing.clear()
    session.hear(refusal(session, 2, 1, "canary"))
    assert session.history.version == 3
    assert np.array_equal(session.history.latest, good)
    last = Patch.decode(session.publisher.outgoing[-1].patch, bundle.layout)
    assert (last.base, last.target) == (1, 3)
    result = last.apply(good, bundle.layout, model_id=bundle.model_id, version=1)
    assert np.array_equal(result, good)


def test_a_canary_that_fails_on_what_runs_is_asked_again_a_few_times(session: Session, make_clip: MakeClip) -> None:
    """Else the device would owe an answer for ever, and nothing more would be published."""
    taught(session, make_clip, 2)
    session.hear(refusal(session, 2, 1, "canary"))
    answers = []
    for _ in range(MAX_ANSWERS):
        session.publisher.outgoing.clear()
        session.hear(refusal(session, 3, 1, "canary"))
        answers.append([(entry.base, entry.version) for entry in session.publisher.outgoing])
    assert answers == [[(1, 3)]] * (MAX_ANSWERS - 1) + [[]]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"version": "x", "digest": 3}', b"\xff", b'{"version":1}'])
@pytest.mark.parametrize("kind", ["applied", "resume", "refused", "unheard-of"])
def test_a_malformed_event_is_skipped(session: Session, kind: str, body: bytes) -> None:
    session.hear(UpstreamEvent(kind, body))
    assert not session.publisher.outgoing


def test_a_clip_that_cannot_be_used_is_counted_and_the_stream_goes_on(session: Session, make_clip: MakeClip) -> None:
    good = make_clip(0)
    spoilt = [
        LabelledClip(SID, "00" * 16, b"{}", b"", b"", error="truncated clip"),
        LabelledClip(SID, good.clip_id, good.meta, good.payload[: len(good.payload) // 2], good.labels),
        LabelledClip(SID, good.clip_id, good.meta, good.payload, good.labels[:20]),
        LabelledClip(SID, good.clip_id, b"not json", good.payload, good.labels),
        make_clip(0, model_id="ab" * 32),
    ]
    assert [session.take(clip, 100.0) for clip in spoilt] == [None] * len(spoilt)
    assert session.unusable_clips == len(spoilt)
    assert session.take(good, 100.0) is not None


def test_a_reboot_of_the_device_does_not_turn_time_back(session: Session, make_clip: MakeClip) -> None:
    session.take(make_clip(500), 600.0)
    score = session.take(make_clip(0, boot_id="again"), 610.0)
    assert score is not None
    times = [t for clip in session.horizon._clips for t in clip.times_s]
    assert times == sorted(times)


def test_a_next_owner_rebuilds_the_same_record(
    session: Session, make_clip: MakeClip, bundle: ModelBundle, student: Student, settings: TrainerSettings
) -> None:
    taught(session, make_clip, 2)
    heir = Session(SID, 2, bundle, student, settings)
    for entry in session.publisher.outgoing:
        heir.publisher.replay(entry)
    assert heir.history.version == session.history.version
    assert np.array_equal(heir.history.latest, session.history.latest)


def test_a_static_scene_slows_sampling_and_training_down(session: Session, make_clip: MakeClip) -> None:
    session._phis = [0.95]
    for _ in range(8):
        session._phis.append(0.95)
        session._control()
    assert session.rates.sampling_hz == pytest.approx(0.1)
    assert session.rates.clip_interval_s > 10


def test_half_a_phase_is_not_published(session: Session, make_clip: MakeClip) -> None:
    session.take(make_clip(0), 100.0)
    asked = iter([False, False, True])
    assert session.run_phase(100.0, lambda: 0.0, lambda: next(asked)) is None
    assert session.history.version == 0
    assert not session.publisher.outgoing


def test_training_that_diverges_changes_nothing(
    bundle: ModelBundle,
    student: Student,
    settings: TrainerSettings,
    make_clip: MakeClip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wild = Session(SID, 1, bundle, student, settings)
    wild.take(make_clip(0), 100.0)
    sound = student.subset_scores
    monkeypatch.setattr(student, "subset_scores", lambda images: sound(images) * float("nan"))
    with pytest.raises(ModelError):
        wild.run_phase(100.0, lambda: 0.0)
    assert not wild.publisher.outgoing
    assert wild.history.version == 0
    assert np.array_equal(wild.history.latest, bundle.version0)


def test_a_device_that_always_refuses_is_left_alone_after_a_few_answers(session: Session, make_clip: MakeClip) -> None:
    taught(session, make_clip, 2)
    session.publisher.outgoing.clear()
    for _ in range(200):
        session.hear(refusal(session, session.history.version, 1, "corrupt"))
    assert len(session.publisher.outgoing) == MAX_ANSWERS
    session.hear(event("applied", session, 1))
    session.hear(refusal(session, session.history.version, 1, "corrupt"))
    assert len(session.publisher.outgoing) == MAX_ANSWERS + 1


def test_a_backend_that_fails_on_everything_uses_up_no_versions(session: Session, make_clip: MakeClip) -> None:
    taught(session, make_clip, 1)
    for _ in range(50):
        session.hear(refusal(session, session.history.version, 0, "backend"))
    assert session.history.version == 2, "one version with the old content, nothing better can be offered"


def test_reasons_that_a_device_invents_are_counted_together(session: Session) -> None:
    for number in range(20):
        session.hear(refusal(session, 1, 0, f"reason{number}"))
    assert session.publisher.answers.refusals == {"other": 20}


def test_a_keyframe_is_minted_when_the_log_outgrows_it(session: Session, bundle: ModelBundle) -> None:
    rng = np.random.default_rng(0)
    for _ in range(70):
        step = rng.integers(-2000, 2000, bundle.layout.size)
        after = (session.history.latest + step).astype(np.int32)
        session.publisher.publish(Delta.between(session.history.latest, after))
    keyframes = [e for e in session.publisher.outgoing if e.kind == "keyframe"]
    assert keyframes
    heir = VersionHistory(bundle.layout, bundle.model_id, bundle.version0)
    heir.replay(Patch.decode(keyframes[-1].patch, bundle.layout))
    last = list(session.publisher.outgoing).index(keyframes[-1])
    for entry in list(session.publisher.outgoing)[last:]:
        heir.replay(Patch.decode(entry.patch, bundle.layout))
    assert np.array_equal(heir.latest, session.history.latest)


def test_the_interval_never_exceeds_what_a_device_can_be_asked(
    bundle: ModelBundle, student: Student, settings: TrainerSettings
) -> None:
    slow = Session(SID, 1, bundle, student, settings.model_copy(update={"training_interval_s": 600.0}))
    slow.interval.interval_s = 3600.0
    assert slow.rates.clip_interval_s == 600.0


def test_what_outlives_an_owner_is_restored(
    session: Session, make_clip: MakeClip, bundle: ModelBundle, student: Student, settings: TrainerSettings
) -> None:
    before = session.take(make_clip(0), 100.0)
    session.sampling.hz = 0.3
    heir = Session(SID, 2, bundle, student, settings)
    heir.restore(session.snapshot())
    after = heir.take(make_clip(10), 500.0)
    assert before is not None
    assert after is not None
    assert after.frames[0].t_s - before.frames[-1].t_s == pytest.approx(1.0), "the clock's line goes on"
    assert heir.sampling.hz == 0.3
