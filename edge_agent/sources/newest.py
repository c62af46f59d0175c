"""The newest frame of a source: a slot of one between the thread that makes frames and the one that takes them.

Counts what was made and what nobody took. Knows neither clocks nor where frames come from.
"""

from __future__ import annotations

import threading

from ams.video.reader import FrameHWC
from edge_agent.sources.source import Frame


class NewestFrame:
    """One thread shows frames, one takes them; the counters may be read by any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._taken = True
        self._frames = 0
        self._dropped = 0
        self._ended = False

    @property
    def frames(self) -> int:
        """Frames made so far, those left out included."""
        return self._frames

    @property
    def dropped(self) -> int:
        """Frames that nobody took in time, and those left out."""
        return self._dropped

    @property
    def ended(self) -> bool:
        """True when no new frame will come."""
        return self._ended

    def show(self, t_ns: int, image_HWC: FrameHWC, caption: str = "") -> None:
        """Put a new frame in the place of the one before it."""
        with self._changed:
            if not self._taken:
                self._dropped += 1
            self._newest = Frame(self._frames, t_ns, image_HWC, caption)
            self._taken = False
            self._frames += 1
            self._changed.notify_all()

    def leave_out(self, count: int) -> None:
        """Count frames whose time passed before they could be made; their numbers are used up."""
        with self._changed:
            self._frames += count
            self._dropped += count

    def end(self) -> None:
        """No new frame will come; whoever waits for one is woken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def latest(self, after_index: int, *, timeout_s: float = 0.0) -> Frame | None:
        """See `Source.latest`."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_newer(after_index) or self._ended, timeout_s)
            if not self._has_newer(after_index):
                return None
            self._taken = True
            return self._newest

    def _has_newer(self, after_index: int) -> bool:
        return self._newest is not None and self._newest.index > after_index
