"""A device and a server without a socket between them, for the tests of the connection's state machine."""

from __future__ import annotations

import json
import struct
from collections import deque

from ams.core.envelope import MAX_FRAME_BYTES, decode
from ams.core.messages import (
    Clip,
    FrameStamp,
    Hello,
    Message,
    Patch,
    Progress,
    Rates,
    Stats,
    StreamHello,
    StreamWelcome,
    Welcome,
)
from ams.core.session import Connection, Received, Role
from ams.core.transfer import Inbox, Outbox

RATES = Rates(stream="front", sampling_hz=1.0, clip_interval_s=10.0, uplink_kbps=200.0)
STATS = Stats(stream="front", sent_ns=5, version=3)
PATCH = Patch(stream="front", base=3, target=4)
CLIP = Clip(
    stream="front",
    clip_id="0" * 32,
    model_id="ab" * 32,
    width=64,
    height=32,
    boot_id="b",
    sent_ns=9,
    frames=(FrameStamp(seq=0, t_ns=1, version=3),),
)


def hello(partial: tuple[Progress, ...] = ()) -> Hello:
    stream = StreamHello(name="front", model_id="ab" * 32, version=3, digest="cd" * 32)
    return Hello(device="cam", token="t", boot_id="b", sent_ns=1, streams=(stream,), partial=partial)


def welcome(partial: tuple[Progress, ...] = (), heartbeat_s: float = 10.0) -> Welcome:
    stream = StreamWelcome(name="front", session="cam/front", rates=RATES, max_clip_bytes=100_000)
    return Welcome(heartbeat_s=heartbeat_s, streams=(stream,), partial=partial)


class Ends:
    """A device and a server whose boxes outlive connections, and shells that shake hands."""

    def __init__(self) -> None:
        self.boxes = {role: (Inbox(4 << 20), Outbox()) for role in Role}
        self.received: dict[Role, list[Received]] = {role: [] for role in Role}
        self.connect()

    def connect(self) -> None:
        self.ends = {role: Connection(role, *self.boxes[role], now_s=0.0) for role in Role}
        self.wires: dict[Role, deque[bytes]] = {role: deque() for role in Role}  # towards this role
        self.ends[Role.DEVICE].send(hello(self.boxes[Role.DEVICE][0].progress()))

    def transmit(self, sender: Role) -> bool:
        data = self.ends[sender].data_to_send(0.0)
        if data is None:
            return False
        assert len(data) <= MAX_FRAME_BYTES
        self.wires[Role.SERVER if sender is Role.DEVICE else Role.DEVICE].append(data)
        return True

    def take(self, receiver: Role) -> bool:
        if not self.wires[receiver]:
            return False
        for event in self.ends[receiver].receive(self.wires[receiver].popleft(), 0.0):
            self.received[receiver].append(event)
            if isinstance(event.message, Hello):
                self.ends[receiver].send(welcome(self.boxes[receiver][0].progress()))
        return True

    def run(self) -> None:
        while any(step(role) for role in Role for step in (self.transmit, self.take)):
            pass

    def messages(self, role: Role) -> list[Message]:
        return [event.message for event in self.received[role]]


def established() -> Ends:
    ends = Ends()
    ends.run()
    return ends


def device(now_s: float = 0.0) -> Connection:
    connection = Connection(Role.DEVICE, Inbox(1 << 20), Outbox(), now_s=now_s)
    connection.send(hello())
    return connection


def drain(connection: Connection, now_s: float = 0.0) -> list[Message]:
    out = []
    while (data := connection.data_to_send(now_s)) is not None:
        message, _ = decode(data)
        out.append(message)
    return out  # type: ignore[return-value]


def raw(fields: dict[str, object]) -> bytes:
    header = json.dumps(fields).encode()
    return struct.pack("<3sBH", b"AMS", 1, len(header)) + header
