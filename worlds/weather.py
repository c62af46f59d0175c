"""Weather and light: what a condition does to colours, air, ground and lens. Numbers only; nothing is drawn here.

A condition is one `Weather`; two of them mix, so that day turns into dusk and dusk into rain without a jump. Knows no
geometry and no time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ams.errors import ConfigError

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Weather:
    """One condition. Colours are RGB, 0 to 255 for what glows by itself and factors for what falls on surfaces.

    `fog_per_m` is the extinction of the air; `shadow`, `lamps`, `wet` and `rain` go from 0 to 1; `noise` is the
    sensor's standard deviation in grey levels, `blur` the lens's in pixels.
    """

    light: Rgb = (1.0, 1.0, 1.0)
    sky_top: Rgb = (96, 150, 226)
    sky_low: Rgb = (198, 222, 244)
    fog: Rgb = (204, 216, 228)
    fog_per_m: float = 0.0015
    shadow: float = 0.45
    lamps: float = 0.0
    wet: float = 0.0
    rain: float = 0.0
    saturation: float = 1.0
    noise: float = 3.0
    blur: float = 0.0

    def mixed_with(self, other: Weather, share: float) -> Weather:
        """This weather with a share (0 to 1) of another."""
        mixed: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, tuple):
                mixed[field.name] = tuple((1 - share) * m + share * t for m, t in zip(mine, theirs, strict=True))
            else:
                mixed[field.name] = (1 - share) * mine + share * theirs
        return Weather(**mixed)

    def varied(self, rng: np.random.Generator) -> Weather:
        """The same condition on another day: a little brighter or darker, warmer or colder, thicker or clearer."""
        tint = rng.normal(1.0, 0.04, 3) * rng.uniform(0.85, 1.12)

        def tinted(colour: Rgb) -> Rgb:
            r, g, b = (float(np.clip(c * t, 0, 255)) for c, t in zip(colour, tint, strict=True))
            return r, g, b

        return Weather(
            light=tinted(self.light),
            sky_top=tinted(self.sky_top),
            sky_low=tinted(self.sky_low),
            fog=tinted(self.fog),
            fog_per_m=self.fog_per_m * float(rng.uniform(0.7, 1.4)),
            shadow=self.shadow * float(rng.uniform(0.6, 1.2)),
            lamps=self.lamps,
            wet=self.wet * float(rng.uniform(0.8, 1.0)),
            rain=self.rain * float(rng.uniform(0.7, 1.2)),
            saturation=self.saturation * float(rng.uniform(0.88, 1.1)),
            noise=self.noise * float(rng.uniform(0.8, 1.3)),
            blur=self.blur,
        )


CONDITIONS = {
    "day": Weather(),
    "overcast": Weather(
        light=(0.80, 0.82, 0.86), sky_top=(166, 174, 184), sky_low=(206, 210, 214), fog=(196, 202, 208),
        fog_per_m=0.004, shadow=0.1, saturation=0.75, noise=4.0,
    ),
    "dusk": Weather(
        light=(0.62, 0.42, 0.44), sky_top=(58, 52, 104), sky_low=(246, 138, 78), fog=(176, 106, 92),
        fog_per_m=0.006, shadow=0.12, lamps=0.55, saturation=0.85, noise=7.0, blur=0.3,
    ),
    "night": Weather(
        light=(0.30, 0.30, 0.38), sky_top=(10, 12, 28), sky_low=(44, 40, 58), fog=(34, 35, 50),
        fog_per_m=0.006, shadow=0.0, lamps=1.0, saturation=0.6, noise=9.0, blur=0.4,
    ),
    "fog": Weather(
        light=(0.78, 0.80, 0.82), sky_top=(190, 194, 198), sky_low=(202, 205, 207), fog=(200, 203, 206),
        fog_per_m=0.04, shadow=0.0, lamps=0.25, saturation=0.5, noise=4.0, blur=0.5,
    ),
    "rain": Weather(
        light=(0.40, 0.45, 0.53), sky_top=(92, 102, 116), sky_low=(132, 141, 152), fog=(118, 127, 138),
        fog_per_m=0.014, shadow=0.0, lamps=0.6, wet=1.0, rain=1.0, saturation=0.5, noise=8.0, blur=0.6,
    ),
}  # fmt: skip
"""The conditions by name."""


def condition(name: str) -> Weather:
    """A condition by name. Raises ConfigError that lists what there is."""
    try:
        return CONDITIONS[name]
    except KeyError:
        raise ConfigError(f"no weather {name!r}; there are {', '.join(CONDITIONS)}") from None
