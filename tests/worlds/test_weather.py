"""Weather: mixing two of them, the same condition on another day, and the conditions that there are."""

from __future__ import annotations

import numpy as np
import pytest

from ams.errors import ConfigError
from worlds.weather import CONDITIONS, Weather, condition


def test_a_mixture_begins_with_one_weather_and_ends_with_the_other() -> None:
    day, rain = condition("day"), condition("rain")
    assert day.mixed_with(rain, 0.0) == day
    assert day.mixed_with(rain, 1.0) == rain


def test_half_and_half_lies_in_the_middle_of_colours_and_numbers() -> None:
    mixed = Weather(light=(1, 0.5, 0), noise=2.0, rain=0.0).mixed_with(
        Weather(light=(0, 0.5, 1), noise=6.0, rain=1), 0.5
    )
    assert mixed.light == (0.5, 0.5, 0.5)
    assert (mixed.noise, mixed.rain) == (4.0, 0.5)
    assert mixed.sky_top == Weather().sky_top


def test_a_weather_mixed_with_itself_is_itself() -> None:
    fog = condition("fog")
    mixed = fog.mixed_with(fog, 0.3)
    assert mixed.fog == pytest.approx(fog.fog)
    assert mixed.fog_per_m == pytest.approx(fog.fog_per_m)


@pytest.mark.parametrize("name", CONDITIONS)
def test_another_day_follows_from_its_random_numbers_alone(name: str) -> None:
    weather = condition(name)
    first, again, other = (weather.varied(np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert first == again
    assert first != other
    assert first != weather


@pytest.mark.parametrize("name", CONDITIONS)
def test_another_day_is_still_that_weather(name: str) -> None:
    weather = condition(name)
    for seed in range(50):
        varied = weather.varied(np.random.default_rng(seed))
        for colour in (varied.light, varied.sky_top, varied.sky_low, varied.fog):
            assert all(0 <= part <= 255 for part in colour)
        assert np.mean(varied.light) == pytest.approx(np.mean(weather.light), rel=0.35)
        assert 0.7 * weather.fog_per_m <= varied.fog_per_m <= 1.4 * weather.fog_per_m
        assert (varied.lamps, varied.blur) == (weather.lamps, weather.blur)
        assert varied.noise > 0
        assert (varied.rain > 0, varied.wet > 0) == (weather.rain > 0, weather.wet > 0), "nothing dry gets wet"


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_conditions_keep_to_their_units(name: str) -> None:
    weather = condition(name)
    assert all(0 <= factor <= 1 for factor in weather.light)
    assert all(0 <= part <= 255 for colour in (weather.sky_top, weather.sky_low, weather.fog) for part in colour)
    for share in (weather.shadow, weather.lamps, weather.wet, weather.rain):
        assert 0 <= share <= 1


def test_nights_are_darker_than_days_and_only_they_need_lamps() -> None:
    light = {name: float(np.mean(weather.light)) for name, weather in CONDITIONS.items()}
    assert light["day"] > light["overcast"] > light["dusk"] > light["night"]
    assert condition("day").lamps == 0 < condition("dusk").lamps < condition("night").lamps


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no weather 'Day'; there are day, overcast, dusk, night, fog, rain"):
        condition("Day")
