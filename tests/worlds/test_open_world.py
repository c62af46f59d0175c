"""Worlds by name: every option, and what is said of text that names none."""

from __future__ import annotations

import numpy as np
import pytest

from ams.errors import ConfigError
from worlds import EXAMPLE, open_world


def test_the_name_alone_is_enough() -> None:
    world = open_world("street")
    assert (world.seed, world.mount, world.width, world.height, world.fps) == (0, "moving", 256, 144, 30)
    assert world.scene(36.0) == "dusk", "the demo's script"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("street?seed=0", "seed", 0),
        ("street?seed=2147483648", "seed", 2**31),
        ("street?camera=moving", "mount", "moving"),
        ("street?camera=fixed", "mount", "fixed"),
        ("street?width=64", "width", 64),
        ("street?width=1280", "width", 1280),
        ("street?height=36", "height", 36),
        ("street?height=720", "height", 720),
        ("street?fps=1", "fps", 1),
        ("street?fps=60", "fps", 60),
    ],
)
def test_every_option_arrives(text: str, name: str, value: object) -> None:
    assert getattr(open_world(text), name) == value


@pytest.mark.parametrize("written", ["day 40, night 60", "day+40,+night+60", "day%2040%2C%20night%2060"])
def test_a_script_may_be_written_as_people_do_or_as_addresses_do(written: str) -> None:
    world = open_world(f"street?script={written}&seed=3")
    assert [world.scene(t_s) for t_s in (39.0, 41.0, 101.0)] == ["day", "night", "day"]
    assert world.seed == 3


def test_the_example_works() -> None:
    world = open_world(EXAMPLE)
    assert (world.seed, world.mount) == (5, "fixed")


def test_options_in_any_order_give_the_same_world() -> None:
    one = open_world("street?seed=4&camera=fixed&width=128&height=72")
    other = open_world("street?height=72&width=128&camera=fixed&seed=4")
    assert np.array_equal(one.frame(2.0), other.frame(2.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no world ''; there is 'street'"),
        ("desert?seed=5", "no world 'desert'; there is 'street'"),
        ("Street", "no world 'Street'; there is 'street'"),
        ("street?camera=flying", "camera='flying' is neither moving nor fixed"),
        ("street?camera=", "camera='' is neither moving nor fixed"),
        ("street?seed=five", "seed='five' is no whole number from 0 to 2147483648"),
        ("street?seed=-1", "seed='-1' is no whole number from 0 to 2147483648"),
        ("street?seed=2147483649", "seed='2147483649' is no whole number from 0 to 2147483648"),
        ("street?seed=1.5", "seed='1.5' is no whole number"),
        ("street?seed=", "seed='' is no whole number"),
        ("street?seed", "seed='' is no whole number"),
        ("street?width=63", "width='63' is no whole number from 64 to 1280"),
        ("street?width=1281", "width='1281' is no whole number from 64 to 1280"),
        ("street?height=35", "height='35' is no whole number from 36 to 720"),
        ("street?height=721", "height='721' is no whole number from 36 to 720"),
        ("street?fps=0", "fps='0' is no whole number from 1 to 60"),
        ("street?fps=61", "fps='61' is no whole number from 1 to 60"),
        ("street?sead=5", "unknown option sead of a world"),
        ("street?seed=5&speed=9&wind=3", "unknown option speed, wind of a world"),
    ],
)
def test_what_is_wrong_is_named_with_an_example(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_world(text)
    assert str(refused.value).startswith(said)
    assert str(refused.value).endswith(f"; for example {EXAMPLE}") or f", for example {EXAMPLE}" in str(refused.value)


@pytest.mark.parametrize("digits", [5_000, 50_000])
def test_a_number_too_long_to_read_is_refused_like_any_other(digits: int) -> None:
    with pytest.raises(ConfigError, match=r"^seed='9+' is no whole number from 0 to 2147483648"):
        open_world("street?seed=" + digits * "9")


@pytest.mark.parametrize("script", ["", "yesterday", "day 2"])
def test_a_script_that_means_nothing_is_answered_with_an_example(script: str) -> None:
    with pytest.raises(ConfigError, match="scenes like 'day 40, dusk 60'"):
        open_world(f"street?script={script}")


def test_an_unknown_weather_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no weather 'hail'; there are day, "):
        open_world("street?script=hail 40")
