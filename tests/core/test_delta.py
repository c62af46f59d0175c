"""Sparse changes: their sums do not depend on order or grouping."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ams.core.delta import Delta
from tests.core.students import PROPERTY, changed, layout_of, random_weights

LAYOUT = layout_of(200, 300)


def walk(seed: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = [random_weights(LAYOUT, rng)]
    for _ in range(count):
        weights.append(changed(weights[-1], rng, share=0.2, bits=6))
    return weights


@PROPERTY
@given(st.integers(0, 1 << 30), st.integers(0, 6), st.randoms(use_true_random=False))
def test_any_order_and_any_grouping_of_steps_gives_the_same_sum(seed: int, count: int, random: Random) -> None:
    weights = walk(seed, count)
    steps = [Delta.between(a, b) for a, b in itertools.pairwise(weights)]
    shuffled = random.sample(steps, len(steps))
    cut = random.randint(0, len(steps))
    grouped = Delta.total([Delta.total(shuffled[:cut]), Delta.total(shuffled[cut:])])
    direct = Delta.between(weights[0], weights[-1])
    assert np.array_equal(grouped.positions, direct.positions)
    assert np.array_equal(grouped.values, direct.values)
    assert np.array_equal(grouped.added_to(weights[0]), weights[-1])
    assert np.array_equal(grouped.negated().added_to(weights[-1]), weights[0])


def test_positions_increase_and_values_are_never_zero() -> None:
    weights = walk(5, 3)
    there, back = Delta.between(weights[0], weights[2]), Delta.between(weights[2], weights[0])
    assert len(Delta.total([there, back])) == 0
    assert np.all(np.diff(there.positions) > 0)
    assert np.all(there.values != 0)


def test_the_extremes_of_the_grid_do_not_overflow() -> None:
    low, high = np.full(3, -(2**24 - 1), np.int32), np.full(3, 2**24 - 1, np.int32)
    assert Delta.between(low, high).values.tolist() == [2**25 - 2] * 3


def test_adding_leaves_the_vector_as_it_was() -> None:
    before = np.zeros(500, np.int32)
    Delta(np.array([1]), np.array([7])).added_to(before)
    assert not before.any()


def test_nothing_changes_nothing() -> None:
    n = np.arange(4, dtype=np.int32)
    assert np.array_equal(Delta.none().added_to(n), n)
    assert len(Delta.total([])) == 0
