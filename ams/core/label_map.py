"""Label maps as bytes: a few frames of uint8 classes, losslessly, small enough to store and to send.

    offset  size  what
    0       4     b"AMSL"
    4       2     N, frames
    6       2     H
    8       2     W
    10      ...   one zstd frame of N*H*W bytes: each row minus the row above it (mod 256), frame by frame

Knows no classes and no sizes beyond its bounds.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import zstandard

from ams.errors import WireError

HEADER = struct.Struct("<4sHHH")
MAGIC = b"AMSL"
MAX_FRAMES = 64
MAX_SIDE = 4096
MAX_PIXELS = 64 * 1024 * 1024
"""Frames x height x width that a decoder will allocate."""

LabelMaps = npt.NDArray[np.uint8]
"""Classes per pixel, [N, H, W]; 255 is ignored."""


def encode(labels_NHW: LabelMaps) -> bytes:
    """Label maps, [N, H, W] uint8, as bytes. Raises WireError for maps that no decoder would take."""
    count, height, width = labels_NHW.shape
    _check_bounds(count, height, width, MAX_PIXELS)
    vertical = np.diff(labels_NHW, axis=1, prepend=np.zeros((count, 1, width), np.uint8))
    return HEADER.pack(MAGIC, count, height, width) + zstandard.ZstdCompressor(level=3).compress(vertical.tobytes())


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> LabelMaps:
    """Label maps, [N, H, W] uint8, from bytes. Raises WireError before allocating for anything out of bounds.

    `max_pixels` bounds N*H*W: whoever knows how many pixels may come says so, since a few bytes can claim many.
    """
    if len(data) < HEADER.size:
        raise WireError(f"label maps have at least {HEADER.size} bytes, got {len(data)}")
    magic, count, height, width = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise WireError(f"label maps start with {MAGIC!r}, got {magic!r}")
    _check_bounds(count, height, width, max_pixels)
    size = count * height * width
    coded = data[HEADER.size :]
    try:
        if zstandard.frame_content_size(coded) != size:
            raise WireError("label maps claim another length than their header")
        raw = zstandard.ZstdDecompressor().decompress(coded, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError("label maps are not a zstd frame") from error
    vertical = np.frombuffer(raw, np.uint8).reshape(count, height, width)
    return np.cumsum(vertical, axis=1, dtype=np.uint8)


def _check_bounds(count: int, height: int, width: int, max_pixels: int) -> None:
    if not 1 <= count <= MAX_FRAMES or not 1 <= height <= MAX_SIDE or not 1 <= width <= MAX_SIDE:
        raise WireError(
            f"expected label maps of 1 to {MAX_FRAMES} frames with sides of 1 to {MAX_SIDE}, "
            f"got {count} of {width}x{height}"
        )
    if count * height * width > max_pixels:
        raise WireError(f"label maps of {count * height * width} pixels, the limit is {max_pixels}")
