"""What every camera keeps: one frame with its time, and the Protocol of a source. Knows no camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ams.video.reader import FrameHWC


@dataclass(frozen=True)
class Frame:
    """One camera frame: running number, capture time on the stream's clock, RGB picture [H, W, 3].

    `caption` is what the source itself says of the scene, for people; nothing depends on it.
    """

    index: int
    t_ns: int
    image: FrameHWC
    caption: str = ""


class Source(Protocol):
    """A camera. `latest` may be called from one thread, the counters from any."""

    @property
    def period_s(self) -> float:
        """Stream seconds from one frame to the next."""
        ...

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
