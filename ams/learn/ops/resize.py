"""The rule for Resize: two spatial dimensions, each to a size that is known when the graph is built.

Torch's own kernels where they compute what ONNX defines; otherwise the definition itself, as one index list per
direction (nearest) or one small matrix per direction (linear).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import fx

from ams.learn.emitter import Value
from ams.learn.ops.convolution import check_image
from ams.learn.ops.table import Site, rule

Positions = npt.NDArray[np.floating]
"""In float32, as ONNX Runtime computes them: at ties the rounding decides."""

TORCH_CUBIC_A = -0.75


@rule("Resize")
def _resize(site: Site) -> Value:
    check_image(site)
    attributes = site.attributes
    attributes.expect("antialias", 0)
    attributes.expect("keep_aspect_ratio_policy", "stretch")
    attributes.number("extrapolation_value", 0.0)  # concerns tf_crop_and_resize only, which is refused below
    mode = attributes.text("mode", "nearest")
    transform = attributes.text("coordinate_transformation_mode", "half_pixel")
    rounding = attributes.text("nearest_mode", "round_prefer_floor")
    cubic_a, exclude = attributes.number("cubic_coeff_a", TORCH_CUBIC_A), attributes.integer("exclude_outside", 0)
    size, scales = _target(site)
    held = site.shape()[2:]
    image = site.tensor(0)
    if tuple(size) == tuple(held) and all(scale == 1.0 for scale in scales):
        return image
    positions = [
        _positions(site, transform, before, after, scale)
        for before, after, scale in zip(held, size, scales, strict=True)
    ]
    even = all(before * scale == after for before, after, scale in zip(held, size, scales, strict=True))
    if mode == "nearest":
        return _nearest(site, image, size, positions, rounding)
    if mode == "cubic":
        if transform not in ("half_pixel", "align_corners") or exclude or cubic_a != TORCH_CUBIC_A or not even:
            site.refuse(f"cubic with {transform!r} and these options is not supported; export with mode linear")
        return site.call(nnf.interpolate, image, size=size, mode="bicubic", align_corners=transform == "align_corners")
    if mode != "linear":
        site.refuse(f"mode {mode!r} is not supported")
    if transform == "align_corners":
        return site.call(nnf.interpolate, image, size=size, mode="bilinear", align_corners=True)
    if even and (transform == "half_pixel" or (transform == "pytorch_half_pixel" and min(size) > 1)):
        return site.call(nnf.interpolate, image, size=size, mode="bilinear", align_corners=False)
    rows, columns = (
        site.emitter.tensor(_linear_matrix(place, before)) for place, before in zip(positions, held, strict=True)
    )
    return site.call(
        operator.matmul, site.call(operator.matmul, rows, image), site.call(torch.transpose, columns, 0, 1)
    )


def _target(site: Site) -> tuple[list[int], list[float]]:
    """Target (height, width) and the scales that the positions are computed with."""
    held = list(site.shape())
    axes = [axis % len(held) for axis in site.attributes.integers("axes", tuple(range(len(held)))) or []]
    sizes, scales = list(held), [1.0] * len(held)
    if site.given(3) and site.constant(3, "sizes").size:
        for axis, size in zip(axes, site.integers(3, "sizes"), strict=True):
            sizes[axis], scales[axis] = size, size / held[axis]
    else:
        for axis, scale in zip(axes, site.constant(2, "scales").astype(np.float64).tolist(), strict=True):
            sizes[axis], scales[axis] = math.floor(held[axis] * scale), scale
    if sizes[:2] != held[:2]:
        site.refuse(
            f"it resizes batch or channels (from {held} to {sizes} at batch 1); only height and width may change"
        )
    return sizes[2:], scales[2:]


def _positions(site: Site, transform: str, before: int, after: int, scale: float) -> Positions:
    """Where each output row or column lies in the input, [after], as ONNX defines it."""
    place = np.arange(after, dtype=np.float32)
    if transform == "align_corners":
        return place * (before - 1) / (after - 1) if after > 1 else np.zeros(1, np.float32)
    if transform == "asymmetric":
        return place / scale
    if transform == "tf_half_pixel_for_nn":
        return (place + 0.5) / scale
    if transform == "half_pixel" or (transform == "pytorch_half_pixel" and after > 1):
        return (place + 0.5) / scale - 0.5
    if transform == "pytorch_half_pixel":
        return np.zeros(1, np.float32)
    if transform != "half_pixel_symmetric":
        site.refuse(f"coordinate_transformation_mode {transform!r} is not supported")
    adjustment = after / (scale * before)
    return before / 2 * (1 - adjustment) + (place + 0.5) / scale - 0.5


def _nearest(site: Site, image: fx.Node, size: list[int], positions: list[Positions], rounding: str) -> fx.Node:
    held = site.shape()[2:]
    roundings: dict[str, Callable[[Positions], Positions]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda place: np.ceil(place - 0.5),
        "round_prefer_ceil": lambda place: np.floor(place + 0.5),
    }
    if rounding not in roundings:
        site.refuse(f"nearest_mode {rounding!r} is not supported")
    indices = [
        np.clip(roundings[rounding](place), 0, before - 1).astype(np.int64)
        for place, before in zip(positions, held, strict=True)
    ]
    plain = [np.arange(after) * before // after for before, after in zip(held, size, strict=True)]
    if all(np.array_equal(index, expected) for index, expected in zip(indices, plain, strict=True)):
        return site.call(nnf.interpolate, image, size=size, mode="nearest")
    rows = site.call(torch.index_select, image, 2, site.emitter.tensor(indices[0]))
    return site.call(torch.index_select, rows, 3, site.emitter.tensor(indices[1]))


def _linear_matrix(positions: Positions, before: int) -> npt.NDArray[np.float32]:
    """The matrix that interpolates linearly between neighbours and repeats the border, [after, before]."""
    place = np.clip(positions, 0, before - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, before - 1)
    share = place - low
    matrix = np.zeros((len(positions), before))
    rows = np.arange(len(positions))
    np.add.at(matrix, (rows, low), 1 - share)
    np.add.at(matrix, (rows, high), share)
    return matrix.astype(np.float32)
