"""A site: everything about one street that a seed decides and that stays. Colours, buildings, trees, who is about.

The street runs along z and repeats every `LENGTH_M`; x is to the right, heights are above the ground, all in metres.
Knows no camera, no weather and no pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LENGTH_M = 320.0
TEXTURE_PX = 256

Floats = npt.NDArray[np.float32]

FACADES = ((168, 96, 74), (205, 186, 150), (176, 172, 166), (222, 214, 202), (142, 118, 100), (188, 150, 120),
           (150, 160, 172), (210, 170, 150), (120, 96, 88))  # fmt: skip
"""Brick, sandstone, concrete, plaster and the like; a site takes a few of them."""

PAINTS = ((200, 36, 40), (34, 60, 120), (228, 228, 230), (24, 26, 30), (130, 134, 140), (60, 110, 84), (214, 170, 60),
          (150, 60, 40), (92, 130, 170))  # fmt: skip
CLOTHES = ((40, 44, 70), (150, 40, 44), (220, 210, 190), (60, 90, 60), (90, 60, 40), (210, 150, 60), (30, 30, 34),
           (110, 120, 160))  # fmt: skip
SKINS = ((236, 196, 170), (200, 150, 116), (140, 96, 70), (92, 62, 46))


@dataclass(frozen=True, eq=False)
class Row:
    """A row of buildings along one side, N of them: where each begins, [N], and what it is like, [N, ...].

    `height_m` 0 is a gap that one sees through; `green` marks hedges and trees instead of walls.
    """

    start_m: Floats
    height_m: Floats
    colour: Floats
    window_w_m: Floats
    window_h_m: Floats
    window_share: Floats
    green: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Thing:
    """A tree, a lamp, a car or a person: where it is at time 0, how it moves along z, how it looks."""

    kind: str
    x_m: float
    z_m: float
    speed_m_s: float
    size: float
    colour: tuple[float, float, float]
    second: tuple[float, float, float]
    phase: float
    crosses: bool = False


@dataclass(frozen=True, eq=False)
class Site:
    """One street."""

    road_m: float
    """Half the width of the road."""
    pavement_m: float
    """From the middle to the walls."""
    asphalt: Floats
    paving: Floats
    foliage: Floats
    marking: Floats
    texture: Floats
    """Noise from -1 to 1, [256, 256], that repeats."""
    rows: dict[str, Row]
    things: tuple[Thing, ...]
    sun_left: float
    """How much brighter the left walls are than the right ones."""


def make_site(seed: int) -> Site:
    """The street of a seed; the same on every machine."""
    rng = np.random.default_rng([20_260_000, seed])
    road_m = float(rng.uniform(3.4, 4.6))
    pavement_m = road_m + float(rng.uniform(2.4, 4.2))
    grey = rng.uniform(78, 122)
    facades = rng.permutation(len(FACADES))[:4]
    near = {side: _row(rng, facades, low=6, high=15, gaps=0.16, greens=0.14) for side in ("left", "right")}
    far = {f"far {side}": _row(rng, facades, low=10, high=26, gaps=0.1, greens=0.3) for side in ("left", "right")}
    return Site(
        road_m=road_m,
        pavement_m=pavement_m,
        asphalt=_colour(grey + rng.normal(0, 3, 3)),
        paving=_colour(rng.uniform(138, 186) + rng.normal(0, 9, 3) + np.array([6, 0, -6])),
        foliage=_colour(np.array([rng.uniform(62, 112), rng.uniform(104, 142), rng.uniform(40, 70)])),
        marking=_colour(np.array([226, 224, 214])),
        texture=_texture(rng),
        rows={**near, **far},
        things=tuple(_things(rng, road_m, pavement_m)),
        sun_left=float(rng.uniform(-0.14, 0.14)),
    )


def _colour(values: npt.NDArray[np.float64]) -> Floats:
    colour: Floats = np.clip(values, 0, 255).astype(np.float32)
    return colour


def _texture(rng: np.random.Generator) -> Floats:
    """Noise of several grains, from -1 to 1, that repeats without a seam."""
    total = np.zeros((TEXTURE_PX, TEXTURE_PX), np.float32)
    for cells, share in ((8, 0.5), (32, 0.3), (128, 0.35), (256, 0.35)):
        coarse = rng.normal(0, 1, (cells, cells)).astype(np.float32)
        total += share * np.kron(coarse, np.ones((TEXTURE_PX // cells,) * 2, np.float32))
    texture: Floats = np.clip(total / 1.5, -1, 1)
    return texture


def _row(
    rng: np.random.Generator, facades: npt.NDArray[np.int64], *, low: float, high: float, gaps: float, greens: float
) -> Row:
    starts = [0.0]
    while starts[-1] < LENGTH_M - 16:
        starts.append(starts[-1] + float(rng.uniform(7, 17)))
    count = len(starts)
    kind = rng.uniform(0, 1, count)
    green = kind < greens
    height = np.where(green, rng.uniform(2.5, 8, count), rng.uniform(low, high, count))
    height[(kind >= greens) & (kind < greens + gaps)] = 0
    colours = np.array(FACADES, np.float32)[rng.choice(facades, count)] * rng.uniform(0.8, 1.12, (count, 1))
    return Row(
        start_m=np.array(starts, np.float32),
        height_m=height.astype(np.float32),
        colour=np.clip(colours + rng.normal(0, 6, (count, 3)), 20, 250).astype(np.float32),
        window_w_m=rng.uniform(1.8, 3.4, count).astype(np.float32),
        window_h_m=rng.uniform(2.6, 3.4, count).astype(np.float32),
        window_share=rng.uniform(0.4, 0.68, count).astype(np.float32),
        green=green,
    )


def _things(rng: np.random.Generator, road_m: float, pavement_m: float) -> list[Thing]:
    things = []

    def add(kind: str, x_m: float, z_m: float, *, speed: float = 0.0, size: float = 1.0, crosses: bool = False,
            colours: tuple[tuple[int, int, int], ...] = PAINTS, seconds: tuple[tuple[int, int, int], ...] = SKINS,
            ) -> None:  # fmt: skip
        colour, second = colours[rng.integers(len(colours))], seconds[rng.integers(len(seconds))]
        r, g, b = (float(c * k) for c, k in zip(colour, rng.uniform(0.85, 1.1, 3), strict=True))
        things.append(
            Thing(kind, x_m, z_m, speed, size, (min(255.0, r), min(255.0, g), min(255.0, b)),
                  (float(second[0]), float(second[1]), float(second[2])), float(rng.uniform(0, 6.28)), crosses)
        )  # fmt: skip

    green = ((70, 112, 46), (88, 122, 52), (58, 100, 58), (104, 120, 56))
    for side in (-1, 1):
        spacing = float(rng.uniform(13, 24))
        kerb = side * (road_m + 0.7)
        for z in np.arange(float(rng.uniform(0, spacing)), LENGTH_M, spacing):
            if rng.uniform() < 0.7:
                add("tree", kerb, float(z + rng.normal(0, 1)), size=float(rng.uniform(0.7, 1.25)), colours=green)
            else:
                add("lamp", kerb, float(z))
        for z in np.arange(0, LENGTH_M, 6.4):
            if rng.uniform() < 0.34:
                add("car", side * (road_m - 1.0), float(z), size=float(rng.uniform(0.9, 1.12)))
        for _ in range(int(rng.integers(22, 34))):
            walk = float(rng.uniform(0.8, 1.6)) * float(rng.choice((-1, 1)))
            across = side * float(rng.uniform(road_m + 0.9, pavement_m - 0.4))
            add("person", across, float(rng.uniform(0, LENGTH_M)), speed=walk, size=float(rng.uniform(0.88, 1.08)),
                colours=CLOTHES)  # fmt: skip
        for _ in range(int(rng.integers(4, 7))):
            add("car", side * road_m * 0.4, float(rng.uniform(0, LENGTH_M)), speed=side * float(rng.uniform(6, 9)),
                size=float(rng.uniform(0.92, 1.15)))  # fmt: skip
    for _ in range(8):
        add("person", 0.0, float(rng.uniform(0, LENGTH_M)), size=float(rng.uniform(0.9, 1.05)), colours=CLOTHES,
            crosses=True)  # fmt: skip
    return things
