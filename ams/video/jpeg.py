"""Clips as JPEGs, for devices without a video encoder: per frame its length (u32, little-endian) and its bytes."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from ams.core.preprocess import FramesNHWC
from ams.errors import VideoError

LENGTH = struct.Struct("<I")
QUALITIES = (75, 50, 30, 15, 5)
"""Tried from the best on until the clip fits."""

START, END = b"\xff\xd8", b"\xff\xd9"
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that begin a frame header, which holds the size."""


def encode(frames_NHWC: FramesNHWC, *, max_bytes: int) -> bytes:
    """The clip in at most `max_bytes`. Raises VideoError when it does not fit at the worst quality."""
    size = 0
    for quality in QUALITIES:
        pieces = [_encode_frame(frame_HWC, quality) for frame_HWC in frames_NHWC]
        size = sum(LENGTH.size + len(piece) for piece in pieces)
        if size <= max_bytes:
            return b"".join(LENGTH.pack(len(piece)) + piece for piece in pieces)
    raise VideoError(
        f"{len(frames_NHWC)} JPEG frames take {size} bytes at quality {QUALITIES[-1]}, the budget is {max_bytes}; "
        "send fewer or smaller frames, or use the codec 'h264'"
    )


def decode(data: bytes, *, frames: int, width: int, height: int) -> FramesNHWC:
    """All frames of a clip, exactly `frames` of `width` x `height`. Raises VideoError otherwise."""
    frames_NHWC = np.empty((frames, height, width, 3), np.uint8)
    offset = 0
    for index in range(frames):
        if offset + LENGTH.size > len(data):
            raise VideoError(f"clip has {index} frames, promised were {frames}; it is truncated")
        (length,) = LENGTH.unpack_from(data, offset)
        offset += LENGTH.size
        image = data[offset : offset + length]
        offset += length
        if len(image) != length or not image.startswith(START) or not image.endswith(END):
            raise VideoError(f"frame {index} of the clip is not a whole JPEG")
        if _size_of(image) != (width, height):
            raise VideoError(f"frame {index} of the clip is not the promised {width}x{height}")
        bgr_HWC = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if bgr_HWC is None or bgr_HWC.shape != (height, width, 3):
            raise VideoError(f"frame {index} of the clip cannot be decoded as JPEG")
        frames_NHWC[index] = bgr_HWC[..., ::-1]
    if offset != len(data):
        raise VideoError(f"clip has {len(data) - offset} bytes after the {frames} frames that were promised")
    return frames_NHWC


def _encode_frame(frame_HWC: FramesNHWC, quality: int) -> bytes:
    done, coded = cv2.imencode(".jpg", frame_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise VideoError(f"OpenCV cannot encode a frame of shape {list(frame_HWC.shape)} as JPEG")
    return coded.tobytes()


def _size_of(image: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG claims, without decoding it; a decoder would allocate whatever it says."""
    position = len(START)
    while position + 9 <= len(image) and image[position] == 0xFF:
        marker = image[position + 1]
        if marker in FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", image, position + 5)
            return width, height
        (length,) = struct.unpack_from(">H", image, position + 2)
        position += 2 + length
    return None
