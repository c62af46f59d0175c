"""Clips keep the order of their capture, also when some are told to come back later.

Without this, a clip sent just after the broker has returned would overtake those that were refused just before, and
labels would reach the trainer out of order. One per stream of a connection; time is passed in. Knows clips' headers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ams.core.messages import Clip

PATIENCE_S = 30.0
"""How long a clip is waited for beyond its time; a device whose spool is full may have dropped it."""

BEHIND_PATIENCE_S = 2.0
"""The same for a clip that was only told to come behind another. A device with a full spool drops its oldest clip for
each new one: if each of these were waited for as long as one that was refused itself, nothing would be taken again."""

GAP_S = 0.05
"""A clip that waits for another is to come so long after it."""

MAX_WAITED_FOR = 64
"""Clips waited for; beyond that the one told first is forgotten."""


@dataclass(frozen=True)
class _Expected:
    boot_id: str
    t_ns: int
    due_s: float
    until_s: float


class ClipOrder:
    """The clips of one stream that were told to come back and have not come yet."""

    def __init__(self) -> None:
        self._expected: dict[str, _Expected] = {}

    def come_back(self, clip: Clip, retry_after_s: float, now_s: float, *, behind: bool = False) -> float:
        """Note that `clip` is told to come back in so many seconds; returns them. `behind`: only to keep its place."""
        self._expected.pop(clip.clip_id, None)
        due_s = now_s + retry_after_s
        until_s = due_s + (BEHIND_PATIENCE_S if behind else PATIENCE_S)
        self._expected[clip.clip_id] = _Expected(clip.boot_id, clip.frames[0].t_ns, due_s, until_s)
        if len(self._expected) > MAX_WAITED_FOR:
            del self._expected[next(iter(self._expected))]
        return retry_after_s

    def wait_s(self, clip: Clip, now_s: float) -> float | None:
        """When `clip` should come instead, in seconds from now, because an older one is to come first; else None.

        Of captures before a reboot and after it nobody knows the order, and they do not wait for one another.
        """
        self._expected = {key: item for key, item in self._expected.items() if now_s < item.until_s}
        t_ns = clip.frames[0].t_ns
        older = [item for item in self._expected.values() if item.boot_id == clip.boot_id and item.t_ns < t_ns]
        return max(0.0, max(item.due_s for item in older) - now_s) + GAP_S if older else None

    def admitted(self, clip: Clip) -> None:
        """The clip was taken: nobody waits for it any more."""
        self._expected.pop(clip.clip_id, None)
