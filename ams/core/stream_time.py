"""Stream time: the server's view of a device's clock.

A device stamps frames with nanoseconds since its boot; a Pi has no clock of its own, so nothing more is asked of
it. The server turns (boot id, ns) into seconds on one line that never runs backwards, across reboots too. Pure:
the server's `now_s` is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

REBOOT_GAP_S = 0.001
"""Least distance between the last frame before a reboot and the first one after it."""


@dataclass
class StreamTime:
    """The offsets of the boots seen so far; only the newest boot's is kept."""

    _boot_id: str = ""
    _offset_s: float = 0.0
    _latest_s: float = field(default=float("-inf"))

    def snapshot(self) -> tuple[str, float, float]:
        """Boot, offset and latest time, for the next owner of the session."""
        return self._boot_id, self._offset_s, self._latest_s

    def restore(self, boot_id: str, offset_s: float, latest_s: float) -> None:
        """Go on with what an earlier owner estimated, so that no frame changes its place in time."""
        self._boot_id, self._offset_s, self._latest_s = boot_id, offset_s, latest_s

    def to_server(self, boot_id: str, sent_ns: int, times_ns: Sequence[int], now_s: float) -> tuple[float, ...]:
        """Capture times of a clip's frames in server seconds.

        A boot's offset is estimated once, from when its first clip was sent and when it came; network and labelling
        delay make it a little late, which shifts all of the boot's frames alike.
        """
        if boot_id != self._boot_id:
            estimate_s = now_s - sent_ns / 1e9
            follows_s = self._latest_s + REBOOT_GAP_S - times_ns[0] / 1e9
            self._boot_id, self._offset_s = boot_id, max(estimate_s, follows_s)
        times_s = tuple(t_ns / 1e9 + self._offset_s for t_ns in times_ns)
        self._latest_s = max(self._latest_s, times_s[-1])
        return times_s
