"""The sampling controller against its formula: r <- clip(r - 0.2 tanh(20 (phi - 0.6)), 0.1, 1)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.sampling import SamplingRate
from tests.core.students import PROPERTY


@pytest.mark.parametrize(
    ("hz", "phi", "expected"),
    [
        (0.5, 0.6, 0.5),
        (1.0, 0.65, 0.8476811688088470),  # 1 - 0.2 tanh(1)
        (0.5, 0.59, 0.5394750640449808),  # 0.5 + 0.2 tanh(0.2)
        (0.5, 0.5, 0.6928055160151634),  # 0.5 + 0.2 tanh(2)
        (0.15, 1.0, 0.1),
        (0.95, 0.0, 1.0),
    ],
)
def test_one_step_by_hand(hz: float, phi: float, expected: float) -> None:
    rate = SamplingRate(hz=hz)
    assert rate.update(phi) == pytest.approx(expected, abs=1e-12)
    assert rate.hz == pytest.approx(expected, abs=1e-12)


def test_no_pair_of_frames_leaves_the_rate() -> None:
    rate = SamplingRate(hz=0.4)
    assert rate.update(math.nan) == 0.4


def test_a_still_scene_ends_at_the_least_rate_and_a_wild_one_at_the_most() -> None:
    rate = SamplingRate()
    assert [round(rate.update(1.0), 3) for _ in range(6)] == [0.8, 0.6, 0.4, 0.2, 0.1, 0.1]
    assert [round(rate.update(0.0), 3) for _ in range(6)] == [0.3, 0.5, 0.7, 0.9, 1.0, 1.0]


@PROPERTY
@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0.1, 0.5), st.floats(0.6, 4))
def test_bounds_and_largest_step_hold(phis: list[float], min_hz: float, max_hz: float) -> None:
    rate = SamplingRate(hz=min_hz, min_hz=min_hz, max_hz=max_hz)
    for phi in phis:
        before = rate.hz
        assert min_hz <= rate.update(phi) <= max_hz
        assert abs(rate.hz - before) <= 0.2 + 1e-12
