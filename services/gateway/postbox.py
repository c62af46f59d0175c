"""What a device said and the session's owner must hear: kept until the broker has it.

One per stream of a connection. Bounded: of the state only the latest values are kept, of the events the newest
`MAX_EVENTS`. Knows the broker's ports; does not know connections.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

from ams.errors import BrokerError
from ams.ports import Broker, UpstreamEvent
from services.gateway.metrics import GatewayMetrics

MAX_EVENTS = 32
"""A device has at most two patches unanswered, so this is a long time without a broker."""

TOUCH_EVERY_S = 20.0
"""How often a connected session is marked as seen, well within the time after which owners let it go."""


class Postbox:
    """News of one session on their way to the broker. `flush` is called by one task at a time."""

    def __init__(self, broker: Broker, metrics: GatewayMetrics, sid: str) -> None:
        self._broker = broker
        self._metrics = metrics
        self._sid = sid
        self._fields: dict[str, str] = {}
        self._events: deque[UpstreamEvent] = deque()
        self._owner_must_look = False
        self._touched_s = float("-inf")

    @property
    def waiting(self) -> bool:
        """Whether `flush` has anything to do."""
        return bool(self._fields or self._events or self._owner_must_look)

    def note(self, fields: Mapping[str, str]) -> None:
        """Set fields of the session's state, the latest values winning."""
        self._fields.update(fields)

    def post(self, kind: str, body: bytes) -> None:
        """Send the owner an event; the oldest one goes when too many wait."""
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self._metrics.events_dropped.inc()
        self._events.append(UpstreamEvent(kind, body))

    async def flush(self) -> None:
        """Give everything to the broker, in order. Raises BrokerError and keeps the rest for next time."""
        if self._fields:
            fields, self._fields = self._fields, {}
            try:
                await self._broker.directory.update(self._sid, fields)
            except BrokerError:
                self._fields = fields | self._fields
                raise
        # After the fields: who finds the session in the directory must find its state.
        now_s = time.monotonic()
        if now_s - self._touched_s >= TOUCH_EVERY_S:
            await self._broker.directory.touch(self._sid, time.time())
            self._touched_s = now_s
        while self._events:
            event = self._events[0]
            await self._broker.upstream.post(self._sid, event)
            self._owner_must_look = True
            if self._events and self._events[0] is event:
                self._events.popleft()
        if self._owner_must_look:
            owner = await self._broker.leases.owner(self._sid)
            if owner is not None:
                await self._broker.bell.ring(owner, self._sid)
            self._owner_must_look = False
