"""One clip: a few frames as bytes and back, by the codec's name on the wire. Knows the bounds, not the codecs."""

from __future__ import annotations

import numpy as np

from ams.core.messages import MAX_FRAMES_PER_CLIP
from ams.core.preprocess import FramesNHWC
from ams.errors import VideoError
from ams.video import h264, jpeg

CODECS = ("h264", "jpeg")
MIN_SIDE = 16
MAX_SIDE = 4096
MAX_CLIP_PIXELS = 256 * 1024 * 1024
"""Frames x height x width that a decoder will allocate (three bytes each)."""


class ClipEncoder:
    """Encodes the clips of one camera; remembers the last quality, so that most clips take one encode."""

    def __init__(self, codec: str = "h264", *, threads: int = 1) -> None:
        _check_codec(codec)
        self.codec = codec
        self._threads = threads
        self._crf: float | None = None

    def encode(self, frames_NHWC: FramesNHWC, *, max_bytes: int, interval_s: float) -> bytes:
        """The clip, [N, H, W, 3], in at most `max_bytes`; `interval_s` lies between two frames.

        Raises VideoError when it does not fit even at the worst quality, or is no clip.
        """
        _check_frames(frames_NHWC)
        if max_bytes < 1 or interval_s <= 0:
            raise VideoError(f"expected a positive budget and interval, got {max_bytes} bytes and {interval_s} s")
        if self.codec == "jpeg":
            return jpeg.encode(frames_NHWC, max_bytes=max_bytes)
        data, self._crf = h264.encode(
            frames_NHWC, max_bytes=max_bytes, interval_s=interval_s, threads=self._threads, first_crf=self._crf
        )
        return data


def encode_clip(
    frames_NHWC: FramesNHWC, *, max_bytes: int, interval_s: float, codec: str = "h264", threads: int = 1
) -> bytes:
    """One clip, [N, H, W, 3], on its own: see `ClipEncoder.encode`."""
    return ClipEncoder(codec, threads=threads).encode(frames_NHWC, max_bytes=max_bytes, interval_s=interval_s)


def decode_clip(data: bytes, *, codec: str, frames: int, width: int, height: int) -> FramesNHWC:
    """The frames of a clip, [frames, height, width, 3]; the same bytes always give the same pixels.

    Raises VideoError when the clip cannot be decoded, is truncated, or is not what was promised; nothing larger
    than the promise is allocated.
    """
    _check_codec(codec)
    if not 1 <= frames <= MAX_FRAMES_PER_CLIP:
        raise VideoError(f"a clip has 1 to {MAX_FRAMES_PER_CLIP} frames, promised were {frames}")
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_SIDE:
        raise VideoError(f"frames have sides of {MIN_SIDE} to {MAX_SIDE}, promised were {width}x{height}")
    if frames * width * height > MAX_CLIP_PIXELS:
        raise VideoError(f"clip of {frames} frames of {width}x{height} is over {MAX_CLIP_PIXELS} pixels")
    decode = jpeg.decode if codec == "jpeg" else h264.decode
    return decode(data, frames=frames, width=width, height=height)


def _check_codec(codec: str) -> None:
    if codec not in CODECS:
        raise VideoError(f"codec {codec!r} is not known here; expected one of {', '.join(CODECS)}")


def _check_frames(frames_NHWC: FramesNHWC) -> None:
    shape = frames_NHWC.shape
    if frames_NHWC.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not 1 <= shape[0] <= MAX_FRAMES_PER_CLIP:
        raise VideoError(
            f"expected uint8 frames [1 to {MAX_FRAMES_PER_CLIP}, H, W, 3], got {frames_NHWC.dtype} {list(shape)}"
        )
    if min(shape[1:3]) < MIN_SIDE or max(shape[1:3]) > MAX_SIDE:
        raise VideoError(f"frames have sides of {MIN_SIDE} to {MAX_SIDE}, got {shape[2]}x{shape[1]}")
