"""A script: which weather it is when. Text like `day 40, dusk 60, rain 90`, seconds each, begun anew at its end.

Pure: time is passed in. Knows names and times; what a weather looks like is `weather`'s.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from ams.errors import ConfigError
from worlds.weather import Weather, condition

CHANGE_S = 8.0
"""How long one weather takes to turn into the next."""

SCRIPTS = {
    "demo": "day 35, dusk 45, rain 100, night 60, fog 50, day 50, dusk 60, rain 60",
    "day": "day 3600",
    "dusk": "dusk 3600",
    "night": "night 3600",
    "fog": "fog 3600",
    "rain": "rain 3600",
}
"""Scripts by name. The demo's comes back to what it has shown before."""


@dataclass(frozen=True)
class Script:
    """Scenes one after the other: names and the times at which each begins; `length_s` is one round."""

    names: tuple[str, ...]
    starts_s: tuple[float, ...]
    length_s: float

    @classmethod
    def parse(cls, text: str) -> Script:
        """A named script, or scenes with their seconds. Raises ConfigError with an example."""
        text = SCRIPTS.get(text, text)
        names, starts, end_s = [], [], 0.0
        for scene in text.split(","):
            name, _, seconds = scene.strip().partition(" ")
            try:
                length_s = float(seconds)
            except ValueError:
                length_s = math.nan
            if not CHANGE_S <= length_s <= 86_400:
                raise ConfigError(
                    f"a script is one of {', '.join(SCRIPTS)}, or scenes like 'day 40, dusk 60' of {CHANGE_S:g} s or "
                    f"more; got {scene.strip()!r}"
                )
            condition(name)
            names.append(name)
            starts.append(end_s)
            end_s += length_s
        return cls(tuple(names), tuple(starts), end_s)

    def scene(self, t_s: float) -> str:
        """Name of the weather that it is, or is turning into."""
        return self.names[self._index(t_s)]

    def weather(self, t_s: float) -> Weather:
        """The weather at `t_s`; turning from the one before in a scene's first seconds."""
        index = self._index(t_s)
        weather = condition(self.names[index])
        since_s = t_s % self.length_s - self.starts_s[index]
        if since_s >= CHANGE_S or t_s < CHANGE_S:
            return weather
        share = since_s / CHANGE_S
        before = condition(self.names[index - 1])
        return before.mixed_with(weather, share * share * (3 - 2 * share))

    def _index(self, t_s: float) -> int:
        return bisect_right(self.starts_s, t_s % self.length_s) - 1
