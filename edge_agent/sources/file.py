"""A video file as a camera. Knows time and files; does not know what is done with the frames."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from ams.clock import ScaledClock
from ams.errors import VideoError
from ams.video import probe, read_video
from edge_agent.sources.newest import NewestFrame
from edge_agent.sources.source import Frame

log = logging.getLogger(__name__)

LATE_S = 1.0
"""A file that cannot be decoded fast enough is reported once it is so many stream seconds behind."""


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
        self._newest = NewestFrame()
        self._closing = threading.Event()
        self._late_reported = False
        self._thread = threading.Thread(target=self._play, name="source", daemon=True)

    @property
    def period_s(self) -> float:
        """Stream seconds from one frame of the file to the next."""
        return 1 / self.probe.fps

    @property
    def frames(self) -> int:
        """Frames played so far."""
        return self._newest.frames

    @property
    def dropped(self) -> int:
        """Frames that nobody took in time."""
        return self._newest.dropped

    @property
    def ended(self) -> bool:
        """True when the file is over, broke off or was closed."""
        return self._newest.ended

    def start(self) -> None:
        """Start to play; the first frame is due now."""
        self._thread.start()

    def latest(self, after_index: int, *, timeout_s: float = 0.0) -> Frame | None:
        """See `Source.latest`."""
        return self._newest.latest(after_index, timeout_s=timeout_s)

    def close(self) -> None:
        """Stop playing and wait for the decoder's thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _play(self) -> None:
        start_ns = self._clock.now_ns()
        round_start_s = 0.0
        try:
            while True:
                t_s = 0.0
                for t_s, image_HWC in read_video(self._path):
                    t_ns = start_ns + round((round_start_s + t_s) * 1e9)
                    if not self._wait_until(t_ns):
                        return
                    self._newest.show(t_ns, image_HWC)
                if not self._loop:
                    return
                round_start_s += t_s + self.period_s
        except VideoError as error:
            log.error("the stream ends after %d frames: %s", self.frames, error)
        finally:
            self._newest.end()

    def _wait_until(self, t_ns: int) -> bool:
        """Wait for a time of the stream's clock; False when the source was closed meanwhile."""
        ahead_s = (t_ns - self._clock.now_ns()) / 1e9
        if ahead_s < -LATE_S and not self._late_reported:
            self._late_reported = True
            log.warning("decoding %s falls behind its frame rate; lower --speed or use a smaller video", self._path)
        return not self._closing.wait(max(0.0, ahead_s / self._clock.speed))
