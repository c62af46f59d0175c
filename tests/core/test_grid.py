"""The integer grid: exact in float32, wide enough to grow, closed against NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.grid import LIMIT, MAX_EXPONENT, MIN_EXPONENT, ZERO_TENSOR_EXPONENT, grid_exponent, snap
from ams.errors import ModelError
from tests.core.students import PROPERTY


@PROPERTY
@given(st.integers(-(LIMIT - 1), LIMIT - 1), st.integers(MIN_EXPONENT, MAX_EXPONENT))
def test_every_grid_weight_is_a_float32(n: int, exponent: int) -> None:
    weight = np.ldexp(np.float32(n), exponent).astype(np.float32)
    assert float(weight) == n * 2.0**exponent
    assert snap(np.array([weight]), exponent)[0] == n


@pytest.mark.parametrize("largest", [1e-6, 0.3, 1.0, 1.5, 2.0, 37.0, 1e6])
def test_the_largest_weight_leaves_headroom(largest: float) -> None:
    exponent = grid_exponent(np.array([largest, -largest / 3]))
    n = abs(int(snap(np.array([largest]), exponent)[0]))
    assert 1 << 19 <= n <= 1 << 20  # of 24 bits, as docs/model-card.md says


def test_snapping_moves_a_weight_by_half_a_step_at_most() -> None:
    weights = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    exponent = grid_exponent(weights)
    error = np.abs(snap(weights, exponent) * 2.0**exponent - weights)
    assert error.max() <= 2.0**exponent / 2


def test_snapping_saturates_at_the_ends() -> None:
    assert snap(np.array([1e30, -1e30]), 0).tolist() == [LIMIT - 1, -(LIMIT - 1)]


def test_a_tensor_of_zeros_may_grow_to_one() -> None:
    exponent = grid_exponent(np.zeros(3))
    assert exponent == ZERO_TENSOR_EXPONENT
    assert snap(np.array([1.0]), exponent)[0] == LIMIT - 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ModelError, match="NaN or infinity"):
        grid_exponent(np.array([0.5, bad]))


def test_extreme_weights_keep_their_exponent_in_bounds() -> None:
    assert grid_exponent(np.array([1e-44])) == MIN_EXPONENT
    assert grid_exponent(np.array([3e38])) == MAX_EXPONENT
