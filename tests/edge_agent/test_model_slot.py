"""The model slot: what a patch may do to the running model, and everything it may not."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ams.core.layout import FloatVector
from ams.core.patch import Patch
from ams.errors import BackendError
from ams.models.bundle import ModelBundle
from edge_agent.model_slot import Applied, ModelSlot, Refusal
from edge_agent.onnx_runtime import OnnxRuntimeStudent
from edge_agent.runtime import StudentRuntime


class Factory:
    """Builds fake runtimes; `sound` and `fails` say what the next one does."""

    def __init__(self, tiny: type) -> None:
        self._tiny = tiny
        self.sound = True
        self.fails: Exception | None = None
        self.built = 0

    def __call__(self, weights: FloatVector) -> StudentRuntime:
        if self.fails is not None:
            raise self.fails
        self.built += 1
        return self._tiny.Runtime(self.built % 5, self.sound)


@pytest.fixture
def factory(tiny: type) -> Factory:
    return Factory(tiny)


@pytest.fixture
def slot(student: ModelBundle, factory: Factory) -> ModelSlot:
    return ModelSlot(student, factory)


@pytest.fixture
def versions(student: ModelBundle, tiny: type) -> list[np.ndarray]:
    """Weights of versions 0 to 4."""
    result = [student.version0]
    for seed in range(4):
        result.append(tiny.changed(student, result[-1], seed=seed, share=0.1))
    return result


@pytest.fixture
def patch(student: ModelBundle, tiny: type, versions: list[np.ndarray]):
    """The bytes of the patch from one of those versions to another."""
    return lambda base, target: tiny.patch_bytes(student, (base, versions[base]), (target, versions[target]))


def test_version_0_runs_at_the_start(slot: ModelSlot, student: ModelBundle) -> None:
    assert slot.current.version == 0
    assert slot.current.digest.hex() == student.card.weights_digest
    assert slot.previous is None


def test_chain_cumulative_and_keyframe_lead_to_the_same_bits(
    student: ModelBundle, factory: Factory, patch, versions: list[np.ndarray]
) -> None:
    for path in ([(0, 1), (1, 2), (2, 3)], [(0, 1), (1, 3)], [(0, 3)], [(0, 2), (0, 3)]):
        slot = ModelSlot(student, factory)
        for base, target in path:
            outcome = slot.apply(patch(base, target))
            assert isinstance(outcome, Applied)
            assert outcome.changed
            assert (outcome.version, outcome.digest) == (target, student.layout.digest(versions[target]))
        assert np.array_equal(slot.current.weights, versions[3])


def test_previous_version_is_kept_and_comes_back(slot: ModelSlot, patch) -> None:
    slot.apply(patch(0, 1))
    before = slot.current
    slot.apply(patch(1, 2))
    assert slot.previous is before
    assert slot.roll_back()
    assert slot.current is before
    assert not slot.roll_back()
    outcome = slot.apply(patch(1, 2))
    assert isinstance(outcome, Applied)
    assert outcome.version == 2


@pytest.mark.parametrize("again", [(1, 2), (0, 1), (0, 2)])
def test_old_news_are_acknowledged_with_what_runs(
    slot: ModelSlot, factory: Factory, patch, again: tuple[int, int]
) -> None:
    slot.apply(patch(0, 1))
    slot.apply(patch(1, 2))
    running, built = slot.current, factory.built
    outcome = slot.apply(patch(*again))
    assert outcome == Applied(2, running.digest, False, outcome.swap_ms)
    assert slot.current is running
    assert factory.built == built


def test_same_version_with_other_weights(slot: ModelSlot, student: ModelBundle, tiny: type, patch, versions) -> None:
    """The server lost version 1 and made another: a keyframe mends that, a chain patch does not fit."""
    slot.apply(patch(0, 1))
    other = tiny.changed(student, versions[0], seed=77)
    chain = Patch(1, 2, student.model_id, student.layout.digest(other), Patch.decode(patch(1, 2), student.layout).delta)
    slot.apply(patch(1, 2))
    refused = slot.apply(chain.encode(student.layout))
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.running_version) == ("base", 2)
    assert np.array_equal(slot.current.weights, versions[2])
    outcome = slot.apply(tiny.patch_bytes(student, (0, versions[0]), (2, other)))
    assert isinstance(outcome, Applied)
    assert outcome.changed
    assert np.array_equal(slot.current.weights, other)


def test_wrong_base_is_refused(slot: ModelSlot, patch) -> None:
    slot.apply(patch(0, 1))
    running = slot.current
    outcome = slot.apply(patch(2, 3))
    assert outcome == Refusal("base", outcome.text, 1, running.digest)
    assert slot.current is running


def test_patch_of_another_model_is_refused(slot: ModelSlot, student: ModelBundle, patch) -> None:
    mine = Patch.decode(patch(0, 1), student.layout)
    foreign = Patch(mine.base, mine.target, "ab" * 32, mine.digest, mine.delta).encode(student.layout)
    outcome = slot.apply(foreign)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "base"
    assert slot.current.version == 0


def test_wrong_digest_is_refused(slot: ModelSlot, student: ModelBundle, patch) -> None:
    mine = Patch.decode(patch(0, 1), student.layout)
    wrong = Patch(mine.base, mine.target, mine.model_id, bytes(32), mine.delta).encode(student.layout)
    outcome = slot.apply(wrong)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "digest"
    assert slot.current.version == 0


def test_damaged_patches_leave_the_old_model_running(slot: ModelSlot, patch) -> None:
    data = patch(0, 1)
    running = slot.current
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        outcome = slot.apply(bytes(damaged))
        if isinstance(outcome, Applied):  # the target's number is not covered by the digest
            assert outcome.digest == Patch.decode(data, slot._layout).digest or not outcome.changed
            slot.roll_back()
        assert slot.current.version == 0
        assert slot.current.runtime is running.runtime
    for length in range(0, len(data), max(1, len(data) // 40)):
        outcome = slot.apply(data[:length])
        assert isinstance(outcome, Refusal)
        assert outcome.reason == "corrupt"


def test_canary_failure_is_refused(slot: ModelSlot, factory: Factory, patch) -> None:
    factory.sound = False
    outcome = slot.apply(patch(0, 1))
    assert isinstance(outcome, Refusal)
    assert (outcome.reason, outcome.running_version) == ("canary", 0)
    assert slot.current.version == 0
    factory.sound = True
    assert isinstance(slot.apply(patch(0, 1)), Applied)


@pytest.mark.parametrize(
    ("failure", "reason"), [(BackendError("no memory on the GPU"), "backend"), (MemoryError("none left"), "internal")]
)
def test_failure_to_build_is_refused(slot: ModelSlot, factory: Factory, patch, failure: Exception, reason: str) -> None:
    factory.fails = failure
    outcome = slot.apply(patch(0, 1))
    assert isinstance(outcome, Refusal)
    assert (outcome.reason, outcome.running_version) == (reason, 0)
    assert slot.current.version == 0


def test_model_that_does_not_run_is_said_at_the_start(student: ModelBundle, factory: Factory) -> None:
    factory.sound = False
    with pytest.raises(BackendError):
        ModelSlot(student, factory)


def test_canary_runs_on_the_last_camera_frame(student: ModelBundle, tiny: type, patch) -> None:
    seen = []

    class Spy(tiny.Runtime):
        def check(self, frame_HWC: np.ndarray) -> None:
            seen.append(frame_HWC)

    slot = ModelSlot(student, lambda weights: Spy(0))
    frame = np.ones((48, 64, 3), np.uint8)
    slot.canary_HWC = frame
    slot.apply(patch(0, 1))
    assert seen[-1] is frame


def test_every_result_under_load_belongs_to_exactly_one_version(student: ModelBundle, tiny: type) -> None:
    """The bias of the last layer decides the label of every pixel, so a torn read would show at once."""
    bias = student.layout.slots[-1]
    subset = student.card.subset_indices

    def weights_of(version: int) -> np.ndarray:
        n = student.version0.copy()
        limit = (1 << 24) - 1
        n[bias.start : bias.stop] = -limit
        n[bias.start + subset[version % len(subset)]] = limit
        return n

    slot = ModelSlot(student, lambda w: OnnxRuntimeStudent(student.card, student.graph, student.layout, w))
    slot.apply(tiny.patch_bytes(student, (0, student.version0), (1, weights_of(1))))
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    done = threading.Event()
    seen: set[int] = set()
    torn: list[int] = []
    inferences = 0

    def infer() -> None:
        nonlocal inferences
        while not done.is_set():
            running = slot.current
            labels = running.runtime.predict(frame)
            inferences += 1
            seen.add(running.version)
            if set(np.unique(labels)) != {subset[running.version % len(subset)]}:
                torn.append(running.version)

    thread = threading.Thread(target=infer)
    thread.start()
    try:
        for version in range(1, 40):
            outcome = slot.apply(
                tiny.patch_bytes(student, (version, weights_of(version)), (version + 1, weights_of(version + 1)))
            )
            assert isinstance(outcome, Applied)
    finally:
        done.set()
        thread.join()
    assert torn == []
    assert len(seen) > 3
    assert inferences > len(seen)


def test_concurrent_patches_are_applied_one_after_the_other(student: ModelBundle, tiny: type, patch) -> None:
    slot = ModelSlot(student, lambda w: OnnxRuntimeStudent(student.card, student.graph, student.layout, w))
    outcomes: list[Applied | Refusal] = []
    threads = [threading.Thread(target=lambda: outcomes.append(slot.apply(patch(0, 1)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.changed for outcome in outcomes if isinstance(outcome, Applied)) == [False] * 3 + [True]
