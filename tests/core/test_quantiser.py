"""The quantiser: multiples of a power-of-two step, never off the grid, never outside the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.grid import LIMIT
from ams.core.quantiser import Quantiser
from ams.errors import ModelError
from tests.core.students import PROPERTY, layout_of, layouts, random_weights

LAYOUT = layout_of(300, 200, exponent=-18)


def wanted_near(start: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray:
    return ((start + rng.normal(0, spread, start.size)) * 2.0**-18).astype(np.float32)


@pytest.mark.parametrize("step_rms", [0.0, 0.35, 1.4, 2.0])
def test_the_step_is_the_power_of_two_nearest_to_its_share_of_the_rms(step_rms: float) -> None:
    rng = np.random.default_rng(0)
    start = random_weights(LAYOUT, rng, 19)
    wanted = wanted_near(start, rng, 700.0)
    delta = Quantiser(step_rms, dead_zone=0.5).quantise(start, wanted, np.ones(500, bool), LAYOUT)
    for slot in LAYOUT.slots:
        inside = (delta.positions >= slot.start) & (delta.positions < slot.stop)
        change = wanted[slot.start : slot.stop].astype(float) * 2.0**18 - start[slot.start : slot.stop]
        rms = float(np.sqrt(np.mean(change**2)))
        step = 2 ** round(float(np.log2(rms * step_rms))) if step_rms else 1
        assert np.all(delta.values[inside] % step == 0)
        assert np.any(delta.values[inside] % (2 * step) != 0)
        error = change.copy()
        error[delta.positions[inside] - slot.start] -= delta.values[inside]
        assert np.abs(error).max() <= step / 2


def test_a_dead_zone_sends_fewer_changes_and_none_of_less_than_a_step() -> None:
    rng = np.random.default_rng(3)
    start = random_weights(LAYOUT, rng, 19)
    wanted = wanted_near(start, rng, 700.0)
    everywhere = np.ones(500, bool)
    narrow, wide = (Quantiser(1.0, zone).quantise(start, wanted, everywhere, LAYOUT) for zone in (0.5, 0.8))
    assert set(wide.positions) < set(narrow.positions)
    for slot in LAYOUT.slots:
        for zone, delta in ((0.5, narrow), (0.8, wide)):
            inside = (delta.positions >= slot.start) & (delta.positions < slot.stop)
            step = int(np.gcd.reduce(np.abs(delta.values[inside])))
            change = wanted[delta.positions[inside]].astype(float) * 2.0**18 - start[delta.positions[inside]]
            assert np.abs(change).min() >= zone * step * 0.999


def test_coarser_is_the_same_with_a_larger_step() -> None:
    assert Quantiser(1.5, 0.7).coarser(4.0) == Quantiser(6.0, 0.7)


def test_only_masked_weights_move() -> None:
    rng = np.random.default_rng(1)
    start = random_weights(LAYOUT, rng, 19)
    mask = rng.random(500) < 0.1
    delta = Quantiser(0.35).quantise(start, wanted_near(start, rng, 300), mask, LAYOUT)
    assert 0 < len(delta) <= mask.sum()
    assert mask[delta.positions].all()


def test_what_rounds_to_zero_is_not_sent() -> None:
    start = np.zeros(500, np.int32)
    wanted = np.zeros(500, np.float32)
    wanted[0], wanted[1] = 1000 * 2.0**-18, 2.0**-18
    mask = np.zeros(500, bool)
    mask[:2] = True
    assert Quantiser(1.4).quantise(start, wanted, mask, LAYOUT).positions.tolist() == [0]


def test_nothing_wanted_gives_nothing() -> None:
    start = random_weights(LAYOUT, np.random.default_rng(2), 19)
    wanted = LAYOUT.to_float(start)
    assert len(Quantiser().quantise(start, wanted, np.ones(500, bool), LAYOUT)) == 0
    assert len(Quantiser().quantise(start, wanted + 1, np.zeros(500, bool), LAYOUT)) == 0


@PROPERTY
@given(st.data())
def test_the_result_is_always_on_the_grid(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    start = random_weights(layout, rng, 24)
    wanted = (layout.to_float(start).astype(float) * rng.normal(1, data.draw(st.sampled_from([0.01, 1, 30])))).astype(
        np.float32
    )
    quantiser = Quantiser(data.draw(st.sampled_from([0.0, 0.35, 2.0])))
    delta = quantiser.quantise(start, wanted, rng.random(layout.size) < 0.7, layout)
    result = delta.added_to(start)
    assert layout.in_range(result)
    moved = result - start
    ahead = layout.to_grid(wanted).astype(np.int64) - start
    assert np.all(moved * ahead >= 0)  # never away from what is wanted


def test_a_weight_at_the_end_of_the_grid_stops_there() -> None:
    start = np.full(500, LIMIT - 10, np.int32)
    wanted = np.full(500, 100.0, np.float32)
    result = Quantiser(0.35).quantise(start, wanted, np.ones(500, bool), LAYOUT).added_to(start)
    assert LAYOUT.in_range(result)
    assert np.all(result >= start)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diverged_training_is_named(bad: float) -> None:
    wanted = np.zeros(500, np.float32)
    wanted[400] = bad
    with pytest.raises(ModelError, match="'t1'"):
        Quantiser().quantise(np.zeros(500, np.int32), wanted, np.ones(500, bool), LAYOUT)
