"""Where frames come from. A source always gives the newest frame and never lets a queue grow.

Knows time and pictures; does not know what is done with them.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ams.clock import ScaledClock
from ams.errors import VideoError
from ams.video import probe, read_video
from ams.video.reader import FrameHWC

log = logging.getLogger(__name__)

LATE_S = 1.0
"""A file that cannot be decoded fast enough is reported once it is so many stream seconds behind."""


@dataclass(frozen=True)
class Frame:
    """One camera frame: running number, capture time on the stream's clock, RGB picture [H, W, 3]."""

    index: int
    t_ns: int
    image: FrameHWC


class Source(Protocol):
    """A camera. `latest` may be called from one thread, the counters from any."""

    @property
    def frames(self) -> int:
        """Frames that the camera has made so far."""
        ...

    @property
    def dropped(self) -> int:
        """Frames that were replaced by a newer one before anybody took them."""
        ...

    @property
    def ended(self) -> bool:
        """True when no new frame will come."""
        ...

    def start(self) -> None:
        """Let the camera run."""
        ...

    def latest(self, after_index: int, *, timeout_s: float = 0.0) -> Frame | None:
        """The newest frame if it is newer than `after_index`; else waits for one up to `timeout_s` real seconds."""
        ...

    def close(self) -> None:
        """Stop the camera; safe to call twice."""
        ...


class FileSource:
    """A video file, played in stream time at its own frame rate, as if it were a camera.

    A frame's capture time is the stream's start plus its presentation time, so intervals are those of the file
    however busy the machine is. Raises VideoError at once for a file that cannot be read; one that breaks off later
    ends the stream with a line in the log.
    """

    def __init__(self, path: Path, clock: ScaledClock, *, loop: bool = False) -> None:
        self.probe = probe(path)
        self._path = path
        self._clock = clock
        self._loop = loop
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._newest: Frame | None = None
        self._taken = True
        self._frames = 0
        self._dropped = 0
        self._ended = False
        self._late_reported = False
        self._thread = threading.Thread(target=self._play, name="source", daemon=True)

    @property
    def frames(self) -> int:
        """Frames played so far."""
        return self._frames

    @property
    def dropped(self) -> int:
        """Frames that nobody took in time."""
        return self._dropped

    @property
    def ended(self) -> bool:
        """True when the file is over, broke off or was closed."""
        return self._ended

    def start(self) -> None:
        """Start to play; the first frame is due now."""
        self._thread.start()

    def latest(self, after_index: int, *, timeout_s: float = 0.0) -> Frame | None:
        """See `Source.latest`."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_newer(after_index) or self._ended, timeout_s)
            if not self._has_newer(after_index):
                return None
            self._taken = True
            return self._newest

    def close(self) -> None:
        """Stop playing and wait for the decoder's thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _has_newer(self, after_index: int) -> bool:
        return self._newest is not None and self._newest.index > after_index

    def _play(self) -> None:
        start_ns = self._clock.now_ns()
        period_s = 1 / self.probe.fps
        round_start_s = 0.0
        try:
            while True:
                t_s = 0.0
                for t_s, image_HWC in read_video(self._path):
                    t_ns = start_ns + round((round_start_s + t_s) * 1e9)
                    if not self._wait_until(t_ns):
                        return
                    self._show(t_ns, image_HWC)
                if not self._loop:
                    return
                round_start_s += t_s + period_s
        except VideoError as error:
            log.error("the stream ends after %d frames: %s", self._frames, error)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _wait_until(self, t_ns: int) -> bool:
        """Wait for a time of the stream's clock; False when the source was closed meanwhile."""
        ahead_s = (t_ns - self._clock.now_ns()) / 1e9
        if ahead_s < -LATE_S and not self._late_reported:
            self._late_reported = True
            log.warning("decoding %s falls behind its frame rate; lower --speed or use a smaller video", self._path)
        return not self._closing.wait(max(0.0, ahead_s / self._clock.speed))

    def _show(self, t_ns: int, image_HWC: FrameHWC) -> None:
        with self._changed:
            if not self._taken:
                self._dropped += 1
            self._newest = Frame(self._frames, t_ns, image_HWC)
            self._taken = False
            self._frames += 1
            self._changed.notify_all()
