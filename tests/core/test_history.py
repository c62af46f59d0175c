"""Version history: one model, bit for bit, however the device got there (invariant 1); versions only grow."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.delta import Delta
from ams.core.history import BELIEVABLE_VERSION, MAX_STEPS, MAX_UNACKNOWLEDGED, VersionHistory
from ams.core.layout import IntVector, Layout
from ams.core.patch import VERSION_LIMIT, Patch
from ams.errors import BaseMismatchError, CorruptPatchError, DigestMismatchError, PatchError
from tests.core.students import MODEL_ID, OTHER_MODEL_ID, PROPERTY, changed, layout_of, random_weights

LAYOUT = layout_of(60, 400, 7, exponent=-19)
VERSION0 = random_weights(LAYOUT, np.random.default_rng(0))


def history() -> VersionHistory:
    return VersionHistory(LAYOUT, MODEL_ID, VERSION0)


def step(weights: IntVector, rng: np.random.Generator) -> Delta:
    return Delta.between(weights, changed(weights, rng, share=0.1, bits=7))


def published(count: int, seed: int = 1) -> tuple[VersionHistory, list[Patch], list[IntVector]]:
    record, rng = history(), np.random.default_rng(seed)
    patches, weights = [], [VERSION0]
    for _ in range(count):
        patches.append(record.publish(step(record.latest, rng)))
        weights.append(record.latest)
    return record, patches, weights


@dataclass
class Device:
    """What docs/protocol.md asks of a device: the running version, and patches from bytes."""

    layout: Layout = LAYOUT
    weights: IntVector = field(default_factory=lambda: VERSION0)
    version: int = 0

    def take(self, data: bytes) -> bool:
        """True when the patch was taken or is old news; False when it was refused."""
        patch = Patch.decode(data, self.layout)
        if patch.target <= self.version:
            return True
        start, at = (VERSION0, 0) if patch.is_keyframe else (self.weights, self.version)
        try:
            self.weights = patch.apply(start, self.layout, model_id=MODEL_ID, version=at)
        except BaseMismatchError:
            return False
        self.version = patch.target
        return True


@PROPERTY
@given(st.data())
def test_loss_repetition_reordering_cumulation_keyframes_and_a_new_owner_all_end_in_the_same_weights(
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    owner, log, device, ever = history(), [], Device(), {0: VERSION0}
    for action in data.draw(
        st.lists(
            st.sampled_from(["publish", "publish", "deliver", "deliver", "rebase", "keyframe", "roll_back", "owner"]),
            min_size=1,
            max_size=30,
        )
    ):
        if action == "publish":
            log.append(owner.publish(step(owner.latest, rng)))
        elif action == "deliver" and log:  # any of them, in any order, as often as it likes, or never
            device.take(log[data.draw(st.integers(0, len(log) - 1))].encode(LAYOUT))
        elif action == "rebase":
            log.append(owner.rebase(device.version))
            assert log[-1].target > device.version
            if data.draw(st.booleans()):
                assert device.take(log[-1].encode(LAYOUT))
        elif action == "keyframe":
            log.append(owner.keyframe(above=data.draw(st.integers(0, 40))))
        elif action == "roll_back":
            known = [v for v in ever if owner.knows(v)]
            log.append(owner.roll_back(data.draw(st.sampled_from(known))))
        elif action == "owner":
            replayed = history()
            for patch in log:
                replayed.replay(Patch.decode(patch.encode(LAYOUT), LAYOUT))
            assert replayed.version == owner.version
            assert np.array_equal(replayed.latest, owner.latest)
            owner = replayed
        ever[owner.version] = owner.latest
        assert np.array_equal(device.weights, ever[device.version])
    assert device.take(owner.rebase(device.version).encode(LAYOUT))
    assert device.version == owner.version
    assert LAYOUT.to_float(device.weights).tobytes() == LAYOUT.to_float(owner.latest).tobytes()
    assert owner.acknowledge(device.version, LAYOUT.digest(device.weights))


def test_every_version_on_record_can_be_rebuilt() -> None:
    record, _, weights = published(10)
    for version, expected in enumerate(weights):
        assert np.array_equal(record.weights_at(version), expected)


@pytest.mark.parametrize("base", range(8))
def test_the_cumulative_patch_from_any_version(base: int) -> None:
    record, _, weights = published(8)
    patch = record.rebase(base)
    assert (patch.base, patch.target) == (base, 8)
    result = patch.apply(weights[base], LAYOUT, model_id=MODEL_ID, version=base)
    assert np.array_equal(result, weights[8])


def test_the_history_is_bounded_and_what_is_forgotten_is_never_guessed() -> None:
    """Invariants 4 and 6: an old frame's version is unknown, not approximated."""
    record, _, weights = published(MAX_STEPS + 10)
    assert not record.knows(5)
    with pytest.raises(BaseMismatchError, match="version 5 is not in the history"):
        record.weights_at(5)
    assert np.array_equal(record.weights_at(10), weights[10])
    assert record.rebase(5).is_keyframe
    for _ in range(3 * MAX_STEPS):
        record.keyframe(above=record.version)
    assert sum(record.knows(version) for version in range(record.version + 1)) <= MAX_STEPS + 2


def test_version_zero_is_always_known() -> None:
    record, _, _ = published(MAX_STEPS + 10)
    assert record.knows(0)
    assert np.array_equal(record.weights_at(0), VERSION0)


