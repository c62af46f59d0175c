"""The connection's state machine, both roles, without a socket."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams.core.envelope import MAX_FRAME_BYTES, decode, encode
from ams.core.messages import (
    Ack,
    Clip,
    Error,
    Message,
    Notice,
    Part,
    PartAck,
    Patch,
    Ping,
    Rates,
)
from ams.core.session import (
    MAX_WAITING,
    MAX_WAITING_BYTES,
    MISSED_HEARTBEATS,
    SLOWEST_LINK_BYTES_PER_S,
    Connection,
    Received,
    Role,
)
from ams.core.transfer import PART_BYTES, WINDOW_PARTS, Inbox, Outbox
from ams.errors import EnvelopeError, HandshakeError, TransferError, WireError
from tests.core.ends import CLIP, PATCH, RATES, STATS, Ends, device, drain, established, hello, raw, welcome

# -- handshake ---------------------------------------------------------------------------------------------------


def test_hello_and_welcome_establish_both_ends() -> None:
    ends = established()
    assert all(end.established for end in ends.ends.values())
    assert ends.messages(Role.SERVER) == [hello()]
    assert ends.messages(Role.DEVICE) == [welcome()]


def test_the_heartbeat_is_the_servers() -> None:
    connection = device()
    connection.receive(encode(welcome(heartbeat_s=2.5)), 0.0)
    assert connection.heartbeat_s == 2.5


@pytest.mark.parametrize("message", [STATS, Ping(), CLIP, welcome(), PartAck(transfer="0" * 32, next=0)])
def test_a_server_hears_nothing_before_hello(message: Message) -> None:
    server = Connection(Role.SERVER, Inbox(1 << 20), Outbox(), now_s=0.0)
    with pytest.raises(HandshakeError, match="expected Hello first") as raised:
        server.receive(encode(message), 0.0)
    assert raised.value.code == "order"


@pytest.mark.parametrize("message", [RATES, Ping(), PATCH, hello()])
def test_a_device_hears_nothing_before_welcome(message: Message) -> None:
    with pytest.raises(HandshakeError, match="expected Welcome first"):
        device().receive(encode(message), 0.0)


def test_even_an_unknown_message_may_not_come_first() -> None:
    with pytest.raises(HandshakeError, match="song"):
        device().receive(raw({"type": "song"}), 0.0)


@pytest.mark.parametrize(("role", "again"), [(Role.SERVER, hello()), (Role.DEVICE, welcome())])
def test_a_second_greeting_is_refused(role: Role, again: Message) -> None:
    with pytest.raises(HandshakeError, match="second"):
        established().ends[role].receive(encode(again), 0.0)


def test_what_is_queued_too_early_waits_for_welcome() -> None:
    ends = Ends()
    ends.ends[Role.DEVICE].send(STATS)
    ends.ends[Role.SERVER].send(RATES)
    assert ends.ends[Role.SERVER].data_to_send(0.0) is None
    assert ends.transmit(Role.DEVICE)
    assert not ends.transmit(Role.DEVICE)
    ends.run()
    assert ends.messages(Role.DEVICE) == [welcome(), RATES]
    assert ends.messages(Role.SERVER) == [hello(), STATS]


def test_an_error_may_stand_in_for_welcome() -> None:
    ends = Ends()
    ends.transmit(Role.DEVICE)
    error = Error(code="token", text="not enrolled: run 'ams devices add'")
    ends.ends[Role.SERVER].send(error)
    ends.transmit(Role.SERVER)
    ends.take(Role.DEVICE)
    assert ends.messages(Role.DEVICE) == [error]
    assert not ends.ends[Role.DEVICE].established


# -- large and small messages --------------------------------------------------------------------------------------


def test_control_messages_go_in_between_the_parts() -> None:
    ends = established()
    server = ends.ends[Role.SERVER]
    server.send(PATCH, bytes(10 * PART_BYTES))
    ends.transmit(Role.SERVER)
    server.send(RATES)
    ends.transmit(Role.SERVER)
    kinds = [type(decode(data)[0]) for data in ends.wires[Role.DEVICE]]
    assert kinds == [Part, Rates]
    ends.run()
    assert ends.messages(Role.DEVICE)[1:] == [RATES, PATCH]


def test_the_largest_message_in_one_piece() -> None:
    ends = established()
    payload = bytes(MAX_FRAME_BYTES - len(encode(PATCH)))
    for extra in (b"", b"x"):
        ends.ends[Role.SERVER].send(PATCH, payload + extra)
        ends.run()
        assert ends.received[Role.DEVICE][-1] == Received(PATCH, payload + extra)
    assert len(ends.boxes[Role.SERVER][1]) == 0


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_under_any_cuts_what_goes_in_parts_arrives_once_on_both_ends(data: st.DataObject) -> None:
    ends = established()
    clips = [(CLIP.model_copy(update={"clip_id": f"{i:032x}"}), bytes([i]) * 90_000) for i in range(2)]
    patches = [(Patch(stream="front", base=i, target=i + 1), bytes([i]) * 150_000) for i in range(2)]
    waiting: dict[Role, deque[tuple[Message, bytes]]] = {Role.DEVICE: deque(clips), Role.SERVER: deque(patches)}
    for role, action in data.draw(
        st.lists(
            st.tuples(st.sampled_from(Role), st.sampled_from(["transmit", "take", "transmit", "take", "send", "cut"])),
            max_size=100,
        )
    ):
        if action == "cut":
            ends.connect()
        elif action == "send" and waiting[role]:
            ends.ends[role].send(*waiting[role].popleft())
        elif action != "send":
            getattr(ends, action)(role)
    ends.run()
    for role in Role:
        while waiting[role]:
            ends.ends[role].send(*waiting[role].popleft())
    ends.run()
    arrived = {
        role: [(e.message, e.payload) for e in events if isinstance(e.message, (Clip, Patch))]
        for role, events in ends.received.items()
    }
    assert arrived == {Role.SERVER: clips, Role.DEVICE: patches}


def test_a_transfer_over_the_limit_ends_the_connection() -> None:
    part = Part(transfer="0" * 32, index=0, count=1 << 19, size=1 << 33, digest="0" * 64)
    with pytest.raises(TransferError, match="limit"):
        established().ends[Role.SERVER].receive(encode(part), 0.0)


@pytest.mark.parametrize("inner", [hello(), PartAck(transfer="0" * 32, next=0)])
def test_a_greeting_may_not_hide_in_parts(inner: Message) -> None:
    ends = established()
    ends.boxes[Role.DEVICE][1].add(encode(inner))
    with pytest.raises(EnvelopeError, match="may not travel in parts"):
        ends.run()


def test_a_malformed_message_in_parts_ends_the_connection() -> None:
    ends = established()
    ends.boxes[Role.DEVICE][1].add(b"nonsense" * 10_000)
    with pytest.raises(EnvelopeError, match="does not speak AMS"):
        ends.run()


# -- unknown, malformed, too much ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["song", "a" * 64])
def test_an_unknown_message_is_answered_and_skipped(kind: str) -> None:
    ends = established()
    server = ends.ends[Role.SERVER]
    assert server.receive(raw({"type": kind, "x": 1}), 0.0) == []
    [notice] = drain(server)
    assert isinstance(notice, Notice)
    assert notice.code == "unknown_message"
    assert kind in notice.text
    assert server.receive(encode(STATS), 0.0) == [Received(STATS, b"")]


def test_an_unknown_message_in_parts_is_answered_and_skipped() -> None:
    ends = established()
    ends.boxes[Role.DEVICE][1].add(raw({"type": "song"}) + bytes(100_000))
    ends.run()
    assert [m.code for m in ends.messages(Role.DEVICE) if isinstance(m, Notice)] == ["unknown_message"]


@pytest.mark.parametrize("kind", ["", "A", "\U000e0001" * 64, "\ud800", "a b", "x" * 65])
def test_a_type_that_is_no_name_is_malformed(kind: str) -> None:
    with pytest.raises(EnvelopeError, match="lower-case"):
        established().ends[Role.SERVER].receive(raw({"type": kind}), 0.0)


def test_a_peer_that_asks_and_never_reads_is_cut_off() -> None:
    """Invariant 6: the queue towards a peer is bounded."""
    server = established().ends[Role.SERVER]
    unknown = raw({"type": "song"})
    for _ in range(MAX_WAITING):
        server.receive(unknown, 0.0)
    with pytest.raises(WireError, match="does not read"):
        server.receive(unknown, 0.0)


def test_bytes_that_wait_are_bounded_and_count_only_while_they_wait() -> None:
    server = established().ends[Role.SERVER]
    fitting = MAX_WAITING_BYTES // 60_100
    for _ in range(3):
        for _ in range(fitting):
            server.send(PATCH, bytes(60_000))
        assert len(drain(server)) == fitting
    for _ in range(fitting):
        server.send(PATCH, bytes(60_000))
    with pytest.raises(WireError):
        server.send(PATCH, bytes(60_000))


# -- keepalive -------------------------------------------------------------------------------------------------------


def test_a_ping_is_sent_after_a_silent_heartbeat_and_needs_no_answer() -> None:
    ends = established()
    end = ends.ends[Role.DEVICE]
    end.keep_alive(9.9)
    assert drain(end) == []
    end.keep_alive(10.0)
    end.keep_alive(10.0)
    assert drain(end, 10.0) == [Ping()]
    assert end.heartbeat_due_s() == 20.0
    server = ends.ends[Role.SERVER]
    assert server.receive(encode(Ping()), 10.0) == []
    assert drain(server) == []


def test_whoever_speaks_need_not_ping() -> None:
    end = established().ends[Role.DEVICE]
    end.send(STATS)
    drain(end, 8.0)
    end.keep_alive(17.0)
    assert drain(end) == []
    assert end.heartbeat_due_s() == 18.0


def test_nothing_is_kept_alive_before_welcome() -> None:
    server = Connection(Role.SERVER, Inbox(1), Outbox(), now_s=0.0)
    server.keep_alive(50.0)
    assert drain(server) == []
    assert server.heartbeat_due_s() == 60.0  # a shell that waits for it does not spin
    server.send(welcome())
    assert drain(server, 50.0) == [welcome()]


def test_no_ping_queues_up_behind_what_waits() -> None:
    server = established().ends[Role.SERVER]
    server.send(RATES)
    server.keep_alive(10.0)
    assert drain(server, 10.0) == [RATES]


def test_a_silent_peer_is_dead_after_three_heartbeats() -> None:
    end = established().ends[Role.DEVICE]
    assert end.deadline_s() == MISSED_HEARTBEATS * 10.0
    end.receive(encode(Ping()), 7.0)
    assert end.deadline_s() == 7.0 + MISSED_HEARTBEATS * 10.0


def test_the_deadline_waits_for_what_is_under_way_and_not_for_the_whole_queue() -> None:
    ends = established()
    server = ends.ends[Role.SERVER]
    server.send(PATCH, bytes(2_500_000))
    quiet_s = server.deadline_s()
    assert quiet_s == 30.0
    while ends.transmit(Role.SERVER):
        pass
    window_s = WINDOW_PARTS * PART_BYTES / SLOWEST_LINK_BYTES_PER_S
    assert server.deadline_s() == pytest.approx(quiet_s + window_s)


def test_a_keyframe_on_a_narrow_link_survives_a_cut() -> None:
    """2.5 MB on 200 kbit/s take 100 s; a cut in the middle costs a window, not the first half."""
    ends = established()
    ends.ends[Role.SERVER].send(PATCH, bytes(2_500_000))
    parts = 0
    for _ in range(80):
        parts += ends.transmit(Role.SERVER)
        for role in (Role.DEVICE, Role.DEVICE):
            ends.take(role)
        ends.transmit(Role.DEVICE)
        ends.take(Role.SERVER)
    assert parts > 70
    ends.connect()
    ends.run()
    assert [e.payload for e in ends.received[Role.DEVICE] if e.message == PATCH] == [bytes(2_500_000)]


def test_acks_pass_to_the_shell() -> None:
    ends = established()
    ack = Ack(stream="front", of="patch", version=4, digest="cd" * 32)
    ends.ends[Role.DEVICE].send(ack)
    ends.run()
    assert ends.messages(Role.SERVER)[-1] == ack
