"""A drawn world as a camera: frames are made on the spot, on the stream's clock, and never end.

Knows time and the Protocol of a world; does not know which worlds there are.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from ams.clock import ScaledClock
from ams.video.reader import FrameHWC
from edge_agent.sources.newest import NewestFrame
from edge_agent.sources.source import Frame

log = logging.getLogger(__name__)

LOST_S = 1.0
"""A world that cannot be drawn fast enough is reported once so many stream seconds of frames were left out."""


class World(Protocol):
    """A scene that can be looked at at any time; the same time always gives the same picture."""

    @property
    def fps(self) -> float:
        """Frames per stream second that a camera in this world makes."""
        ...

    @property
    def width(self) -> int:
        """Pixels of a frame."""
        ...

    @property
    def height(self) -> int:
        """Pixels of a frame."""
        ...

    def frame(self, t_s: float) -> FrameHWC:
        """The picture `t_s` seconds after the beginning, RGB, [H, W, 3]."""
        ...

    def scene(self, t_s: float) -> str:
        """What there is to see at that time, in a few words for people."""
        ...


class WorldSource:
    """A camera in a drawn world. Frame i is drawn ahead and shown i periods after the start, with exactly this time.

    Where drawing falls more than one period behind, the frames whose time has passed are left out and counted as
    dropped, so the lag does not grow.
    """

    def __init__(self, world: World, clock: ScaledClock) -> None:
        self._world = world
        self._clock = clock
        self._newest = NewestFrame()
        self._closing = threading.Event()
        self._left_out = 0
        self._thread = threading.Thread(target=self._play, name="source", daemon=True)

    @property
    def period_s(self) -> float:
        """Stream seconds from one frame to the next."""
        return 1 / self._world.fps

    @property
    def frames(self) -> int:
        """Frames whose time has come so far."""
        return self._newest.frames

    @property
    def dropped(self) -> int:
        """Frames that nobody took in time, or that were not drawn in time."""
        return self._newest.dropped

    @property
    def ended(self) -> bool:
        """True once it was closed; a world does not end by itself."""
        return self._newest.ended

    def start(self) -> None:
        """Let time run; the first frame is due as soon as it is drawn."""
        self._thread.start()

    def latest(self, after_index: int, *, timeout_s: float = 0.0) -> Frame | None:
        """See `Source.latest`."""
        return self._newest.latest(after_index, timeout_s=timeout_s)

    def close(self) -> None:
        """Stop drawing and wait for the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _play(self) -> None:
        period_ns = self.period_s * 1e9
        index = 0
        start_ns: int | None = None
        try:
            while True:
                t_s = index / self._world.fps
                image_HWC, caption = self._world.frame(t_s), self._world.scene(t_s)
                if start_ns is None:
                    start_ns = self._clock.now_ns()
                due_ns = start_ns + round(t_s * 1e9)
                if self._closing.wait(max(0.0, (due_ns - self._clock.now_ns()) / 1e9 / self._clock.speed)):
                    return
                self._newest.show(due_ns, image_HWC, caption)
                index += 1
                now_ns = self._clock.now_ns()
                if now_ns - due_ns > period_ns:
                    # The next frame to draw is the next that is due, so that it can be ready in time.
                    missed = int((now_ns - start_ns) / period_ns) + 1 - index
                    self._leave_out(missed)
                    index += missed
        finally:
            self._newest.end()

    def _leave_out(self, count: int) -> None:
        limit = LOST_S * self._world.fps
        if self._left_out < limit <= self._left_out + count:
            log.warning(
                "drawing the world falls behind its %.4g frames per second, frames are left out; lower --speed or use "
                "a smaller world",
                self._world.fps,
            )
        self._left_out += count
        self._newest.leave_out(count)
