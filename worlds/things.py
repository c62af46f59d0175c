"""Cars, people, trees and lamps: drawn as flat shapes at their depth, nearest last.

Each shape goes into the colour picture and, with the thing's number, into a second one, from which labels and depth
follow. Knows site and camera; does not know weather.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from worlds.backdrop import Canvas
from worlds.camera import NEAR_M, Camera
from worlds.classes import BUILDING, CAR, PERSON, VEGETATION
from worlds.site import LENGTH_M, Site, Thing

SEEN_M = 90.0
"""Farther away a thing is less than a pixel or two."""

BEHIND_M = 12.0
CLEAR_M = 11.0
"""Nothing that stands still is nearer to a fixed camera."""

MOST = 254
SUB = 3
"""Bits of a fraction of a pixel in OpenCV's coordinates."""

CLASS_OF = {"car": CAR, "person": PERSON, "tree": VEGETATION, "lamp": BUILDING}
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """A light that a thing carries: where in the picture and how far away, how large, which colour."""

    u: float
    v: float
    depth_m: float
    radius_px: float
    colour: Colour


@dataclass(frozen=True)
class _Placed:
    thing: Thing
    x_m: float
    z_m: float
    depth_m: float


class Things:
    """Draws what moves or stands about on a site for one camera."""

    def __init__(self, site: Site, camera: Camera, *, moving: bool) -> None:
        self._site = site
        self._camera = camera
        self._moving = moving
        # Whoever mounts a camera chooses a place with a view; who drives along has no choice.
        self._clear_m = 0.0 if moving else CLEAR_M

    def draw(self, canvas: Canvas, x_m: float, z_m: float, t_s: float, shadow: float) -> list[Light]:
        """Draw them as they are at `t_s`, the camera's foot at (`x_m`, `z_m`); returns their lights."""
        placed = self._placed(x_m, z_m, t_s)
        number = np.zeros(canvas.labels.shape, np.uint8)
        if shadow > 0:
            self._shadows(canvas, placed, shadow)
        brush = _Brush(canvas.albedo, number, self._camera)
        lights: list[Light] = []
        for index, item in enumerate(placed, start=1):
            brush.number = index
            lights += {"car": _car, "person": _person, "tree": _tree, "lamp": _lamp}[item.thing.kind](brush, item, t_s)
        touched = number > 0
        classes = np.array([0, *(CLASS_OF[item.thing.kind] for item in placed)], np.uint8)
        depths = np.array([0, *(item.depth_m for item in placed)], np.float32)
        canvas.labels[touched] = classes[number[touched]]
        canvas.depth_m[touched] = depths[number[touched]]
        canvas.glow[touched] = 0
        return [light for light in lights if not _hidden(light, canvas.depth_m)]

    def _placed(self, x_m: float, z_m: float, t_s: float) -> list[_Placed]:
        """What is in sight, farthest first."""
        items = []
        for thing in self._site.things:
            x, z = thing.x_m, thing.z_m + thing.speed_m_s * t_s
            if thing.crosses:
                if self._moving:
                    continue
                stretch = 2 * (self._site.pavement_m - 0.6)
                walked = (1.25 * t_s + 7 * thing.phase) % (2 * stretch)
                x = min(walked, 2 * stretch - walked) - stretch / 2
            ahead = (z - z_m + BEHIND_M) % LENGTH_M - BEHIND_M
            depth = self._camera.depth_of(x - x_m, ahead)
            if self._clear_m > depth and thing.speed_m_s == 0:
                continue
            if NEAR_M < depth < SEEN_M:
                items.append(_Placed(thing, x - x_m, ahead, depth))
        items.sort(key=lambda item: -item.depth_m)
        return items[-MOST:]

    def _shadows(self, canvas: Canvas, placed: list[_Placed], strength: float) -> None:
        camera = self._camera
        shade = np.ones(canvas.labels.shape, np.float32)
        for item in placed:
            half, deep = {"car": (1.15, 2.3), "person": (0.34, 0.3), "tree": (1.6, 1.3), "lamp": (0.1, 0.1)}[
                item.thing.kind
            ]
            u, v = camera.column_of(item.x_m + 0.3 * half, item.z_m), camera.row_of(0, item.depth_m)
            near = camera.row_of(0, max(NEAR_M, item.depth_m - deep))
            axes = (max(1, int(camera.focal_px * half / item.depth_m)), max(1, int((near - v) * 0.8)))
            cv2.ellipse(shade, (int(u), int(v)), axes, 0, 0, 360, 1 - strength, cv2.FILLED)
        canvas.albedo *= shade[..., None]


