"""Rate control of the downlink: what fits is sent, as fine as it may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.bitrate import BURST_S, BitrateBudget
from ams.core.delta import Delta
from ams.core.downlink import ALL_FROM, LEAST_FRACTION, MIN_UPDATE_BYTES, CoordinateControl, RateControl
from ams.core.layout import FloatVector, IntVector, Layout
from ams.core.patch import Patch
from ams.core.quantiser import Quantiser
from tests.core.students import MODEL_ID, PROPERTY, layout_of

Case = tuple[Layout, IntVector, FloatVector]


def phase(seed: int = 0) -> Case:
    """A student of 11,000 weights in 25 tensors and what a phase wants of it."""
    rng = np.random.default_rng(seed)
    layout = layout_of(*range(200, 700, 20))
    start = layout.to_grid(rng.normal(0, 0.05, layout.size).astype(np.float32))
    spread = np.concatenate([np.full(p.size, rng.uniform(5e-4, 4e-3)) for p in layout.parameters])
    moved = (rng.laplace(0, 1, layout.size) * spread).astype(np.float32)
    return layout, start, layout.to_float(start) + moved


def fitted(case: Case, budget_bytes: int, finest_rms: float = 1.0) -> tuple[Delta, int]:
    layout, start, wanted = case

    def size_of(delta: Delta) -> int:
        return len(encoded(delta, case))

    mask = np.ones(layout.size, np.bool_)
    control = RateControl(Quantiser(finest_rms))
    delta, _ = control.fit(start, wanted, mask, layout, budget_bytes=budget_bytes, size_of=size_of)
    return delta, size_of(delta)


def encoded(delta: Delta, case: Case) -> bytes:
    layout, start, _ = case
    digest = layout.digest(delta.added_to(start).astype(np.int32))
    return Patch(1, 2, MODEL_ID, digest, delta).encode(layout)


@pytest.mark.parametrize("budget_bytes", [600, 900, 1_500, 2_500])
def test_a_patch_fits_and_wastes_little(budget_bytes: int) -> None:
    _, size = fitted(phase(), budget_bytes)
    assert 0.8 * budget_bytes <= size <= budget_bytes


def test_nothing_finer_than_the_finest_is_sent_even_if_it_would_fit() -> None:
    rich, rich_bytes = fitted(phase(), 1 << 20)
    same, _ = fitted(phase(), rich_bytes)
    assert len(rich) == len(same)
    assert rich_bytes < 1 << 20


@PROPERTY
@given(st.integers(0, 1_000), st.integers(0, 4_000))
def test_more_bytes_never_bring_it_farther_from_what_was_wanted(seed: int, budget_bytes: int) -> None:
    case = phase(seed % 3)
    layout, start, wanted = case

    def error(budget: int) -> float:
        delta, size = fitted(case, budget)
        assert size <= budget or len(delta) == 0
        return float(np.square(layout.to_float(delta.added_to(start).astype(np.int32)) - wanted).sum())

    assert error(2 * budget_bytes) <= error(budget_bytes) * 1.05


def test_what_cannot_fit_is_not_sent() -> None:
    delta, _ = fitted(phase(), 10)
    assert len(delta) == 0


def test_the_budget_fills_with_time_and_is_spent() -> None:
    budget = BitrateBudget(kbps=8, least_bytes=MIN_UPDATE_BYTES)  # 1,000 bytes a second
    assert budget.grant_bytes(100.0, 10.0) == 10_000
    budget.spend(10_000)
    assert budget.grant_bytes(105.0, 10.0) == 5_000
    budget.spend(9_000)
    assert budget.grant_bytes(106.0, 10.0) == MIN_UPDATE_BYTES, "an overshoot is paid back"
    assert budget.grant_bytes(120.0, 10.0) == 11_000


def test_what_quiet_phases_save_up_is_bounded() -> None:
    budget = BitrateBudget(kbps=8, least_bytes=MIN_UPDATE_BYTES)
    budget.grant_bytes(0.0, 10.0)
    assert budget.grant_bytes(10_000.0, 10.0) == BURST_S * 1_000


def test_gamma_is_learned_from_the_sizes_of_updates() -> None:
    control = CoordinateControl(100_000)

    def size(fraction: float) -> int:  # a student whose updates take three times what is believed at first
        return round(0.33 * 100_000 * fraction**0.5)

    for _ in range(12):
        fraction = control.fraction_for(10_000)
        control.learn(fraction, size(fraction))
    assert size(control.fraction_for(10_000)) == pytest.approx(10_000, rel=0.02)


def test_a_gamma_near_one_is_one() -> None:
    control = CoordinateControl(100_000)
    fractions = [control.fraction_for(kilobytes * 1_000) for kilobytes in range(1, 20)]
    assert sorted(fractions) == fractions
    assert not [fraction for fraction in fractions if ALL_FROM <= fraction < 1]


def test_gamma_stays_within_its_bounds() -> None:
    control = CoordinateControl(100_000)
    assert control.fraction_for(1 << 30) == 1.0
    assert control.fraction_for(1) == LEAST_FRACTION
    control.learn(0.5, 0)
    assert control.bytes_per_weight > 0
