"""mIoU and phi-score against a slow implementation straight from the definition (invariant 4, one definition)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.metrics import WINDOW_S, SlidingMiou, confusion, mean_iou, phi_score
from tests.core.students import PROPERTY

Frame = tuple[np.ndarray, np.ndarray]


def slow_miou(frames: list[Frame], subset: tuple[int, ...]) -> float:
    """Pixel by pixel: per class of the subset, intersection over union over all frames; mean over those that occur."""
    ious = []
    for wanted in subset:
        intersection = union = 0
        for reference, predicted in frames:
            for truth, guess in zip(reference.ravel().tolist(), predicted.ravel().tolist(), strict=True):
                if truth not in subset:
                    continue  # ignored, or a class that this stream is not judged on
                intersection += truth == wanted and guess == wanted
                union += truth == wanted or guess == wanted
        if union:
            ious.append(intersection / union)
    return sum(ious) / len(ious) if ious else math.nan


@st.composite
def frames_of(draw: st.DrawFn, classes: int) -> Frame:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    values = np.array([*range(classes), 255], np.uint8)
    return values[rng.integers(0, classes + 1, (4, 5))], values[rng.integers(0, classes + 1, (4, 5))]


@st.composite
def problems(draw: st.DrawFn) -> tuple[int, tuple[int, ...], list[Frame]]:
    classes = draw(st.integers(1, 5))
    subset = draw(st.lists(st.integers(0, classes - 1), min_size=1, unique=True))
    return classes, tuple(subset), draw(st.lists(frames_of(classes), min_size=1, max_size=6))


@PROPERTY
@given(problems())
def test_miou_is_the_definition(problem: tuple[int, tuple[int, ...], list[Frame]]) -> None:
    classes, subset, frames = problem
    matrices = [confusion(a, b, classes=classes, subset=subset) for a, b in frames]
    assert mean_iou(np.sum(matrices, axis=0), subset) == pytest.approx(slow_miou(frames, subset), nan_ok=True)


@PROPERTY
@given(problems(), st.floats(0.1, 8.0))
def test_the_sliding_miou_sums_exactly_the_last_ten_seconds(
    problem: tuple[int, tuple[int, ...], list[Frame]], gap_s: float
) -> None:
    classes, subset, frames = problem
    sliding = SlidingMiou(subset)
    for index, (reference, predicted) in enumerate(frames):
        now_s = 100 + index * gap_s
        value = sliding.add(now_s, confusion(reference, predicted, classes=classes, subset=subset))
        window = [f for i, f in enumerate(frames[: index + 1]) if 100 + i * gap_s > now_s - WINDOW_S]
        assert value == pytest.approx(slow_miou(window, subset), nan_ok=True)


def test_a_frame_leaves_the_window_when_it_is_ten_seconds_old() -> None:
    sliding = SlidingMiou((0,))
    right, wrong = np.array([[4, 0]]), np.array([[0, 4]])
    assert sliding.add(0.0, right) == 1.0
    assert sliding.add(9.5, wrong) == 0.5
    assert sliding.add(10.0, wrong) == 0.0


def test_by_hand() -> None:
    reference = np.array([[0, 0, 1, 1]], np.uint8)
    predicted = np.array([[0, 1, 1, 1]], np.uint8)
    matrix = confusion(reference, predicted, classes=2, subset=(0, 1))
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0]]
    assert mean_iou(matrix, (0, 1)) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_ignored_pixels_and_classes_outside_the_subset_do_not_count() -> None:
    reference = np.array([0, 0, 255, 2], np.uint8)
    predicted = np.array([0, 0, 1, 1], np.uint8)
    assert mean_iou(confusion(reference, predicted, classes=3, subset=(0, 1)), (0, 1)) == 1.0


def test_a_prediction_outside_the_subset_or_the_classes_is_wrong() -> None:
    reference = np.array([0, 0, 0, 0], np.uint8)
    predicted = np.array([0, 2, 255, 200], np.uint8)
    matrix = confusion(reference, predicted, classes=3, subset=(0, 1))
    assert mean_iou(matrix, (0, 1)) == 0.25


def test_a_class_that_is_only_predicted_counts_as_zero_and_an_absent_one_not_at_all() -> None:
    reference = np.array([0, 0], np.uint8)
    assert mean_iou(confusion(reference, np.array([0, 1], np.uint8), classes=3, subset=(0, 1, 2)), (0, 1, 2)) == 0.25
    assert mean_iou(confusion(reference, reference, classes=3, subset=(0, 1, 2)), (0, 1, 2)) == 1.0


def test_nothing_to_judge_is_nan() -> None:
    ignored = np.full((2, 2), 255, np.uint8)
    assert math.isnan(mean_iou(confusion(ignored, ignored, classes=2, subset=(0, 1)), (0, 1)))


def test_255_classes_fit() -> None:
    labels = np.arange(255, dtype=np.uint8)
    assert mean_iou(confusion(labels, labels, classes=255, subset=tuple(range(255))), tuple(range(255))) == 1.0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        confusion(np.zeros(2, np.uint8), np.zeros(3, np.uint8), classes=1, subset=(0,))


def test_phi_is_one_for_a_still_scene_and_falls_with_change() -> None:
    still = np.array([[0, 0, 1, 1]], np.uint8)
    moved = np.array([[0, 1, 1, 0]], np.uint8)
    assert phi_score(still, still, classes=2, subset=(0, 1)) == 1.0
    assert phi_score(moved, still, classes=2, subset=(0, 1)) == pytest.approx(1 / 3)


def test_adding_a_frame_leaves_its_matrix_alone() -> None:
    sliding = SlidingMiou((0,))
    matrix = np.array([[1, 1]])
    for t_s in (0.0, 1.0, 20.0):
        sliding.add(t_s, matrix)
    assert matrix.tolist() == [[1, 1]]


@given(st.permutations(range(30)))
def test_a_late_frame_is_scored_with_what_is_known_up_to_its_time(order: list[int]) -> None:
    rng = np.random.default_rng(0)
    matrices = [rng.integers(0, 50, (3, 4)) for _ in range(30)]
    window = SlidingMiou((0, 1, 2))
    came: list[int] = []
    for t_s in order:
        came.append(t_s)
        known = [matrices[t] for t in came if t_s - WINDOW_S < t <= t_s]
        assert window.add(float(t_s), matrices[t_s]) == pytest.approx(mean_iou(sum(known), (0, 1, 2)))