def _hidden(light: Light, depth_m: npt.NDArray[np.float32]) -> bool:
    """Whether something stands before a light."""
    height, width = depth_m.shape
    u, v = int(light.u), int(light.v)
    return 0 <= u < width and 0 <= v < height and float(depth_m[v, u]) < light.depth_m - 0.5


class _Brush:
    """Draws polygons and discs in metres at a depth, into colours and numbers alike."""

    def __init__(self, albedo: npt.NDArray[np.float32], number: npt.NDArray[np.uint8], camera: Camera) -> None:
        self._albedo = albedo
        self._number = number
        self.camera = camera
        self.number = 0

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """A convex polygon of pixels (u, v)."""
        corners = np.array([(_fixed(u), _fixed(v)) for u, v in points], np.int32)
        cv2.fillConvexPoly(self._albedo, corners, colour, cv2.LINE_8, SUB)
        cv2.fillConvexPoly(self._number, corners, self.number, cv2.LINE_8, SUB)

    def disc(self, u: float, v: float, radius_px: float, colour: Colour) -> None:
        """A disc in pixels."""
        centre, radius = (round(u * (1 << SUB)), round(v * (1 << SUB))), max(4, round(radius_px * (1 << SUB)))
        if abs(centre[0]) > 30_000 or abs(centre[1]) > 30_000:
            return
        cv2.circle(self._albedo, centre, radius, colour, cv2.FILLED, cv2.LINE_8, SUB)
        cv2.circle(self._number, centre, radius, self.number, cv2.FILLED, cv2.LINE_8, SUB)


def _fixed(pixels: float) -> int:
    """A coordinate in OpenCV's fractions of a pixel, never too far outside the picture."""
    return round(max(-4000.0, min(4000.0, pixels)) * (1 << SUB))


def _scaled(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(255.0, c * factor) for c in colour)
    return r, g, b


def _car(brush: _Brush, item: _Placed, _: float) -> list[Light]:
    """A car along the street: the end that we see, the side that we see, a cabin of glass, wheels, lights."""
    camera, thing = brush.camera, item.thing
    size = thing.size
    half, length, waist, roof = 0.9 * size, 4.2 * size, 0.95 * size, 1.5 * size
    near_z, far_z = item.z_m - length / 2, item.z_m + length / 2

    def at(x: float, y: float, z: float) -> tuple[float, float]:
        depth = max(camera.depth_of(x, z), 0.7)
        return camera.column_of(x, z), camera.row_of(y, depth)

    if camera.depth_of(item.x_m, near_z) < 0.9:
        return []
    left, right = item.x_m - half, item.x_m + half
    side = right if item.x_m < 0 else left  # the side that faces the camera
    body, dark, glass = thing.colour, _scaled(thing.colour, 0.68), (52.0, 62.0, 74.0)
    wheel = (24.0, 24.0, 26.0)
    brush.polygon([at(side, 0.3, near_z), at(side, waist, near_z), at(side, waist, far_z), at(side, 0.3, far_z)], dark)
    tuck = 0.14 * half
    cab_side = side - tuck if side > item.x_m else side + tuck
    brush.polygon(
        [at(side, waist, near_z + 0.25), at(cab_side, roof, near_z + 0.75), at(cab_side, roof, far_z - 1.3),
         at(side, waist, far_z - 0.75)], glass,
    )  # fmt: skip
    for wheel_z in (near_z + 0.75, far_z - 0.8):
        u, v = at(side, 0.31, wheel_z)
        brush.disc(u, v, 0.33 * camera.focal_px / max(0.9, camera.depth_of(side, wheel_z)), wheel)
    brush.polygon([at(left, 0.28, near_z), at(left, waist, near_z), at(right, waist, near_z), at(right, 0.28, near_z)],
                  body)  # fmt: skip
    brush.polygon(
        [at(left + 0.05, waist, near_z + 0.2), at(left + tuck + 0.08, roof, near_z + 0.7),
         at(right - tuck - 0.08, roof, near_z + 0.7), at(right - 0.05, waist, near_z + 0.2)], _scaled(body, 0.9),
    )  # fmt: skip
    brush.polygon(
        [at(left + 0.16, waist + 0.05, near_z + 0.2), at(left + 0.32, roof - 0.1, near_z + 0.65),
         at(right - 0.32, roof - 0.1, near_z + 0.65), at(right - 0.16, waist + 0.05, near_z + 0.2)], glass,
    )  # fmt: skip
    for x in (left + 0.03, right - 0.25):
        brush.polygon([at(x, 0.02, near_z), at(x, 0.3, near_z), at(x + 0.22, 0.3, near_z), at(x + 0.22, 0.02, near_z)],
                      wheel)  # fmt: skip
    coming = thing.speed_m_s < 0 or (thing.speed_m_s == 0 and thing.x_m < 0)
    lamp: Colour = (250, 242, 214) if coming else (206, 24, 22)
    for x in (left + 0.08, right - 0.36):
        brush.polygon([at(x, 0.6, near_z), at(x, 0.76, near_z), at(x + 0.28, 0.76, near_z), at(x + 0.28, 0.6, near_z)],
                      lamp)  # fmt: skip
    if thing.speed_m_s == 0:
        return []
    scale = camera.focal_px / max(0.9, camera.depth_of(item.x_m, near_z))
    reach = 0.5 if coming else 0.24
    colour: Colour = (255, 244, 214) if coming else (255, 40, 30)
    near_m = camera.depth_of(item.x_m, near_z)
    return [Light(*at(x, 0.68, near_z), near_m, reach * scale, colour) for x in (left + 0.22, right - 0.22)]