@pytest.mark.parametrize("version", [11, 1 << 40])
def test_a_version_that_was_never_published_is_unknown(version: int) -> None:
    record, _, _ = published(10)
    assert not record.knows(version)
    assert not record.acknowledge(version, LAYOUT.digest(record.latest))


def test_at_most_two_versions_are_unacknowledged() -> None:
    record, patches, _ = published(MAX_UNACKNOWLEDGED)
    assert not record.may_publish
    assert record.acknowledge(1, patches[0].digest)
    assert record.may_publish
    record.publish(step(record.latest, np.random.default_rng(5)))
    assert not record.may_publish
    assert record.acknowledge(3, LAYOUT.digest(record.latest))
    assert record.may_publish


def test_another_digest_is_not_an_acknowledgement() -> None:
    record, patches, _ = published(2)
    assert not record.acknowledge(2, patches[0].digest)
    assert record.acknowledged == 0


def test_a_roll_back_is_a_new_version_with_old_content() -> None:
    record, _, weights = published(4)
    patch = record.roll_back(2)
    assert (patch.base, patch.target) == (4, 5)
    assert np.array_equal(record.latest, weights[2])
    assert np.array_equal(record.weights_at(4), weights[4])


def test_a_device_ahead_of_the_record_gets_the_newest_weights_under_a_higher_number() -> None:
    record, _, weights = published(3)
    patch = record.keyframe(above=17)
    assert (patch.base, patch.target) == (0, 18)
    assert np.array_equal(patch.apply(VERSION0, LAYOUT, model_id=MODEL_ID, version=0), weights[3])
    assert record.version == 18
    assert np.array_equal(record.weights_at(2), weights[2])
    following = record.publish(step(record.latest, np.random.default_rng(9)))
    assert (following.base, following.target) == (18, 19)


@pytest.mark.parametrize("running", [3, 4, 100])
def test_rebasing_a_device_that_is_not_behind_gives_a_new_number(running: int) -> None:
    record, _, weights = published(3)
    patch = record.rebase(running)
    assert patch.is_keyframe
    assert patch.target == running + 1
    assert np.array_equal(patch.apply(VERSION0, LAYOUT, model_id=MODEL_ID, version=0), weights[3])


def test_a_keyframe_of_a_fresh_record_is_a_valid_patch() -> None:
    for patch in (history().keyframe(), history().rebase(0)):
        assert np.array_equal(
            Patch.decode(patch.encode(LAYOUT), LAYOUT).apply(VERSION0, LAYOUT, model_id=MODEL_ID, version=0), VERSION0
        )


@pytest.mark.parametrize("claim", [VERSION_LIMIT - 1, BELIEVABLE_VERSION + 1])
def test_a_lie_about_the_version_does_not_use_the_numbers_up(claim: int) -> None:
    record, _, _ = published(3)
    assert record.keyframe(above=claim).target == 3
    assert record.rebase(claim).target == 3
    assert record.publish(Delta.none()).target == 4


def test_a_change_that_leaves_the_grid_is_not_published() -> None:
    record, _, weights = published(1)
    with pytest.raises(CorruptPatchError, match="grid"):
        record.publish(Delta(np.array([3]), np.array([1 << 25])))
    assert record.version == 1
    assert np.array_equal(record.latest, weights[1])


# -- replay by the next owner ------------------------------------------------------------------------------------------


def test_replay_from_a_keyframe_knows_the_way_from_there() -> None:
    record, patches, weights = published(6)
    keyframe = Patch.between(LAYOUT, MODEL_ID, (0, VERSION0), (4, weights[4]))
    owner = history()
    for patch in [keyframe, *patches[4:]]:
        owner.replay(patch)
    assert np.array_equal(owner.latest, record.latest)
    assert [owner.knows(version) for version in range(7)] == [True, False, False, False, True, True, True]
    assert np.array_equal(owner.weights_at(5), weights[5])


def test_replaying_a_keyframe_in_the_middle_forgets_nothing() -> None:
    record, patches, weights = published(3)
    owner = history()
    for patch in [*patches, record.keyframe(above=9)]:
        owner.replay(patch)
    assert owner.version == 10
    assert np.array_equal(owner.weights_at(2), weights[2])
    assert owner.rebase(2).base == 2


def test_replaying_twice_changes_nothing() -> None:
    record, patches, _ = published(3)
    owner = history()
    for patch in patches + patches:
        owner.replay(patch)
    assert owner.version == 3
    assert np.array_equal(owner.latest, record.latest)


@pytest.mark.parametrize("damage", ["gap", "model", "digest"])
def test_a_log_that_does_not_fit_is_named_and_changes_nothing(damage: str) -> None:
    _, patches, _ = published(3)
    owner = history()
    owner.replay(patches[0])
    second = patches[1]
    wrong, expected = {
        "gap": (patches[2], BaseMismatchError),
        "model": (Patch(1, 2, OTHER_MODEL_ID, second.digest, second.delta), BaseMismatchError),
        "digest": (Patch(1, 2, MODEL_ID, bytes(32), second.delta), DigestMismatchError),
    }[damage]
    with pytest.raises(expected):
        owner.replay(wrong)
    assert issubclass(expected, PatchError)
    assert owner.version == 1
    owner.replay(patches[1])
    assert owner.version == 2
