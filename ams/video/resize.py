"""Resizing frames, the same way on the edge and on the server."""

from __future__ import annotations

import cv2
import numpy as np

from ams.core.preprocess import FramesNHWC


def resize(frames_NHWC: FramesNHWC, *, width: int, height: int) -> FramesNHWC:
    """Frames at another size, [N, height, width, 3]; the very same array when they have it already.

    Averages areas where the picture shrinks and interpolates linearly where it grows.
    """
    count, from_height, from_width = frames_NHWC.shape[:3]
    if (from_height, from_width) == (height, width):
        return frames_NHWC
    shrinks = height <= from_height and width <= from_width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized_NHWC = np.empty((count, height, width, 3), np.uint8)
    for frame_HWC, target_HWC in zip(frames_NHWC, resized_NHWC, strict=True):
        cv2.resize(frame_HWC, (width, height), dst=target_HWC, interpolation=interpolation)
    return resized_NHWC
