"""What stands still: sky, ground and the rows of buildings, worked out per pixel by where each one looks.

The street is made of planes: the ground, and two upright rows on either side. A pixel's ray meets each at a depth
that has a closed form, so a whole picture is a few array operations. Knows site and camera; does not know weather:
colours are those of plain daylight, and the buffers carry what the light needs (depth, lit windows, albedo).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worlds.camera import Camera, Floats
from worlds.classes import BUILDING, ROAD, SIDEWALK, SKY, VEGETATION
from worlds.site import LENGTH_M, TEXTURE_PX, Row, Site

FAR_M = 4000.0
FAR_ROW_M = 13.0
"""How far the second row of buildings stands behind the first."""

TEXELS_PER_M = 9.0
SHOP_M = 3.2
KERB_M = 0.28
ZEBRA_EVERY_M = 107.0
MASK = TEXTURE_PX - 1
STRIP_LABELS = np.array([ROAD, SIDEWALK, SIDEWALK, VEGETATION], np.uint8)


@dataclass(eq=False)
class Canvas:
    """The buffers of a picture: `albedo` [H, W, 3] in daylight colours, exact `labels` [H, W], `depth_m` [H, W], and
    `glow` [H, W], light that a pixel gives by itself once lamps are on (0 to 1)."""

    albedo: Floats
    labels: npt.NDArray[np.uint8]
    depth_m: Floats
    glow: Floats

    @classmethod
    def empty(cls, height: int, width: int) -> Canvas:
        """Nothing but sky."""
        return cls(
            np.zeros((height, width, 3), np.float32),
            np.full((height, width), SKY, np.uint8),
            np.full((height, width), FAR_M, np.float32),
            np.zeros((height, width), np.float32),
        )


class Backdrop:
    """Draws what stands still of a site for one camera."""

    def __init__(self, site: Site, camera: Camera) -> None:
        self._site = site
        self._camera = camera
        self._below = int(np.ceil(camera.horizon_px))
        depth = (camera.above_m / np.maximum(camera.dy[self._below :], 1e-4))[:, None]
        self._ground_depth = depth
        self._ground_x, self._ground_z = depth * camera.dx, depth * camera.dz
        self._fading = 1 / (1 + depth / 14)
        self._strips = np.stack([site.asphalt, site.paving * np.float32(1.12), site.paving, site.foliage])
        self._grain = np.array([15, 8, 12, 26], np.float32)
        self._tables = {name: _Table.of(row) for name, row in site.rows.items()}

    def draw(self, canvas: Canvas, x_m: float, z_m: float) -> None:
        """Draw it with the camera's foot at (`x_m`, `z_m`)."""
        self._ground(canvas, x_m, z_m)
        for name in ("far left", "far right", "left", "right"):
            out_m = self._site.pavement_m + (FAR_ROW_M if name.startswith("far") else 0.0)
            left = name.endswith("left")
            self._wall(canvas, self._tables[name], -out_m if left else out_m, x_m, z_m, left=left)

    def _ground(self, canvas: Canvas, x_m: float, z_m: float) -> None:
        site, depth = self._site, self._ground_depth
        x, z = self._ground_x + x_m, self._ground_z + z_m
        off = np.abs(x)
        # Which strip a pixel lies in: 0 road, 1 kerb, 2 pavement, 3 green.
        strip = (off >= site.road_m).view(np.uint8) + (off >= site.road_m + KERB_M) + (off > site.pavement_m)
        texels_z = (z * TEXELS_PER_M).astype(np.int32) & MASK
        texels_x = (x * TEXELS_PER_M).astype(np.int32) & MASK
        grain = self._grain[strip] * site.texture[texels_z, texels_x] * self._fading
        slab = (strip == 2) & (((z % 1.6) < 0.09) | ((off % 1.2) < 0.05)) & (depth < 26)
        dashed = (off < 0.1 + depth * 0.003) & ((z % 7.0) < 3.2)
        edge = np.abs(off - (site.road_m - 0.3)) < 0.06 + depth * 0.002
        zebra = ((z % ZEBRA_EVERY_M) < 3.6) & ((x % 1.1) < 0.55)
        marked = (strip == 0) & (dashed | edge | zebra)
        colour = self._strips[strip]
        colour += grain[..., None]
        colour[slab] *= 0.84
        colour[marked] = 0.25 * colour[marked] + 0.75 * site.marking
        rows = slice(self._below, None)
        canvas.albedo[rows], canvas.labels[rows], canvas.depth_m[rows] = colour, STRIP_LABELS[strip], depth

    def _wall(self, canvas: Canvas, table: _Table, plane_m: float, x_m: float, z_m: float, *, left: bool) -> None:
        """One upright plane at x = `plane_m`, seen from the street's side."""
        camera, texture = self._camera, self._site.texture
        facing = camera.dx < -1e-3 if left else camera.dx > 1e-3
        columns = np.flatnonzero(facing)
        if not len(columns):
            return
        first, last = int(columns[0]), int(columns[-1]) + 1
        depth = (plane_m - x_m) / camera.dx[first:last]
        seen = (depth > 0.3) & (depth < 400)
        s = (z_m + depth * camera.dz[first:last]) % LENGTH_M
        index = table.building[(s * 4).astype(np.int32) % len(table.building)]
        row = table.row
        y = camera.above_m - depth * camera.dy[:, None]  # height above the ground, [H, n]
        bumpy = texture[37, (s * 3).astype(np.int32) & MASK] * 0.5 + texture[90, (s * 11).astype(np.int32) & MASK] * 0.3
        roof = row.height_m[index] + np.where(row.green[index], 1.6 * bumpy, 0)
        mask = (y >= 0) & (y < roof) & seen & (depth < canvas.depth_m[:, first:last])
        if not mask.any():
            return
        v, u = np.nonzero(mask)
        building, height, along, far = index[u], y[v, u], s[u], depth[u]
        grain = texture[(height * 7).astype(np.int32) & MASK, (along * 7).astype(np.int32) & MASK] / (1 + far / 18)
        sunny = 1 + (self._site.sun_left if left else -self._site.sun_left)
        green = row.green[building]
        colour = np.where(green[:, None], self._site.foliage * 0.82, row.colour[building] * sunny)
        colour = colour + np.where(green, 34, 13)[:, None] * grain[:, None]
        # Windows: a grid of panes above the ground floor, shop fronts on it.
        width, tall, share = row.window_w_m[building], row.window_h_m[building], row.window_share[building]
        cell_s, cell_y = along / width, (height - SHOP_M) / tall
        pane = (
            (cell_s % 1 > (1 - share) / 2) & (cell_s % 1 < (1 + share) / 2) & (cell_y % 1 > 0.28) & (cell_y % 1 < 0.82)
        )
        pane &= (height > SHOP_M) & (height < roof[u] - 0.9)
        shop = (height < SHOP_M * 0.8) & (height > 0.5) & ((along / (1.9 * width)) % 1 > 0.16)
        glass = (pane | shop) & ~green
        hashed = (cell_s.astype(np.int32) * 57 + cell_y.astype(np.int32) * 131 + building * 29 + shop * 77) & MASK
        chance = texture[hashed, (hashed * 7) & MASK]
        colour[glass] = np.array([70, 84, 100], np.float32) + (42 * chance[glass])[:, None]
        ledge = ~green & (height > SHOP_M * 0.86) & (height < SHOP_M)
        colour[ledge] *= 0.72
        top = ~green & (height > roof[u] - 0.5)
        colour[top] *= 0.8
        v_all, u_all = v, u + first
        canvas.albedo[v_all, u_all] = colour
        canvas.labels[v_all, u_all] = np.where(green, VEGETATION, BUILDING)
        canvas.depth_m[v_all, u_all] = far
        canvas.glow[v_all, u_all] = glass * np.where(shop, 0.8, 0.95) * (chance > np.where(shop, -0.5, 0.12))


@dataclass(frozen=True, eq=False)
class _Table:
    """A row with the index of the building at each quarter of a metre."""

    row: Row
    building: npt.NDArray[np.int64]

    @classmethod
    def of(cls, row: Row) -> _Table:
        places = np.arange(0, LENGTH_M, 0.25)
        return cls(row, np.searchsorted(row.start_m, places, side="right") - 1)
