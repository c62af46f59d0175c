"""Scenes that the project makes by itself, with exact labels: for the demo, for benchmarks and for tests.

`open_world` turns a short text such as `street?seed=5&camera=fixed&script=demo` into one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from ams.errors import ConfigError

if TYPE_CHECKING:
    from worlds.street import StreetWorld

EXAMPLE = "street?seed=5&camera=fixed&script=demo"
MOST_DIGITS = 20
"""Python refuses to read numbers of thousands of digits with an error of its own."""


def open_world(text: str) -> StreetWorld:
    """The world that `text` names. Raises ConfigError that says what can be written.

    Options: `seed` (a number), `camera` (moving or fixed), `script` (see `worlds.script`), `width`, `height`, `fps`.
    """
    from worlds.street import StreetWorld

    name, _, query = text.partition("?")
    if name != "street":
        raise ConfigError(f"no world {name!r}; there is 'street', for example {EXAMPLE}")
    given = dict(parse_qsl(query, keep_blank_values=True))
    camera = given.pop("camera", "moving")
    if camera not in ("moving", "fixed"):
        raise ConfigError(f"camera={camera!r} is neither moving nor fixed; for example {EXAMPLE}")
    script = given.pop("script", "demo")
    limits = {"seed": (0, 0, 2**31), "width": (256, 64, 1280), "height": (144, 36, 720), "fps": (30, 1, 60)}
    number = {
        key: _number(key, given.pop(key, str(default)), low, high) for key, (default, low, high) in limits.items()
    }
    if given:
        raise ConfigError(f"unknown option {', '.join(given)} of a world; for example {EXAMPLE}")
    return StreetWorld(
        seed=number["seed"], camera="fixed" if camera == "fixed" else "moving", script=script,
        width=number["width"], height=number["height"], fps=number["fps"],
    )  # fmt: skip


def _number(key: str, text: str, low: int, high: int) -> int:
    if not text.isdecimal() or len(text) > MOST_DIGITS or not low <= int(text) <= high:
        raise ConfigError(f"{key}={text!r} is no whole number from {low} to {high}; for example {EXAMPLE}")
    return int(text)
