"""From camera pixels to what a model takes: one scale and one offset per channel, NHWC bytes to NCHW floats.

The edge, the labeler and the trainer all call this one function, so they feed a model the same numbers. Knows the
card's input; does not resize (see `ams.video`) and does not know where frames come from.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ams.core.card import InputSpec
from ams.errors import ModelError

FramesNHWC = npt.NDArray[np.uint8]
"""RGB frames, [N, H, W, 3]."""

ImagesNCHW = npt.NDArray[np.float32]
"""Normalised images, [N, 3, H, W], contiguous."""


def normalize(frames_NHWC: FramesNHWC, spec: InputSpec) -> ImagesNCHW:
    """`(pixel * scale - mean) / std` of RGB frames, in the model's channel order: [N, H, W, 3] to [N, 3, H, W].

    `mean` and `std` belong to the model's channels in the model's order. Raises ModelError when the frames are not
    uint8 of the model's height and width.
    """
    expected = (spec.height, spec.width, 3)
    if frames_NHWC.ndim != 4 or frames_NHWC.shape[1:] != expected or frames_NHWC.dtype != np.uint8:
        raise ModelError(
            f"expected uint8 frames of shape [N, {spec.height}, {spec.width}, 3], got {frames_NHWC.dtype} "
            f"{list(frames_NHWC.shape)}; resize the frames to the card's input first"
        )
    factors, offsets = _scale_and_offset(spec)
    order = (0, 1, 2) if spec.channels == "rgb" else (2, 1, 0)
    images_NCHW = np.empty((len(frames_NHWC), 3, spec.height, spec.width), np.float32)
    for target, source in enumerate(order):
        plane_NHW = images_NCHW[:, target]
        np.multiply(frames_NHWC[..., source], factors[target], out=plane_NHW, dtype=np.float32, casting="unsafe")
        plane_NHW += offsets[target]
    return images_NCHW


@lru_cache(maxsize=64)
def _scale_and_offset(spec: InputSpec) -> tuple[tuple[np.float32, ...], tuple[np.float32, ...]]:
    """Factor and offset of each model channel, rounded to float32 once."""
    factors = tuple(np.float32(spec.scale / std) for std in spec.std)
    offsets = tuple(np.float32(-mean / std) for mean, std in zip(spec.mean, spec.std, strict=True))
    return factors, offsets
