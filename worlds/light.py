"""From daylight colours to what the camera sees: light, sky, lamps, wet ground, air, rain, lens and sensor.

Takes a canvas and a weather, gives RGB bytes. Knows no street: it works on depth, glow and labels. All noise comes
from a tile made once, shifted by the frame's seed, so a frame is the same whenever it is asked for.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from worlds.backdrop import Canvas
from worlds.camera import Camera, Floats
from worlds.classes import ROAD, SIDEWALK, SKY
from worlds.things import Light
from worlds.weather import Weather

WINDOW = np.array([217, 175, 110], np.float32)
CLOUDS_PX = 96
STREAKS = 420
"""Streaks of the hardest rain on a picture of 256x144; with the picture's area."""


class Lighting:
    """Lights the pictures of one camera. `seed` decides clouds and noise."""

    def __init__(self, camera: Camera, seed: int) -> None:
        rng = np.random.default_rng([7, seed])
        self._camera = camera
        height, width = camera.height, camera.width
        tile = rng.standard_normal((height + 64, width + 64, 3), np.float32)
        self._noise = 0.75 * tile + 0.6 * cv2.GaussianBlur(tile, (3, 3), 0.8)
        coarse = rng.random((6, 10), np.float32)
        clouds = cv2.resize(coarse, (width + CLOUDS_PX, height), interpolation=cv2.INTER_CUBIC)
        fine = cv2.resize(rng.random((24, 40), np.float32), (width + CLOUDS_PX, height), interpolation=cv2.INTER_CUBIC)
        self._clouds = np.clip(1.8 * (0.7 * clouds + 0.3 * fine) - 0.7, 0, 1)
        up = np.clip((camera.horizon_px - np.arange(height)) / camera.horizon_px, 0, 1).astype(np.float32)
        self._up = np.sqrt(up)[:, None, None]
        vignette_y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
        vignette_x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] ** 2
        self._vignette = (1 - 0.14 * (vignette_x + vignette_y))[..., None]

    def expose(self, canvas: Canvas, weather: Weather, lights: list[Light], t_s: float) -> npt.NDArray[np.uint8]:
        """The picture, RGB, [H, W, 3]."""
        # Light and saturation are one linear map of the colours.
        grey = (1 - weather.saturation) * np.tile(np.array([0.3, 0.59, 0.11]), (3, 1))
        mixing = (grey + weather.saturation * np.eye(3)) @ np.diag(weather.light)
        image: Floats = np.asarray(cv2.transform(canvas.albedo, mixing), np.float32)
        if weather.lamps > 0:
            image += (weather.lamps * canvas.glow)[..., None] * WINDOW
        self._sky(image, canvas, weather, t_s)
        if weather.wet > 0:
            self._wet(image, canvas, weather)
        air = (1 - np.exp(-weather.fog_per_m * np.minimum(canvas.depth_m, 600)))[..., None]
        sky = (canvas.labels == SKY)[..., None]
        image += np.where(sky, 0, air) * (np.array(weather.fog, np.float32) - image)
        if weather.lamps > 0.05:
            self._lamps(image, weather, lights)
        if weather.rain > 0:
            self._rain(image, weather, t_s)
        if weather.blur > 0.05:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.35 + weather.blur), np.float32)
        image *= self._vignette
        rng = np.random.default_rng([11, round(t_s * 1000)])
        v, u = rng.integers(0, 64, 2)
        noise = self._noise[v : v + self._camera.height, u : u + self._camera.width]
        noisy = cv2.scaleAdd(np.ascontiguousarray(noise), weather.noise, image)
        return np.clip(noisy, 0, 255).astype(np.uint8)

    def _sky(self, image: Floats, canvas: Canvas, weather: Weather, t_s: float) -> None:
        top, low = np.array(weather.sky_top, np.float32), np.array(weather.sky_low, np.float32)
        rows = int(self._camera.horizon_px) + 1
        colours = low + self._up[:rows] * (top - low)
        shift = (t_s * 1.5) % (2 * CLOUDS_PX)
        start = int(min(shift, 2 * CLOUDS_PX - shift))
        clouds = self._clouds[:rows, start : start + self._camera.width, None]
        bright = np.minimum(255, 0.55 * low + 0.45 * np.float32(255) * (low.mean() / 255))
        colours = colours + 0.6 * clouds * (bright - colours)
        sky = canvas.labels[:rows] == SKY
        image[:rows][sky] = colours[sky]

    def _wet(self, image: Floats, canvas: Canvas, weather: Weather) -> None:
        """Road and pavement darken and mirror what stands above the horizon, blurred downwards."""
        horizon = int(self._camera.horizon_px)
        rows = self._camera.height - horizon
        source = image[max(0, horizon - rows) : horizon][::-1]
        mirrored = cv2.resize(source, (self._camera.width, rows), interpolation=cv2.INTER_LINEAR)
        mirrored = cv2.blur(mirrored, (3, 9))
        ground = image[horizon:]
        flat = np.isin(canvas.labels[horizon:], (ROAD, SIDEWALK))[..., None]
        share = np.float32(0.42 * weather.wet)
        kept = np.float32((1 - 0.32 * weather.wet) * (1 - share))
        ground[:] = np.where(flat, kept * ground + share * mirrored, ground)

    def _lamps(self, image: Floats, weather: Weather, lights: list[Light]) -> None:
        """Halos, at half size because they are soft anyway."""
        halo = np.zeros((self._camera.height // 2, self._camera.width // 2, 3), np.float32)
        for light in lights:
            if -40 < light.u < self._camera.width + 40 and -40 < light.v < self._camera.height + 40:
                radius = int(np.clip(light.radius_px * 0.5, 1, 14))
                cv2.circle(halo, (int(light.u / 2), int(light.v / 2)), radius, light.colour, cv2.FILLED)
        soft = cv2.GaussianBlur(halo, (0, 0), 2.2) * 0.8 + cv2.GaussianBlur(halo, (0, 0), 7) * 0.9
        image += weather.lamps * cv2.resize(soft, (self._camera.width, self._camera.height))

    def _rain(self, image: Floats, weather: Weather, t_s: float) -> None:
        width, height = self._camera.width, self._camera.height
        rng = np.random.default_rng([13, round(t_s * 1000)])
        count = int(STREAKS * weather.rain * width * height / (256 * 144))
        starts = rng.uniform(0, 1, (count, 2)) * (width, height * 1.2) - (0, height * 0.1)
        lengths = rng.uniform(3, 11, count) * height / 144
        veil = np.zeros((height, width), np.float32)
        ends = starts + np.stack([-0.16 * lengths, lengths], axis=1)
        lines = np.round(np.stack([starts, ends], axis=1) * 8).astype(np.int32)
        cv2.polylines(veil, list(lines), isClosed=False, color=1.0, thickness=1, lineType=cv2.LINE_8, shift=3)
        image += 0.2 * veil[..., None] * (np.array([210, 218, 226], np.float32) - image)