def _person(brush: _Brush, item: _Placed, t_s: float) -> list[Light]:
    """Legs that walk, a body, a head."""
    camera, thing = brush.camera, item.thing
    u, scale = camera.column_of(item.x_m, item.z_m), camera.focal_px / item.depth_m
    tall = 1.74 * thing.size
    moves = thing.crosses or thing.speed_m_s != 0
    stride = 0.26 * math.sin(6.5 * t_s + thing.phase) if moves else 0.06

    def row(y: float) -> float:
        return camera.row_of(y, item.depth_m)

    trousers = _scaled((62.0, 62.0, 76.0), 0.6 + 0.12 * thing.phase)
    hip, shoulder = 0.5 * tall, 0.82 * tall
    for swing in (-stride, stride):
        foot = u + swing * scale
        wide = 0.09 * scale
        brush.polygon([(foot - wide, row(0)), (u - 1.3 * wide, row(hip)), (u + 1.3 * wide, row(hip)),
                       (foot + wide, row(0))], trousers)  # fmt: skip
    brush.polygon(
        [
            (u - 0.17 * scale, row(hip - 0.06)), (u - 0.24 * scale, row(shoulder - 0.05)),
            (u - 0.14 * scale, row(shoulder)), (u + 0.14 * scale, row(shoulder)),
            (u + 0.24 * scale, row(shoulder - 0.05)), (u + 0.17 * scale, row(hip - 0.06)),
        ],
        thing.colour,
    )  # fmt: skip
    brush.disc(u, row(0.92 * tall), 0.125 * scale, thing.second)
    return []


def _tree(brush: _Brush, item: _Placed, t_s: float) -> list[Light]:
    """A trunk and a crown of discs, light on top."""
    camera, thing = brush.camera, item.thing
    u, scale = camera.column_of(item.x_m, item.z_m), camera.focal_px / item.depth_m
    size = thing.size

    def row(y: float) -> float:
        return camera.row_of(y, item.depth_m)

    brush.polygon([(u - 0.13 * scale, row(0)), (u - 0.09 * scale, row(2.8 * size)), (u + 0.09 * scale, row(2.8 * size)),
                   (u + 0.13 * scale, row(0))], (84, 66, 52))  # fmt: skip
    sway = 0.05 * math.sin(0.9 * t_s + thing.phase)
    for x, y, radius, light in ((0.0, 3.6, 1.5, 0.74), (-0.85, 3.4, 1.0, 0.82), (0.9, 3.5, 1.05, 0.86),
                                (0.1, 4.5, 1.2, 1.0), (-0.4, 4.1, 0.8, 1.1), (0.45, 4.3, 0.7, 1.16)):  # fmt: skip
        turned = x * math.cos(thing.phase) + sway
        brush.disc(u + turned * size * scale, row(y * size), radius * size * scale, _scaled(thing.colour, light))
    return []


def _lamp(brush: _Brush, item: _Placed, _: float) -> list[Light]:
    """A pole with an arm towards the road."""
    camera = brush.camera
    u, scale = camera.column_of(item.x_m, item.z_m), camera.focal_px / item.depth_m
    toward = 1 if item.thing.x_m < 0 else -1

    def row(y: float) -> float:
        return camera.row_of(y, item.depth_m)

    wide = max(0.35, 0.06 * scale)
    grey: Colour = (70, 74, 78)
    brush.polygon([(u - wide, row(0)), (u - wide, row(5.6)), (u + wide, row(5.6)), (u + wide, row(0))], grey)
    head = u + toward * 1.1 * scale
    brush.polygon([(u, row(5.6)), (u, row(5.45)), (head, row(5.45)), (head, row(5.6))], grey)
    return [Light(head, row(5.4), item.depth_m, 1.0 * scale, (255, 214, 150))]
