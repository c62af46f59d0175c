"""Coordinate selection: exact counts, deterministic ties, controls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.selection import FullSelection, GradientGuidedSelection, RandomSelection
from ams.errors import ConfigError


def test_takes_the_highest_scores() -> None:
    scores = np.array([0.1, 0.9, 0.3, 0.8, 0.2, 0.0, 0.7, 0.4, 0.5, 0.6], np.float32)
    mask = GradientGuidedSelection(0.3).select(scores)
    assert np.flatnonzero(mask).tolist() == [1, 3, 6]


@given(st.integers(0, 400), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_count_is_exact_and_no_unselected_score_is_higher(size: int, percent: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 6, size).astype(np.float32)
    mask = GradientGuidedSelection(percent / 100).select(scores)
    assert mask.sum() == round(percent / 100 * size)
    if mask.any() and not mask.all():
        assert scores[mask].min() >= scores[~mask].max()


def test_of_equal_scores_the_lower_index_wins() -> None:
    scores = np.array([1, 2, 1, 1, 2, 1], np.float32)
    mask = GradientGuidedSelection(0.5).select(scores)
    assert np.flatnonzero(mask).tolist() == [0, 1, 4]


def test_nan_ranks_last() -> None:
    scores = np.array([np.nan, 0.0, np.nan, 1.0], np.float32)
    assert np.flatnonzero(GradientGuidedSelection(0.5).select(scores)).tolist() == [1, 3]


def test_all_scores_zero_still_gives_the_count() -> None:
    assert GradientGuidedSelection(0.05).select(np.zeros(100, np.float32)).sum() == 5


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="fraction"):
        GradientGuidedSelection(fraction)
    with pytest.raises(ConfigError, match="fraction"):
        RandomSelection(fraction)


def test_full_selection_takes_everything() -> None:
    assert FullSelection().select(np.zeros(7, np.float32)).all()


def test_random_selection_is_seeded_exact_and_redrawn() -> None:
    scores = np.zeros(1000, np.float32)
    first, again = RandomSelection(0.1, np.random.default_rng(3)), RandomSelection(0.1, np.random.default_rng(3))
    mask = first.select(scores)
    assert mask.sum() == 100
    assert np.array_equal(mask, again.select(scores))
    assert not np.array_equal(mask, first.select(scores))
