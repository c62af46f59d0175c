"""The connection's state machine, for both ends of a WebSocket: bytes in, events out; messages in, bytes out.

Sans I/O: this file knows the handshake, the parts, the deadlines and what to do with an unknown message. It does
not know sockets, clocks (`now_s` is passed in) or what a clip or a patch means. The shells move the bytes.

Rules that hold for both roles:
- The device speaks first, with Hello. The server's first message is Welcome or Error. Nothing else comes before:
  what is queued earlier waits until Welcome has passed.
- A message over 64 KiB travels in parts; control messages go in between.
- An unknown message is answered with a Notice and skipped. A malformed one ends the connection.
- A peer is taken for dead when nothing came for three heartbeats plus the time that the bytes under way need on
  the slowest link that we serve.
- A peer that makes us answer and does not read the answers is cut off at `MAX_WAITING_BYTES`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from ams.core.envelope import MAX_FRAME_BYTES, Unknown, decode, encode
from ams.core.messages import Error, Hello, Message, Notice, Part, PartAck, Ping, Text, Welcome
from ams.core.transfer import Inbox, Outbox
from ams.errors import EnvelopeError, HandshakeError, WireError

SLOWEST_LINK_BYTES_PER_S = 4_000
"""32 kbit/s: a link below that is treated as dead while a transfer is under way."""

MISSED_HEARTBEATS = 3
MAX_WAITING = 1024
MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Messages, and bytes of them, that wait for the socket beside the parts. What the log of patches can hold fits."""


class Role(Enum):
    """Which end of the connection this is."""

    DEVICE = "device"
    SERVER = "server"


@dataclass(frozen=True)
class Received:
    """A message from the peer, whole, with its payload."""

    message: Message
    payload: bytes


class Connection:
    """One WebSocket connection. `inbox` and `outbox` may outlive it, so that transfers resume on the next one."""

    def __init__(self, role: Role, inbox: Inbox, outbox: Outbox, *, now_s: float, heartbeat_s: float = 10.0) -> None:
        self.role = role
        self.heartbeat_s = heartbeat_s
        self._inbox = inbox
        self._outbox = outbox
        self._greeting: deque[bytes] = deque()
        self._control: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._greeted = False
        self._established = False
        self._heard_s = now_s
        self._spoke_s = now_s

    @property
    def established(self) -> bool:
        """True once Hello and Welcome have passed."""
        return self._established

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Queue a message; one over 64 KiB goes in parts behind those that wait already.

        Raises EnvelopeError for a header over its limit, WireError when the peer does not read what waits.
        """
        data = encode(message, payload)
        if isinstance(message, (Hello, Welcome)) or (isinstance(message, Error) and not self._established):
            self._greeting.append(data)
        elif len(data) > MAX_FRAME_BYTES:
            self._outbox.add(data)
        else:
            if len(self._control) >= MAX_WAITING or self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                raise WireError(f"the peer does not read: {len(self._control)} messages wait for it; connect again")
            self._control.append(data)
            self._waiting_bytes += len(data)
        if isinstance(message, Welcome):
            self._establish(message.heartbeat_s)

    def receive(self, data: bytes, now_s: float) -> list[Received]:
        """Take one WebSocket message in. Raises WireError when the connection cannot go on."""
        self._heard_s = now_s
        message, payload = decode(data)
        self._check_order(message)
        if isinstance(message, Unknown):
            self._answer_unknown(message)
            return []
        if isinstance(message, Part):
            ack, whole = self._inbox.receive(message, payload)
            self.send(ack)
            return [] if whole is None else self._open(whole)
        if isinstance(message, PartAck):
            self._outbox.acknowledge(message)
            return []
        if isinstance(message, Ping):
            return []
        if isinstance(message, (Hello, Welcome)):
            # Before Welcome the server must not send parts: only now does it know what the device has of them.
            self._outbox.resume(message.partial)
            self._greeted = True
            if isinstance(message, Welcome):
                self._establish(message.heartbeat_s)
        return [Received(message, payload)]

    def data_to_send(self, now_s: float) -> bytes | None:
        """The next WebSocket message to send, or None when there is nothing or the window is full."""
        data = self._next()
        if data is not None:
            self._spoke_s = now_s
        return data

    def heartbeat_due_s(self) -> float:
        """When a Ping is due if nothing else is sent."""
        return self._spoke_s + self.heartbeat_s

    def keep_alive(self, now_s: float) -> None:
        """Queue a Ping if we have been silent for a heartbeat; before Welcome there is nothing to keep alive."""
        if now_s < self.heartbeat_due_s():
            return
        if self._established and not self._control:
            self.send(Ping())
        self._spoke_s = now_s

    def deadline_s(self) -> float:
        """When the peer is to be taken for dead if nothing comes until then."""
        in_flight_s = self._outbox.bytes_in_flight / SLOWEST_LINK_BYTES_PER_S
        return self._heard_s + MISSED_HEARTBEATS * self.heartbeat_s + in_flight_s

    def _next(self) -> bytes | None:
        if self._greeting:
            return self._greeting.popleft()
        if not self._established:
            return None
        if self._control:
            data = self._control.popleft()
            self._waiting_bytes -= len(data)
            return data
        part = self._outbox.next_part()
        return None if part is None else encode(*part)

    def _open(self, whole: bytes) -> list[Received]:
        message, payload = decode(whole, limit=len(whole))
        if isinstance(message, Unknown):
            self._answer_unknown(message)
            return []
        if isinstance(message, (Part, PartAck, Hello, Welcome)):
            raise EnvelopeError(f"a {message.type} may not travel in parts")
        return [Received(message, payload)]

    def _answer_unknown(self, unknown: Unknown) -> None:
        text: Text = f"message type {unknown.type!r} is not known here and was skipped"
        self.send(Notice(code="unknown_message", text=text))

    def _check_order(self, message: Message | Unknown) -> None:
        if self._greeted:
            if isinstance(message, (Hello, Welcome)):
                raise HandshakeError("order", f"a second {message.type} came on one connection")
            return
        first: type[Message] = Hello if self.role is Role.SERVER else Welcome
        if not isinstance(message, (first, Error)):
            raise HandshakeError("order", f"expected {first.__name__} first, got {message.type}")

    def _establish(self, heartbeat_s: float) -> None:
        self._established = True
        self.heartbeat_s = heartbeat_s
