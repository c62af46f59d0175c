"""Clips that the server does not have yet: a bounded queue in memory, the oldest dropped first.

A clip stays until it is acknowledged, or refused for good. Pure: real seconds are passed in; used by one thread.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from ams.core.messages import Clip

ACK_DEADLINE_S = 120.0
"""Sent on a connection that lives, but not acknowledged for so long: it is sent again."""


@dataclass
class SpooledClip:
    """A clip as it goes over the wire, and where it stands."""

    header: Clip
    payload: bytes
    sent: bool = False
    due_s: float = -math.inf

    @property
    def clip_id(self) -> str:
        """The clip's name on the wire."""
        return self.header.clip_id


class Spool:
    """At most `max_clips` clips of together at most `max_bytes`."""

    def __init__(self, *, max_clips: int, max_bytes: int) -> None:
        self._max_clips = max_clips
        self._max_bytes = max_bytes
        self._clips: OrderedDict[str, SpooledClip] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def bytes_held(self) -> int:
        """Payload bytes of all clips."""
        return self._bytes

    def in_flight(self, now_s: float) -> int:
        """Clips that have been sent and whose acknowledgement is not overdue."""
        return sum(clip.sent and now_s < clip.due_s for clip in self._clips.values())

    def put(self, clip: SpooledClip) -> int:
        """Add a clip; returns how many older ones had to go for it (or itself, when it alone is over the limit)."""
        if len(clip.payload) > self._max_bytes:
            return 1
        self._clips[clip.clip_id] = clip
        self._bytes += len(clip.payload)
        dropped = 0
        while len(self._clips) > self._max_clips or self._bytes > self._max_bytes:
            waiting = (clip_id for clip_id, held in self._clips.items() if not held.sent and held is not clip)
            self.remove(next(waiting, next(iter(self._clips))))
            dropped += 1
        return dropped

    def next_due(self, now_s: float) -> SpooledClip | None:
        """The oldest clip that is to be sent now."""
        return next((clip for clip in self._clips.values() if now_s >= clip.due_s), None)

    def due_in_s(self, now_s: float) -> float:
        """Seconds until a clip that must wait is due; infinite when none waits."""
        waits = (clip.due_s - now_s for clip in self._clips.values() if clip.due_s > now_s)
        return min(waits, default=math.inf)

    def mark_sent(self, clip_id: str, now_s: float) -> None:
        """Note that a clip is on its way."""
        clip = self._clips.get(clip_id)
        if clip is not None:
            clip.sent, clip.due_s = True, now_s + ACK_DEADLINE_S

    def remove(self, clip_id: str) -> bool:
        """The server has the clip, or will never take it; False when it is not here (any more)."""
        clip = self._clips.pop(clip_id, None)
        if clip is None:
            return False
        self._bytes -= len(clip.payload)
        return True

    def postpone(self, clip_id: str, now_s: float, delay_s: float) -> None:
        """The server wants the clip later."""
        clip = self._clips.get(clip_id)
        if clip is not None:
            clip.sent, clip.due_s = False, now_s + delay_s

    def connection_lost(self) -> None:
        """Nothing is on its way any more: what was not acknowledged is sent again on the next connection."""
        for clip in self._clips.values():
            if clip.sent:
                clip.sent, clip.due_s = False, -math.inf
