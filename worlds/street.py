"""The street world: a camera on a procedural street, its pictures and their exact labels at any time.

Deterministic: a seed, a script and a time give a frame. Puts site, camera, backdrop, things and light together; each
of them knows nothing of the others.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from worlds.backdrop import Backdrop, Canvas
from worlds.camera import Camera
from worlds.light import Lighting
from worlds.script import Script
from worlds.site import LENGTH_M, make_site
from worlds.things import Light, Things
from worlds.weather import Weather

Frame = npt.NDArray[np.uint8]
"""RGB, [H, W, 3]."""
Labels = npt.NDArray[np.uint8]
"""Class indices of `worlds.classes`, [H, W]."""

Mount = Literal["moving", "fixed"]

SPEED_M_S = 4.0
"""Of a moving camera."""

MIDDLE_M = 0.2
"""A moving camera keeps to the middle of the road, where nothing else is."""


class StreetWorld:
    """A camera on a street: `moving` along the middle of the road, or `fixed` to a pole beside it."""

    def __init__(
        self,
        *,
        seed: int = 0,
        camera: Mount = "moving",
        script: str | Script = "demo",
        width: int = 256,
        height: int = 144,
        fps: float = 30.0,
        daily: bool = False,
    ) -> None:
        """`daily` varies each weather a little with the seed. Raises ConfigError for a script that means nothing."""
        self.width = width
        self.height = height
        self.fps = fps
        self.seed = seed
        self.mount = camera
        self._script = script if isinstance(script, Script) else Script.parse(script)
        self._daily = daily
        rng = np.random.default_rng([20_260_001, seed])
        site = make_site(seed)
        self._moving = camera == "moving"
        if self._moving:
            self._x_m, above, yaw = MIDDLE_M, float(rng.uniform(2.0, 2.6)), float(rng.normal(0, 0.02))
        else:
            side = float(rng.choice((-1, 1)))
            self._x_m = side * (site.road_m + 0.6)
            above, yaw = float(rng.uniform(3.2, 4.2)), -side * float(rng.uniform(0.16, 0.3))
        self._z_m = float(rng.uniform(0, LENGTH_M))
        horizon = float(rng.uniform(0.38, 0.44)) if self._moving else float(rng.uniform(0.27, 0.34))
        view = Camera(width, height, above, yaw, horizon)
        self._backdrop = Backdrop(site, view)
        self._things = Things(site, view, moving=self._moving)
        self._lighting = Lighting(view, seed)
        self._still: Canvas | None = None

    def scene(self, t_s: float) -> str:
        """Name of the weather at `t_s`, for people."""
        return self._script.scene(t_s)

    def frame(self, t_s: float) -> Frame:
        """The camera's picture at `t_s` seconds."""
        return self.labelled(t_s)[0]

    def labels(self, t_s: float) -> Labels:
        """The exact class of every pixel at `t_s` seconds."""
        return self._draw(t_s, Weather(shadow=0))[0].labels

    def labelled(self, t_s: float) -> tuple[Frame, Labels]:
        """Both."""
        weather = self._script.weather(t_s)
        if self._daily:
            weather = weather.varied(np.random.default_rng([20_260_002, self.seed]))
        canvas, lights = self._draw(t_s, weather)
        return self._lighting.expose(canvas, weather, lights, t_s), canvas.labels

    def _draw(self, t_s: float, weather: Weather) -> tuple[Canvas, list[Light]]:
        x_m, z_m = self._x_m, self._z_m
        if self._moving:
            x_m += 0.25 * math.sin(0.31 * t_s)
            z_m = (z_m + SPEED_M_S * t_s) % LENGTH_M
            canvas = Canvas.empty(self.height, self.width)
            self._backdrop.draw(canvas, x_m, z_m)
        else:
            if self._still is None:
                self._still = Canvas.empty(self.height, self.width)
                self._backdrop.draw(self._still, x_m, z_m)
            still = self._still
            canvas = Canvas(still.albedo.copy(), still.labels.copy(), still.depth_m.copy(), still.glow.copy())
        return canvas, self._things.draw(canvas, x_m, z_m, t_s, weather.shadow)
