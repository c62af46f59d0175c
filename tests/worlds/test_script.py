"""Scripts: which weather it is when, how one turns into the next, and what is said of text that is no script."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from ams.errors import ConfigError
from worlds.script import CHANGE_S, SCRIPTS, Script
from worlds.weather import CONDITIONS, Weather, condition


def numbers(weather: Weather) -> np.ndarray:
    """All numbers of a weather, one after the other."""
    return np.concatenate([np.atleast_1d(getattr(weather, field.name)) for field in fields(weather)])


def test_scenes_follow_one_another() -> None:
    script = Script.parse("day 40, dusk 60,rain 90")
    assert script == Script(("day", "dusk", "rain"), (0.0, 40.0, 100.0), 190.0)
    seen = [script.scene(t_s) for t_s in (0, 39.9, 40, 99.9, 100, 189.9)]
    assert seen == ["day", "day", "dusk", "dusk", "rain", "rain"]


@pytest.mark.parametrize("text", ["fog 8", "fog 8.0", " fog  8 ", "fog 0.8e1"])
def test_spaces_and_ways_to_write_a_number_do_not_matter(text: str) -> None:
    assert Script.parse(text) == Script(("fog",), (0.0,), 8.0)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_named_script_can_be_parsed(name: str) -> None:
    assert Script.parse(name) == Script.parse(SCRIPTS[name])


def test_the_demo_shows_what_it_has_shown_before() -> None:
    script = Script.parse("demo")
    assert script.names[0] == "day"
    for name in ("day", "dusk", "rain"):
        assert script.names.count(name) > 1
    assert set(script.names) < set(CONDITIONS)


def test_the_first_scene_is_there_from_the_beginning() -> None:
    script = Script.parse("rain 40, day 40")
    assert [script.weather(t_s) for t_s in (0, 1, 7.9, 30)] == [condition("rain")] * 4


def test_a_weather_turns_into_the_next_within_the_first_seconds_of_a_scene() -> None:
    script = Script.parse("day 40, night 40")
    assert script.weather(39.99) == condition("day")
    assert script.weather(40) == condition("day")
    half_way = numbers(condition("day").mixed_with(condition("night"), 0.5))
    assert numbers(script.weather(40 + CHANGE_S / 2)) == pytest.approx(half_way)
    assert script.weather(40 + CHANGE_S) == condition("night")
    light = [script.weather(t_s).light[0] for t_s in np.arange(40, 48.1, 0.5)]
    assert light == sorted(light, reverse=True)


@pytest.mark.parametrize("text", ["demo", "day 8, night 8, fog 8", "rain 10, day 9"])
def test_no_weather_jumps_not_even_where_the_script_begins_anew(text: str) -> None:
    script = Script.parse(text)
    step_s = 0.02
    times_s = np.arange(0, 2.2 * script.length_s, step_s)
    values = np.stack([numbers(script.weather(float(t_s))) for t_s in times_s])
    spans = np.ptp(np.stack([numbers(weather) for weather in CONDITIONS.values()]), axis=0)
    fastest = 1.5 * step_s / CHANGE_S  # of a smooth step, as a share of the way
    assert (np.abs(np.diff(values, axis=0)) <= fastest * 1.01 * spans + 1e-9).all()


def test_a_script_begins_anew_at_its_end() -> None:
    script = Script.parse("day 20, night 30, fog 10")
    assert script.length_s == 60
    for t_s in (0.0, 9.0, 20.5, 24.0, 59.0):
        assert script.scene(t_s + 60) == script.scene(t_s + 600) == script.scene(t_s)
    for t_s in (8.0, 20.5, 24.0, 59.0):
        assert numbers(script.weather(t_s + 600)) == pytest.approx(numbers(script.weather(t_s)))
    assert script.weather(60) == condition("fog"), "fog turns into day, which was simply there at first"
    assert script.weather(60 + CHANGE_S) == condition("day")


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "''"),
        ("weekend", "'weekend'"),
        ("day", None),
        ("day 40, dusk", "'dusk'"),
        ("day 40,", "''"),
        ("day forty", "'day forty'"),
        ("day 7.9", "'day 7.9'"),
        ("day -40", "'day -40'"),
        ("day nan", "'day nan'"),
        ("day inf", "'day inf'"),
        ("day 86401", "'day 86401'"),
        ("40", "'40'"),
        ("day 40; dusk 60", "'day 40; dusk 60'"),
    ],
)
def test_what_is_no_script_is_answered_with_what_there_is_and_an_example(text: str, got: str | None) -> None:
    if got is None:
        assert Script.parse(text).names == ("day",), "a weather alone is the script of that name"
        return
    with pytest.raises(ConfigError) as refused:
        Script.parse(text)
    said = str(refused.value)
    assert said == (
        "a script is one of demo, day, dusk, night, fog, rain, or scenes like 'day 40, dusk 60' of 8 s or more; "
        f"got {got}"
    )


def test_an_unknown_weather_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^no weather 'snow'; there are day, overcast, dusk, night, fog, rain$"):
        Script.parse("day 40, snow 60")
