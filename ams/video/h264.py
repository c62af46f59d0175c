"""Clips as H.264: a raw Annex-B stream, one IDR frame and then P frames, in memory.

Rate control is a constant quality (CRF) searched to fit the byte budget in two or three short encodes: on ten-frame
clips that gives 0.4 to 1.3 dB more than one pass of average bitrate with VBV, which overshoots besides, and it leaves
bytes unspent where the scene is simple. B-frames do not pay at about one frame a second and are off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ams.core.preprocess import FramesNHWC
from ams.errors import VideoError
from ams.video.resize import resize

BEST_CRF = 20.0
"""Quality is capped here: a still scene uses fewer bytes than it may."""

WORST_CRF = 51.0
MAX_ENCODES = 3
"""Encodes of one clip, the last resort not counted."""

AIM = 0.92
"""Share of the budget that the search aims at."""

ENOUGH = 0.75
"""A clip that uses this share of its budget is not encoded again; what is left can be saved for the next."""

CRF_PER_HALVING = 6.2
"""CRF steps that halve the bytes; 5.8 on a fixed camera, 6.9 from a moving car (kit videos at 1 fps)."""

BITS_PER_PIXEL_AT_BEST = 1.6
"""Bits per pixel and frame at `BEST_CRF`, between those two scenes (1.0 and 2.7): where a first search starts."""


COARSE_SHRINK = 4
"""Last resort: details below so many pixels are given up."""

PICTURE_SLACK = 4
"""FFmpeg allocates rows up to twice as long as the picture; what claims more than this is refused."""


def encode(
    frames_NHWC: FramesNHWC, *, max_bytes: int, interval_s: float, threads: int, first_crf: float | None = None
) -> tuple[bytes, float]:
    """The clip in at most `max_bytes`, and the CRF that it got (a good `first_crf` for the next one).

    Raises VideoError when the frames do not fit even at the worst quality.
    """
    crf = _guess_crf(frames_NHWC, max_bytes) if first_crf is None else first_crf
    tried: list[tuple[float, int]] = []
    best: tuple[bytes, float] | None = None
    for _ in range(MAX_ENCODES):
        data = _encode_at(frames_NHWC, crf, interval_s, threads)
        tried.append((crf, len(data)))
        if len(data) <= max_bytes and (best is None or len(data) > len(best[0])):
            best = data, crf
            if len(data) >= ENOUGH * max_bytes:
                break
        following = _next_crf(tried, max_bytes)
        if abs(following - crf) < 0.25:
            break
        crf = following
    if best is None:
        best = _encode_at(_coarsened(frames_NHWC), WORST_CRF, interval_s, threads), WORST_CRF
    if len(best[0]) > max_bytes:
        count, height, width = frames_NHWC.shape[:3]
        raise VideoError(
            f"{count} frames of {width}x{height} take {len(best[0])} bytes at the worst quality, the budget is "
            f"{max_bytes}; send fewer or smaller frames, or raise the uplink budget"
        )
    return best


def decode(data: bytes, *, frames: int, width: int, height: int) -> FramesNHWC:
    """All frames of an Annex-B stream, exactly `frames` of `width` x `height`. Raises VideoError otherwise."""
    padded_width, padded_height = width + width % 2, height + height % 2
    frames_NHWC = np.empty((frames, height, width, 3), np.uint8)
    count = 0
    try:
        for frame in _decoded(data, max_pixels=PICTURE_SLACK * (width + 64) * (height + 64)):
            if (frame.width, frame.height) != (padded_width, padded_height):
                raise VideoError(f"clip has frames of {frame.width}x{frame.height}, promised were {width}x{height}")
            if count == frames:
                raise VideoError(f"clip has more than the {frames} frames that were promised")
            if frame.is_corrupt:
                raise VideoError(f"frame {count} of the clip is damaged")
            frames_NHWC[count] = _to_rgb(frame)[:height, :width]
            count += 1
    except (FFmpegError, ValueError) as error:
        raise VideoError(f"clip cannot be decoded as h264: {error}") from error
    if count != frames:
        raise VideoError(f"clip has {count} frames, promised were {frames}; it is truncated or damaged")
    return frames_NHWC


def _coarsened(frames_NHWC: FramesNHWC) -> FramesNHWC:
    """The same frames without fine detail, at the same size."""
    height, width = frames_NHWC.shape[1:3]
    small = resize(frames_NHWC, width=max(1, width // COARSE_SHRINK), height=max(1, height // COARSE_SHRINK))
    return resize(small, width=width, height=height)


def _guess_crf(frames_NHWC: FramesNHWC, max_bytes: int) -> float:
    count, height, width = frames_NHWC.shape[:3]
    bits_per_pixel = 8 * max_bytes / (count * height * width)
    return _clamp(BEST_CRF + CRF_PER_HALVING * math.log2(BITS_PER_PIXEL_AT_BEST / bits_per_pixel))


def _next_crf(tried: list[tuple[float, int]], max_bytes: int) -> float:
    """Where the line through the last two encodes (log bytes over CRF) meets the budget."""
    crf, size = tried[-1]
    slope = -1 / CRF_PER_HALVING
    if len(tried) > 1 and abs(crf - tried[-2][0]) > 0.1:
        measured = (math.log2(size) - math.log2(tried[-2][1])) / (crf - tried[-2][0])
        slope = min(-0.05, max(-0.6, measured))
    return _clamp(crf + (math.log2(AIM * max_bytes) - math.log2(size)) / slope)


def _clamp(crf: float) -> float:
    return min(WORST_CRF, max(BEST_CRF, crf))


def _encode_at(frames_NHWC: FramesNHWC, crf: float, interval_s: float, threads: int) -> bytes:
    height, width = frames_NHWC.shape[1:3]
    pad_height, pad_width = height % 2, width % 2
    encoder = CodecContext.create("libx264", "w")
    if not isinstance(encoder, VideoCodecContext):
        raise VideoError("this PyAV has no libx264; install the wheel from PyPI, or choose the codec 'jpeg'")
    encoder.width, encoder.height, encoder.pix_fmt = width + pad_width, height + pad_height, "yuv420p"
    encoder.time_base = Fraction(interval_s).limit_denominator(1000)
    encoder.framerate = 1 / encoder.time_base
    encoder.thread_count = threads
    # One key frame at the start and none after it, however long the clip is or how hard it cuts.
    encoder.options = {"preset": "medium", "crf": f"{crf:.2f}", "bf": "0", "g": "1000", "sc_threshold": "0"}
    pieces: list[bytes] = []
    try:
        for index, frame_HWC in enumerate(frames_NHWC):
            if pad_height or pad_width:
                padded = cv2.copyMakeBorder(frame_HWC, 0, pad_height, 0, pad_width, cv2.BORDER_REPLICATE)
                frame_HWC = np.asarray(padded, np.uint8)
            frame = _to_yuv(frame_HWC)
            frame.pts = index
            pieces += [bytes(packet) for packet in encoder.encode(frame)]
        pieces += [bytes(packet) for packet in encoder.encode(None)]
    except FFmpegError as error:
        raise VideoError(f"x264 cannot encode frames of {width}x{height}: {error}") from error
    return b"".join(pieces)


def _to_yuv(frame_HWC: FramesNHWC) -> VideoFrame:
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
    return rgb.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", interpolation="AREA")


def _to_rgb(frame: VideoFrame) -> FramesNHWC:
    # OpenCV converts with exact integers, alike on every machine; swscale's fast path is one grey level too dark.
    yuv = frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")
    return np.asarray(cv2.cvtColor(yuv.to_ndarray(), cv2.COLOR_YUV2RGB_I420), np.uint8)


def _decoded(data: bytes, *, max_pixels: int) -> Iterator[VideoFrame]:
    """Frames one by one; damage raises instead of being painted over, and large pictures are not allocated."""
    decoder = CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}
    for packet in (*decoder.parse(data), *decoder.parse(None)):
        yield from decoder.decode(packet)
    yield from decoder.decode(None)
