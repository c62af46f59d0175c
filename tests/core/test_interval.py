"""The training interval: slower below 0.25 fps, back to the base above 0.35, its mode kept in between."""

from __future__ import annotations

import pytest

from ams.core.interval import TrainingInterval


def run(interval: TrainingInterval, *rates_hz: float) -> list[float]:
    return [interval.update(rate_hz) for rate_hz in rates_hz]


def test_it_grows_by_two_seconds_a_phase_once_five_rates_are_low() -> None:
    assert run(TrainingInterval(), *[0.1] * 8) == [10, 10, 10, 10, 12, 14, 16, 18]


def test_it_ends_at_six_times_the_base() -> None:
    assert run(TrainingInterval(), *[0.1] * 40)[-3:] == [60, 60, 60]
    assert run(TrainingInterval(base_s=4), *[0.1] * 40)[-1] == 24


def test_it_falls_back_to_the_base_at_once() -> None:
    interval = TrainingInterval()
    run(interval, *[0.1] * 10)
    # Means of the last five: 0.28, 0.46.
    assert run(interval, 1.0, 1.0) == [24, 10]
    assert not interval.slowed


def test_between_the_thresholds_it_keeps_its_mode() -> None:
    slow = TrainingInterval()
    run(slow, *[0.1] * 5)
    assert run(slow, *[0.3] * 6) == [14, 16, 18, 20, 22, 24]
    assert run(TrainingInterval(), *[0.3] * 6) == [10] * 6


def test_the_mean_decides_not_the_last_rate() -> None:
    # (4 * 0.1 + 0.8) / 5 = 0.24 is still slow; (4 * 0.1 + 0.9) / 5 = 0.26 was never slow.
    assert run(TrainingInterval(), 0.8, 0.1, 0.1, 0.1, 0.1)[-1] == 12
    assert run(TrainingInterval(), 0.9, 0.1, 0.1, 0.1, 0.1)[-1] == 10


def test_the_thresholds_themselves_change_nothing() -> None:
    assert run(TrainingInterval(), *[0.25] * 5)[-1] == 10
    slow = TrainingInterval()
    run(slow, *[0.125] * 5)
    assert slow.slowed
    run(slow, *[0.34375] * 5)
    assert slow.slowed


@pytest.mark.parametrize(("now_s", "due"), [(10.0, False), (19.9, False), (20.0, True), (99.0, True)])
def test_when_a_phase_is_due(now_s: float, due: bool) -> None:
    assert TrainingInterval().due(now_s, 10.0) is due


def test_the_first_phase_is_due_at_once() -> None:
    assert TrainingInterval().due(0.0, None)
