"""A street of blocks: sky, buildings, road and passing cars in plain colours with noise, under changing light.

Small enough that a student of a few thousand weights learns it in seconds, hard enough that one who has only seen
the day is lost at dusk. Deterministic: a seed and a time give a frame and its labels. Knows numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASSES = ("sky", "building", "road", "car")
SKY, BUILDING, ROAD, CAR = range(4)

COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "day": ((120, 180, 235), (170, 120, 90), (100, 100, 105), (200, 40, 50)),
    "dusk": ((105, 120, 165), (112, 84, 78), (70, 68, 82), (165, 75, 62)),
}
"""RGB of each class under each light. At dusk the sky is nearly as dark as the road by day."""

PALETTE = ((70, 130, 180), (190, 120, 90), (128, 64, 128), (220, 40, 60))
"""Colours of the classes in overlays."""

NOISE = 7.0
"""Standard deviation of the noise, in grey levels."""


@dataclass(frozen=True)
class BlockStreet:
    """A fixed camera on a street, `width` x `height` pixels, under one light."""

    width: int = 128
    height: int = 64
    light: str = "day"
    seed: int = 0

    def labels(self, t_s: float) -> npt.NDArray[np.uint8]:
        """Exact classes at `t_s` seconds, [H, W]."""
        rng = np.random.default_rng(self.seed)
        labels = np.full((self.height, self.width), SKY, np.uint8)
        horizon = int(self.height * 0.62)
        left = 0
        while left < self.width:
            wide = int(rng.integers(self.width // 10, self.width // 4))
            tall = int(rng.integers(self.height // 6, self.height // 2))
            labels[horizon - tall : horizon, left : left + wide] = BUILDING
            left += wide + int(rng.integers(0, self.width // 16 + 1))
        labels[horizon:] = ROAD
        for _ in range(3):
            speed = rng.uniform(0.08, 0.25) * self.width * rng.choice((-1, 1))
            wide, tall = self.width // 7, self.height // 7
            lane = int(rng.integers(horizon, self.height - tall))
            x = int((rng.uniform(0, self.width) + speed * t_s) % (self.width + wide)) - wide
            labels[lane : lane + tall, max(0, x) : max(0, x + wide)] = CAR
        return labels

    def frame(self, t_s: float) -> npt.NDArray[np.uint8]:
        """The camera's picture at `t_s` seconds, RGB, [H, W, 3]."""
        rng = np.random.default_rng([self.seed, round(t_s * 1000)])
        colours = np.array(COLOURS[self.light], np.float32)[self.labels(t_s)]
        noisy = colours + rng.normal(0, NOISE, colours.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)
