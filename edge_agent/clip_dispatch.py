"""Clips on their way to the server: from the spool onto a connection, and off the spool once the server has them.

Knows the spool's and the transfers' rules; does not know sockets. All methods run in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ams.clock import ScaledClock
from ams.core.messages import Nack
from ams.core.session import Connection
from ams.core.transfer import Outbox
from edge_agent.counters import Counters
from edge_agent.spool import Spool, SpooledClip

log = logging.getLogger(__name__)

CLIPS_IN_FLIGHT = 4
"""Clips that may await their acknowledgement; no more than one at a time is under way in parts."""


class ClipDispatch:
    """Sends the clips of one stream. `wake` is called whenever there may be something new to send."""

    def __init__(
        self, spool: Spool, outbox: Outbox, counters: Counters, clock: ScaledClock, *, wake: Callable[[], None]
    ) -> None:
        self._spool = spool
        self._outbox = outbox
        self._counters = counters
        self._clock = clock
        self._wake = wake
        self._in_parts: str | None = None  # the clip that was last put into the outbox
        self._drained = asyncio.Event()
        self._drained.set()

    def offer(self, clip: SpooledClip) -> None:
        """Take charge of a clip; the oldest ones go when the spool is full."""
        dropped = self._spool.put(clip)
        if dropped:
            self._counters.clips_dropped += dropped
            log.warning("%d clips were dropped: the server has not taken them and the spool is full", dropped)
        self._changed()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until the server has all clips; False when it does not have them after `timeout_s` real seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained.wait()
        except TimeoutError:
            return False
        return True

    def feed(self, connection: Connection, now_s: float) -> None:
        """Hand clips to an established connection, as many as may be under way."""
        while not len(self._outbox) and self._spool.in_flight(now_s) < CLIPS_IN_FLIGHT:
            clip = self._spool.next_due(now_s)
            if clip is None:
                return
            if self._in_parts != clip.clip_id:
                # A clip that goes in parts keeps its bytes, by which its transfer is known and resumed.
                clip.header = clip.header.model_copy(update={"sent_ns": self._clock.now_ns()})
            connection.send(clip.header, clip.payload)
            self._spool.mark_sent(clip.clip_id, now_s)
            if len(self._outbox):
                self._in_parts = clip.clip_id

    def due_in_s(self, now_s: float) -> float:
        """Seconds until a clip that waits may be sent; infinite when none waits."""
        return self._spool.due_in_s(now_s)

    def welcomed(self, now_s: float) -> None:
        """A new connection is established: the clip that was cut in its parts goes on by itself."""
        if len(self._outbox) and self._in_parts is not None:
            self._spool.mark_sent(self._in_parts, now_s)

    def connection_lost(self) -> None:
        """What was not acknowledged is sent again on the next connection."""
        self._spool.connection_lost()

    def acknowledged(self, clip_id: str) -> None:
        """The server has the clip."""
        if self._spool.remove(clip_id):
            self._counters.clips_acknowledged += 1
        self._changed()

    def not_taken(self, nack: Nack, now_s: float) -> None:
        """The server wants the clip later, or never."""
        if nack.retry_after_s is not None:
            self._spool.postpone(nack.clip_id, now_s, nack.retry_after_s)
            log.info("the gateway wants a clip later: %s (%s)", nack.text, nack.code)
        elif self._spool.remove(nack.clip_id):
            self._counters.clips_dropped += 1
            log.warning("the gateway does not take a clip: %s (%s)", nack.text, nack.code)
        self._changed()

    def _changed(self) -> None:
        if len(self._spool):
            self._drained.clear()
        else:
            self._drained.set()
        self._wake()
