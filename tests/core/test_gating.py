"""Gating (invariant 3): judged on frames that were not trained on, published only for a real gain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.gating import CLOCK_TICK_S, EVERY, GUARD_S, Gate, split
from tests.core.students import PROPERTY


def matrix(hits: int, misses: int) -> np.ndarray:
    """One class of two: IoU hits / (hits + misses)."""
    return np.array([[hits, misses, 0], [0, 0, 0]])


def test_every_fourth_frame_is_held_out() -> None:
    parts = split([100.0 + i for i in range(10)])
    assert parts.held_out == (3, 7)
    assert parts.training == (0, 1, 2, 4, 5, 6, 8, 9)
    assert parts.guarded == ()


def test_frames_closer_than_a_second_to_a_held_out_one_are_in_neither() -> None:
    parts = split([100.0 + 0.5 * i for i in range(8)])
    assert parts.held_out == (3, 7)
    assert parts.guarded == (2, 4, 6)
    assert parts.training == (0, 1, 5)


def test_a_short_clip_is_held_out_whole() -> None:
    assert split([1.0, 2.0, 3.0]).held_out == (0, 1, 2)


def test_frames_too_close_to_what_was_trained_on_are_not_judged_on() -> None:
    assert split([10.0, 11.0, 12.0], trained_until_s=9.5).held_out == (1, 2)
    assert split([10.0], trained_until_s=9.5).held_out == ()


def test_a_clocks_rounding_does_not_cost_a_frame() -> None:
    times_s = [t_ns / 1e9 + 0.1 for t_ns in range(0, 8_000_000_000, 1_000_000_000)]
    assert split(times_s, trained_until_s=times_s[0] - 1.0).guarded == ()


@PROPERTY
@given(
    st.lists(st.floats(0.01, 3.0), min_size=1, max_size=40),
    st.floats(0, 2.5),
    st.integers(2, 6),
)
def test_no_frame_that_judges_is_near_one_that_trains(gaps_s: list[float], since_s: float, every: int) -> None:
    times_s = np.cumsum(gaps_s).tolist()
    trained_until_s = times_s[0] - since_s
    parts = split(times_s, trained_until_s=trained_until_s, every=every)
    assert sorted((*parts.held_out, *parts.training, *parts.guarded)) == list(range(len(times_s)))
    for judged in parts.held_out:
        for trained in [trained_until_s, *(times_s[index] for index in parts.training)]:
            assert abs(times_s[judged] - trained) >= GUARD_S - CLOCK_TICK_S
    assert len(times_s) < every or all(index % every == every - 1 for index in parts.held_out)
    assert EVERY == 4


def test_a_gain_above_the_margin_is_published() -> None:
    verdict = Gate(margin=0.05).judge([matrix(50, 50), matrix(60, 40)], [matrix(60, 40), matrix(70, 30)], (0,))
    assert verdict.publish
    assert verdict.gain == pytest.approx(0.1)
    assert verdict.frames == 2


@pytest.mark.parametrize("after", [matrix(50, 50), matrix(40, 60), matrix(75, 25)])
def test_a_model_that_is_worse_or_no_better_is_not_shipped(after: np.ndarray) -> None:
    assert not Gate(margin=0.25).judge([matrix(50, 50)], [after], (0,)).publish


def test_the_mean_decides_over_all_frames() -> None:
    before = [matrix(50, 50)] * 3
    after = [matrix(90, 10), matrix(30, 70), matrix(20, 80)]
    assert not Gate().judge(before, after, (0,)).publish


def test_frames_without_a_class_of_the_subset_do_not_judge() -> None:
    empty = np.zeros((2, 3), np.int64)
    verdict = Gate().judge([empty, matrix(50, 50)], [empty, matrix(80, 20)], (0,))
    assert verdict.frames == 1
    assert verdict.gain == pytest.approx(0.3)


def test_without_a_frame_nothing_is_published() -> None:
    assert not Gate(margin=-1).judge([], [], (0,)).publish
    empty = np.zeros((2, 3), np.int64)
    verdict = Gate(margin=-1).judge([empty], [empty], (0,))
    assert not verdict.publish
    assert not math.isnan(verdict.gain)


def test_before_and_after_must_be_the_same_frames() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Gate().judge([matrix(1, 1), matrix(1, 1)], [matrix(1, 1)], (0,))
