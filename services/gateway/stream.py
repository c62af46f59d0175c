"""One stream of a connected device: its session on the broker, in both directions.

Binds postbox (up) and relay (down) together and notices when the broker has lost what it knew, or when the device
has gone to another gateway. Does not know sockets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ams.core.messages import Ack, Hello, Message, Refused, Stats, StreamHello, StreamWelcome
from services.gateway.clip_order import ClipOrder
from services.gateway.ending import REPLACED, ConnectionOverError
from services.gateway.handshake import announcement, default_rates, stream_welcome
from services.gateway.postbox import Postbox
from services.gateway.relay import StreamRelay
from services.gateway.shared import Shared

log = logging.getLogger(__name__)

RUNNING = ("device_version", "device_digest")
"""The fields of a session's state that only we write, and whose loss would leave its owner waiting for an answer."""


class DeviceStream:
    """What a connection does for one of its streams."""

    def __init__(
        self, shared: Shared, hello: Hello, stream: StreamHello, send: Callable[[Message, bytes], None]
    ) -> None:
        self.sid = f"{hello.device}/{stream.name}"
        self.model_id = stream.model_id
        self._shared = shared
        self._announcement = announcement(shared, hello, stream)
        self._postbox = Postbox(shared.broker, shared.metrics, self.sid)
        self._relay = StreamRelay(shared.broker, shared.metrics, self._postbox, self.sid, stream, send)
        self._default_rates = default_rates(shared.settings, stream.name)
        self._resume_due = True
        self.broker_forgot = False
        self.order = ClipOrder()

    @property
    def has_post(self) -> bool:
        """Whether the broker has not heard everything yet."""
        return self._postbox.waiting

    async def announce(self) -> StreamWelcome:
        """Make the session known and fetch what the device is welcomed with."""
        state = await self._shared.broker.directory.state(self.sid)
        self._postbox.note(self._announcement)
        await self._postbox.flush()
        return stream_welcome(self._shared.settings, self.sid, self._relay.first_rates(state, self._default_rates))

    # -- the device's word: heard at once, told to the broker by `attend` --------------------------------------

    def applied(self, ack: Ack) -> None:
        """A patch runs."""
        assert ack.version is not None
        assert ack.digest is not None
        self._runs(ack.version, ack.digest)
        self._relay.applied(ack.version, ack.digest)
        self._postbox.post("applied", ack.model_dump_json(include={"version", "digest"}).encode())

    def refused(self, refused: Refused) -> None:
        """A patch was not taken, or what ran has failed."""
        self._runs(refused.running_version, refused.running_digest)
        self._relay.refused(refused.running_version, refused.running_digest)
        self._postbox.post("refused", refused.model_dump_json().encode())

    def stats(self, stats: Stats) -> None:
        """How the device is doing."""
        self._postbox.note({"stats": stats.model_dump_json()})

    def _runs(self, version: int, digest: str) -> None:
        running = {"device_version": str(version), "device_digest": digest}
        self._announcement |= running
        self._postbox.note(running)

    # -- the broker's word -------------------------------------------------------------------------------------

    async def attend(self, *, look: bool) -> None:
        """Tell the broker what is new; with `look`, see what it has for the device.

        Raises BrokerError, after which the same call goes on where this one stopped.
        """
        await self._postbox.flush()
        if not look:
            return
        told = None if self._postbox.waiting else dict(self._announcement)
        state = await self._shared.broker.directory.state(self.sid)
        gateway = state.get("gateway")
        if gateway not in (None, self._shared.name):
            raise ConnectionOverError(REPLACED)
        if gateway is None:
            log.warning("%s: the broker has lost the session; it is announced again", self.sid)
            self.broker_forgot = True
            self._announce_again()
        elif told is not None and any(state.get(field) != told[field] for field in RUNNING):
            log.warning("%s: the broker has lost what the device runs; it is announced again", self.sid)
            self._announce_again()
        self._relay.take_state(state)
        reaches = await self._relay.read_log()
        if self._resume_due:
            self._relay.resume(log_reaches=reaches)
            self._resume_due = False
        await self._relay.advance()
        await self._postbox.flush()

    def _announce_again(self) -> None:
        """What the device said last went with a broker that failed over: nobody but us can say it again."""
        self._resume_due = True
        self._relay.forget()
        self._postbox.note(self._announcement)

    async def disconnected(self) -> None:
        """Note that the device has gone, unless it has come back somewhere else."""
        state = await self._shared.broker.directory.state(self.sid)
        if state.get("gateway") == self._shared.name:
            self._postbox.note({"connected": "0"})
            await self._postbox.flush()
