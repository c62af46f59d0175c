"""Training phases: what moves, what persists, what is undone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ams.core.selection import FullSelection, GradientGuidedSelection, RandomSelection
from ams.errors import ModelError
from ams.learn.adam import MaskedAdam
from ams.learn.phase import Batch, DistillationPhase, PhaseSettings
from ams.learn.student import Student
from ams.models.bundle import ModelBundle


@pytest.fixture
def student(bundle: ModelBundle) -> Student:
    return Student.from_bundle(bundle, verify=False)


@pytest.fixture
def batch(frames: np.ndarray) -> Batch:
    """Labels that can be learnt: the brighter half of the picture is class 3."""
    frames[:, :, 16:] //= 4
    labels = np.where(np.arange(32) < 16, 3, 1).astype(np.uint8)
    return frames, np.broadcast_to(labels, frames.shape[:3]).copy()


def phase(student: Student, fraction: float | None = 0.1, **settings: float) -> DistillationPhase:
    selection = FullSelection() if fraction is None else GradientGuidedSelection(fraction)
    return DistillationPhase(
        student, MaskedAdam(student.layout.size), selection, PhaseSettings.model_validate({"steps": 8, **settings})
    )


@pytest.mark.parametrize("fraction", [0.1, None])
def test_the_loss_falls(student: Student, batch: Batch, fraction: float | None) -> None:
    n = student.bundle.version0
    result = phase(student, fraction, lr=0.01).run(n, [batch] * 8)
    assert len(result.losses) == 8
    assert result.losses[-1] < 0.8 * result.losses[0]


def test_only_selected_weights_move(student: Student, batch: Batch) -> None:
    start = student.layout.to_float(student.bundle.version0)
    result = phase(student).run(student.bundle.version0, [batch] * 8)
    assert result.mask.sum() == round(0.1 * student.layout.size)
    assert np.array_equal(result.weights[~result.mask], start[~result.mask])
    assert (result.weights[result.mask] != start[result.mask]).mean() > 0.9
    np.testing.assert_array_equal(student.weights.detach().numpy(), result.weights)


def test_a_cold_optimiser_ranks_by_gradient(student: Student, batch: Batch) -> None:
    """Adam's first step is the same for every weight up to rounding; only the gradient tells them apart."""
    student.load(student.bundle.version0)
    run = phase(student)
    _, gradient = run._gradient(*batch)
    result = run.run(student.bundle.version0, [batch])
    expected = GradientGuidedSelection(0.1).select(gradient.abs().numpy())
    assert np.array_equal(result.mask, expected)


def test_a_warm_optimiser_ranks_by_its_step(student: Student, batch: Batch) -> None:
    run = phase(student)
    first = run.run(student.bundle.version0, [batch] * 8)
    n = student.layout.to_grid(first.weights)
    state = run.optimizer.state()
    full = DistillationPhase(student, run.optimizer, FullSelection(), run.settings).run(n, [batch])
    run.optimizer.load_state(state)
    masked = run.run(n, [batch])
    change = np.abs(full.weights - student.layout.to_float(n))
    assert np.array_equal(masked.mask, GradientGuidedSelection(0.1).select(change))


def test_moments_persist_over_phases(student: Student, batch: Batch) -> None:
    run = phase(student)
    run.run(student.bundle.version0, [batch] * 8)
    assert run.optimizer.steps == 8
    run.run(student.bundle.version0, [batch] * 8)
    assert run.optimizer.steps == 16
    assert (run.optimizer.state().second > 0).mean() > 0.9


def test_a_phase_starts_from_the_weights_of_the_device(student: Student, batch: Batch) -> None:
    n = student.bundle.version0 + 5
    result = phase(student).run(n, [batch])
    np.testing.assert_array_equal(result.weights[~result.mask], student.layout.to_float(n)[~result.mask])


def test_same_inputs_same_phase(student: Student, batch: Batch) -> None:
    n = student.bundle.version0
    one, other = phase(student).run(n, [batch] * 4), phase(student).run(n, [batch] * 4)
    assert one.weights.tobytes() == other.weights.tobytes()
    assert one.losses == other.losses


def test_takes_no_more_batches_than_steps(student: Student, batch: Batch) -> None:
    taken: list[int] = []

    def batches() -> Iterator[Batch]:
        for index in range(100):
            taken.append(index)
            yield batch

    assert len(phase(student, steps=3).run(student.bundle.version0, batches()).losses) == 3
    assert len(taken) == 3


def test_stops_between_steps_with_what_it_has(student: Student, batch: Batch) -> None:
    answers = iter([False, False, True])
    result = phase(student).run(student.bundle.version0, [batch] * 8, should_stop=lambda: next(answers))
    assert len(result.losses) == 2
    none = phase(student).run(student.bundle.version0, [batch] * 8, should_stop=lambda: True)
    assert none.losses == ()
    assert not none.mask.any()
    np.testing.assert_array_equal(none.weights, student.layout.to_float(student.bundle.version0))


def test_unlabelled_batches_change_nothing(student: Student, frames: np.ndarray) -> None:
    result = phase(student).run(student.bundle.version0, [(frames, np.full(frames.shape[:3], 255, np.uint8))] * 3)
    assert result.losses == (0.0, 0.0, 0.0)
    np.testing.assert_array_equal(result.weights, student.layout.to_float(student.bundle.version0))


def test_read_only_labels_are_taken(student: Student, batch: Batch) -> None:
    frames, labels = batch
    labels.flags.writeable = False
    assert len(phase(student).run(student.bundle.version0, [(frames, labels)]).losses) == 1


def test_a_loss_that_is_not_finite_undoes_the_phase(student: Student, batch: Batch) -> None:
    run = phase(student)
    run.run(student.bundle.version0, [batch] * 2)
    weights, state = student.weights.detach().clone(), run.optimizer.state()

    def batches() -> Iterator[Batch]:
        yield batch
        yield batch
        with torch.no_grad():
            student.weights[0] = float("nan")
        yield batch

    with pytest.raises(ModelError, match="not finite"):
        run.run(student.bundle.version0, batches())
    assert torch.equal(student.weights.detach(), weights)
    after = run.optimizer.state()
    assert after.steps == state.steps == 2
    assert np.array_equal(after.first, state.first)
    assert np.array_equal(after.second, state.second)


def test_a_failing_source_of_batches_undoes_the_phase(student: Student, batch: Batch) -> None:
    run = phase(student)
    before = student.weights.detach().clone()

    def batches() -> Iterator[Batch]:
        yield batch
        raise OSError("the clip is gone")

    with pytest.raises(OSError, match="gone"):
        run.run(student.bundle.version0 + 1, batches())
    assert torch.equal(student.weights.detach(), before)
    assert run.optimizer.is_cold


def test_labels_of_another_size_are_refused(student: Student, batch: Batch) -> None:
    with pytest.raises(ModelError, match="do not fit frames"):
        phase(student).run(student.bundle.version0, [(batch[0], batch[1][:, :8])])


def test_random_selection_trains_too(student: Student, batch: Batch) -> None:
    settings = PhaseSettings(steps=2)
    run = DistillationPhase(student, MaskedAdam(student.layout.size), RandomSelection(0.2), settings)
    assert run.run(student.bundle.version0, [batch] * 2).mask.sum() == round(0.2 * student.layout.size)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"lr": 0}, {"lr": 2}, {"depth": 1}])
def test_settings_have_bounds(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        PhaseSettings.model_validate(wrong)
