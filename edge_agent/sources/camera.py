"""A camera on this machine, through OpenCV. It comes back whenever it breaks, and never ends by itself.

Knows cv2.VideoCapture and time; does not know what is done with the frames.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from ams.clock import ScaledClock
from ams.errors import VideoError
from edge_agent.backoff import Backoff
from edge_agent.sources.newest import NewestFrame
from edge_agent.sources.source import Frame

log = logging.getLogger(__name__)

FALLBACK_FPS = 30.0
"""What most cameras make, for one that does not say."""

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 5.0
"""Real seconds between two attempts to open a camera that went away; short, for somebody may be plugging it in."""

STABLE_S = 5.0
"""A camera that gave frames for so many real seconds makes the next wait short again."""


class Capture(Protocol):
    """What is used of cv2.VideoCapture."""

    def isOpened(self) -> bool: ...

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, Any]: ...

    def get(self, propId: int, /) -> float: ...

    def release(self) -> None: ...


def open_capture(camera: int | str) -> Capture:
    """OpenCV's capture of a camera's number or path; whether it could be opened is asked of the capture."""
    # Left to itself, OpenCV would first try to read the path of a device as a video file.
    is_device = isinstance(camera, str) and camera.startswith("/dev/")
    return cv2.VideoCapture(camera, cv2.CAP_V4L2 if is_device else cv2.CAP_ANY)


class CameraSource:
    """A live camera: number (0 is the first) or path. A frame's capture time is when it arrived from the driver.

    Raises VideoError at once for a camera that cannot be opened. One that stops giving frames later is reported and
    opened again, after growing waits, until it is back.
    """

    def __init__(
        self,
        camera: int | str,
        clock: ScaledClock,
        *,
        opener: Callable[[int | str], Capture] = open_capture,
        backoff: Backoff | None = None,
    ) -> None:
        self._camera = camera
        self._clock = clock
        self._opener = opener
        self._backoff = backoff or Backoff(first_s=FIRST_WAIT_S, longest_s=LONGEST_WAIT_S)
        self._capture = opener(camera)
        if not self._capture.isOpened():
            self._capture.release()
            raise VideoError(_unopened(camera))
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        # A camera's rate is in real seconds; everything here is in the stream's.
        self._period_s = clock.speed / (fps if math.isfinite(fps) and fps > 0 else FALLBACK_FPS)
        self._newest = NewestFrame()
        self._closing = threading.Event()
        self._stalled = False
        self._thread = threading.Thread(target=self._play, name="source", daemon=True)

    @property
    def period_s(self) -> float:
        """Stream seconds from one frame to the next, by the rate that the camera reports."""
        return self._period_s

    @property
    def frames(self) -> int:
        """Frames that came so far."""
        return self._newest.frames

    @property
    def dropped(self) -> int:
        """Frames that nobody took in time."""
        return self._newest.dropped

    @property
    def ended(self) -> bool:
        """True once it was closed; a camera does not end by itself."""
        return self._newest.ended

    def start(self) -> None:
        """Start to read frames."""
        self._thread.start()

    def latest(self, after_index: int, *, timeout_s: float = 0.0) -> Frame | None:
        """See `Source.latest`."""
        return self._newest.latest(after_index, timeout_s=timeout_s)

    def close(self) -> None:
        """Let go of the camera and wait for the thread: as long as the driver holds a read, 10 s at worst."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _play(self) -> None:
        try:
            while True:
                self._read_while_it_lasts()
                self._capture.release()
                if self._closing.is_set():
                    return
                if not self._stalled:
                    self._stalled = True
                    log.warning("camera %s gives no frames any more; it is opened again until it does", self._camera)
                if self._closing.wait(self._backoff.next_s()):
                    return
                self._capture = self._opener(self._camera)
        finally:
            self._capture.release()
            self._newest.end()

    def _read_while_it_lasts(self) -> None:
        """Show frames until none comes, or the source is closed."""
        first_s: float | None = None
        while not self._closing.is_set() and self._capture.isOpened() and self._capture.grab():
            t_ns = self._clock.now_ns()  # before the picture is decoded
            sound, image_HWC = self._capture.retrieve()
            if not sound:
                return
            self._newest.show(t_ns, np.asarray(cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB), np.uint8))
            if self._stalled:
                self._stalled = False
                log.warning("camera %s gives frames again", self._camera)
            now_s = time.monotonic()
            first_s = now_s if first_s is None else first_s
            if now_s - first_s >= STABLE_S:
                self._backoff.reset()


def _unopened(camera: int | str) -> str:
    devices = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*")))
    return (
        f"cannot open camera {camera}: is it plugged in (this machine has {devices or 'no /dev/video*'}), does another "
        "program use it, is this user in the group 'video'?"
    )
