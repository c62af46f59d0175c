"""Video files, frame by frame: what FFmpeg decodes, as RGB with presentation times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from ams.errors import VideoError

FrameHWC = npt.NDArray[np.uint8]
"""One RGB frame, [H, W, 3]."""


@dataclass(frozen=True)
class Probe:
    """What a video file says of itself. `duration_s` is None where it does not say."""

    fps: float
    width: int
    height: int
    duration_s: float | None


def probe(path: Path | str) -> Probe:
    """Rate, size and length of a video file. Raises VideoError when its first frame cannot be decoded."""
    with _opened(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(_unreadable(path, "it has no frames"))
        duration_s = None
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration_s = container.duration / av.time_base
        return Probe(_rate(stream), first.width, first.height, duration_s)


def read_video(path: Path | str) -> Iterator[tuple[float, FrameHWC]]:
    """Seconds since the first frame, and the frame, [H, W, 3] RGB, in order of presentation.

    Raises VideoError for a file that cannot be read, has no video or breaks off in the middle.
    """
    with _opened(path) as (container, stream):
        period_s = 1 / _rate(stream)
        start_s: float | None = None
        previous_s = -period_s
        for frame in container.decode(stream):
            # A frame without a time comes one period after the one before; times never run backwards.
            at_s = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
            if start_s is None:
                start_s = at_s or 0.0
            t_s = previous_s + period_s if at_s is None or at_s - start_s <= previous_s else at_s - start_s
            previous_s = t_s
            yield t_s, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        if start_s is None:
            raise VideoError(_unreadable(path, "it has no frames"))


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[InputContainer, VideoStream]]:
    try:
        with av.open(str(path), mode="r") as container:
            if not container.streams.video:
                raise VideoError(_unreadable(path, "it has no video stream"))
            stream = container.streams.video[0]
            stream.thread_count = 1
            yield container, stream
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(_unreadable(path, reason)) from error


def _rate(stream: VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else 25.0


def _unreadable(path: Path | str, reason: str) -> str:
    return f"cannot read {path}: {reason}; expected a video that FFmpeg can decode"
