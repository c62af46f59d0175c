"""A pinhole camera above the street: where each pixel looks, and where a point of the street falls in the picture.

The camera turns about the vertical only; a horizon that is not in the middle is a shifted sensor, not a tilt. So
directions are separable, x and z by column and y by row, and upright things stay upright. Metres and pixels; `depth`
is along the direction that the camera looks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
FOCAL = 0.86
"""Focal length as a share of the picture's width: 60 degrees across."""

NEAR_M = 1.2


@dataclass(frozen=True)
class Camera:
    """`width` x `height` pixels, `above_m` over the ground, turned by `yaw` to the right, horizon at a share of the
    height."""

    width: int
    height: int
    above_m: float
    yaw: float = 0.0
    horizon: float = 0.42

    @cached_property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return FOCAL * self.width

    @cached_property
    def horizon_px(self) -> float:
        """The horizon's row."""
        return self.horizon * self.height

    @cached_property
    def _turn(self) -> tuple[float, float]:
        return math.cos(self.yaw), math.sin(self.yaw)

    @cached_property
    def across(self) -> Floats:
        """Sideways per depth of each column before turning, [W]."""
        return ((np.arange(self.width) + 0.5 - self.width / 2) / self.focal_px).astype(np.float32)

    @cached_property
    def dx(self) -> Floats:
        """Metres along x per metre of depth, [W]."""
        return (self.across * math.cos(self.yaw) + math.sin(self.yaw)).astype(np.float32)

    @cached_property
    def dz(self) -> Floats:
        """Metres along z per metre of depth, [W]."""
        return (math.cos(self.yaw) - self.across * math.sin(self.yaw)).astype(np.float32)

    @cached_property
    def dy(self) -> Floats:
        """Metres downwards per metre of depth, [H]."""
        return ((np.arange(self.height) + 0.5 - self.horizon_px) / self.focal_px).astype(np.float32)

    def depth_of(self, x_m: float, z_m: float) -> float:
        """Depth of a point that lies `x_m` to the right of and `z_m` in front of the camera's foot."""
        cos, sin = self._turn
        return x_m * sin + z_m * cos

    def column_of(self, x_m: float, z_m: float) -> float:
        """Its column; the point must lie in front of the camera."""
        cos, sin = self._turn
        return self.width / 2 + self.focal_px * (x_m * cos - z_m * sin) / max(x_m * sin + z_m * cos, NEAR_M / 2)

    def row_of(self, y_m: float, depth_m: float) -> float:
        """Row of something `y_m` above the ground."""
        return self.horizon_px + self.focal_px * (self.above_m - y_m) / depth_m
