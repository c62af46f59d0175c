"""Large messages in parts: cutting, sending within a window, reassembling, resuming after a cut connection.

A transfer is named by the SHA-256 of the whole message, so any gateway that sends the same message again can go
on where another stopped. `Outbox` and `Inbox` outlive a connection and are bounded: an inbox by its limits, an outbox
by what its owner adds, who asks for `bytes_waiting` first. Between two ends that both outlive the cuts a message
arrives exactly once; when one of them begins anew it may come again, and is then recognised by its clip id or
version. Knows the fields of Part and PartAck, not what the message is about, and no sockets.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ams.core.messages import Part, PartAck, Progress
from ams.errors import TransferError

PART_BYTES = 16 * 1024
"""Payload of one part: small enough that a control message waits about 0.7 s for it on 200 kbit/s."""

WINDOW_PARTS = 4
"""Parts that may be under way without an acknowledgement."""

MAX_PARTIAL = 4
"""Transfers that a receiver keeps unfinished; the oldest is dropped."""

MAX_FINISHED = 4
"""Finished transfers that a receiver remembers by name, for a sender that missed the last acknowledgement."""


@dataclass
class Outgoing:
    """One message under way in parts."""

    data: bytes
    digest: str = field(init=False)
    acked: int = 0
    cursor: int = 0
    begun: bool = False

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256(self.data).hexdigest()

    @property
    def transfer(self) -> str:
        """The transfer's name on the wire."""
        return self.digest[:32]

    @property
    def count(self) -> int:
        """Number of parts."""
        return math.ceil(len(self.data) / PART_BYTES)

    def resume(self, part: int) -> None:
        """Go on from `part`: what the receiver says that it wants next."""
        self.acked = self.cursor = min(part, self.count)

    def next_part(self) -> tuple[Part, bytes] | None:
        """The next part to send, or None while the window is full or everything is sent."""
        if self.cursor >= self.count or self.cursor - self.acked >= WINDOW_PARTS:
            return None
        index = self.cursor
        self.cursor += 1
        self.begun = True
        header = Part(transfer=self.transfer, index=index, count=self.count, size=len(self.data), digest=self.digest)
        return header, self.data[index * PART_BYTES : (index + 1) * PART_BYTES]


class Outbox:
    """Messages that wait to be sent in parts, first in, first out; one is under way at a time."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Outgoing] = OrderedDict()
        self._wanted: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bytes_waiting(self) -> int:
        """Bytes that are not acknowledged yet."""
        return sum(len(o.data) - min(len(o.data), o.acked * PART_BYTES) for o in self._waiting.values())

    @property
    def bytes_in_flight(self) -> int:
        """Bytes that are sent and not acknowledged yet; a window at most."""
        return sum((o.cursor - o.acked) * PART_BYTES for o in self._waiting.values())

    def add(self, data: bytes) -> None:
        """Queue a message; the same message again goes on where it is.

        A message that another sender began goes on where the receiver, at the last `resume`, said that it is.
        """
        outgoing = Outgoing(data)
        if outgoing.transfer not in self._waiting:
            self._waiting[outgoing.transfer] = outgoing
            self._go_on(outgoing)

    def resume(self, progress: Iterable[Progress]) -> None:
        """A new connection has begun: every transfer goes on where the receiver says, else at its first part.

        One that the receiver has whole leaves the box: only its last acknowledgement was lost.
        """
        self._wanted = {item.transfer: item.next for item in progress}
        for outgoing in list(self._waiting.values()):
            self._go_on(outgoing)

    def next_part(self) -> tuple[Part, bytes] | None:
        """The next part of the first message, if its window allows one."""
        for outgoing in self._waiting.values():
            return outgoing.next_part()
        return None

    def acknowledge(self, ack: PartAck) -> None:
        """Take note of a PartAck; the finished transfer leaves the box. Acks of unknown transfers are old news."""
        outgoing = self._waiting.get(ack.transfer)
        if outgoing is None:
            return
        if ack.next >= outgoing.count:
            del self._waiting[ack.transfer]
        elif ack.rewind:
            outgoing.resume(ack.next)
        else:
            outgoing.acked = max(outgoing.acked, ack.next)
            outgoing.cursor = max(outgoing.cursor, outgoing.acked)  # what the receiver has need not be sent

    def _go_on(self, outgoing: Outgoing) -> None:
        wanted = self._wanted.pop(outgoing.transfer, 0)
        if wanted < outgoing.count:
            outgoing.resume(wanted)
        elif outgoing.begun:
            del self._waiting[outgoing.transfer]
        else:
            outgoing.resume(0)  # the receiver has had it before; whoever adds it once more means it to come once more


@dataclass
class _Incoming:
    count: int
    size: int
    digest: str
    chunks: list[bytes] = field(default_factory=list)


class Inbox:
    """Messages that arrive in parts. `limit_bytes` bounds one message, `MAX_PARTIAL` their number."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._partial: OrderedDict[str, _Incoming] = OrderedDict()
        self._finished: OrderedDict[str, int] = OrderedDict()  # name: parts

    def progress(self) -> tuple[Progress, ...]:
        """What to tell the sender on a new connection: the next part of what is unfinished, the end of what is not."""
        partial = [Progress(transfer=name, next=len(part.chunks)) for name, part in self._partial.items()]
        finished = [Progress(transfer=n, next=c) for n, c in self._finished.items() if n not in self._partial]
        return tuple(partial + finished)

    def receive(self, part: Part, chunk: bytes) -> tuple[PartAck, bytes | None]:
        """Take a part in: the answer for the sender, and the whole message once it is complete.

        A transfer that is finished and begins again at its first part is taken in again: its sender means it.

        A repeated part is acknowledged and ignored, a gap is answered with a rewind. Raises TransferError for a
        message over the limit, for parts that contradict one another and for a wrong digest.
        """
        if part.size > self._limit_bytes:
            raise TransferError(f"message of {part.size} bytes announced, the limit here is {self._limit_bytes}")
        if part.count != math.ceil(part.size / PART_BYTES) or part.transfer != part.digest[:32]:
            raise TransferError(f"{part.count} parts of {PART_BYTES} do not make a message of {part.size} bytes")
        incoming = self._partial.get(part.transfer)
        if incoming is None:
            if part.index and part.transfer in self._finished:
                return PartAck(transfer=part.transfer, next=part.count), None
            incoming = self._partial[part.transfer] = _Incoming(part.count, part.size, part.digest)
            while len(self._partial) > MAX_PARTIAL:
                self._partial.popitem(last=False)
        if (incoming.count, incoming.size, incoming.digest) != (part.count, part.size, part.digest):
            raise TransferError(f"parts of transfer {part.transfer[:8]} contradict one another")
        expected = len(incoming.chunks)
        if part.index != expected:
            rewind = part.index > expected
            return PartAck(transfer=part.transfer, next=expected, rewind=rewind), None
        last = part.index == part.count - 1
        length = part.size - part.index * PART_BYTES if last else PART_BYTES
        if len(chunk) != length:
            raise TransferError(f"part {part.index} has {len(chunk)} bytes instead of {length}")
        incoming.chunks.append(chunk)
        ack = PartAck(transfer=part.transfer, next=expected + 1)
        if not last:
            return ack, None
        del self._partial[part.transfer]
        message = b"".join(incoming.chunks)
        if hashlib.sha256(message).hexdigest() != incoming.digest:
            raise TransferError(f"transfer {part.transfer[:8]} does not have the digest that it promised")
        self._finished.pop(part.transfer, None)
        self._finished[part.transfer] = part.count
        while len(self._finished) > MAX_FINISHED:
            self._finished.popitem(last=False)
        return ack, message

    def __iter__(self) -> Iterator[str]:
        return iter(self._partial)
