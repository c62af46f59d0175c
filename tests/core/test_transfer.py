"""Large messages in parts: exactly the bytes, exactly once, whatever is cut; and bounded on both ends."""

from __future__ import annotations

import hashlib
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.messages import MAX_PARTS, Part, PartAck
from ams.core.transfer import MAX_FINISHED, MAX_PARTIAL, PART_BYTES, WINDOW_PARTS, Inbox, Outbox
from ams.errors import TransferError
from tests.core.students import PROPERTY

LIMIT = 1 << 20


def message(parts: float, fill: int = 0) -> bytes:
    """A message of so many parts; different `fill`, different bytes."""
    return bytes([fill]) * max(1, int(parts * PART_BYTES))


def part_of(data: bytes, index: int, **changes: object) -> tuple[Part, bytes]:
    digest = hashlib.sha256(data).hexdigest()
    count = -(-len(data) // PART_BYTES)
    fields = {"transfer": digest[:32], "index": index, "count": count, "size": len(data), "digest": digest, **changes}
    return Part.model_validate(fields), data[index * PART_BYTES : (index + 1) * PART_BYTES]


class Link:
    """Two ends and what is under way between them; a cut loses it."""

    def __init__(self, outbox: Outbox, inbox: Inbox) -> None:
        self.outbox, self.inbox = outbox, inbox
        self.down: deque[tuple[Part, bytes]] = deque()
        self.up: deque[PartAck] = deque()
        self.arrived: list[bytes] = []
        self.parts_sent = 0

    def send(self) -> None:
        part = self.outbox.next_part()
        if part is not None:
            self.parts_sent += 1
            self.down.append(part)

    def deliver(self) -> None:
        if self.down:
            ack, whole = self.inbox.receive(*self.down.popleft())
            self.up.append(ack)
            if whole is not None:
                self.arrived.append(whole)

    def answer(self) -> None:
        if self.up:
            self.outbox.acknowledge(self.up.popleft())

    def cut(self) -> None:
        self.down.clear()
        self.up.clear()
        self.outbox.resume(self.inbox.progress())

    def run(self) -> None:
        """Until nothing moves any more."""
        while True:
            before = self.parts_sent
            self.send()
            if self.parts_sent == before and not self.down and not self.up:
                return
            self.deliver()
            self.answer()


@PROPERTY
@given(st.data())
def test_under_any_cuts_every_message_arrives_exactly_once_and_in_order(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.floats(0.001, 9), min_size=1, max_size=4))
    messages = [message(size, fill) for fill, size in enumerate(sizes)]
    link = Link(Outbox(), Inbox(LIMIT))
    actions = data.draw(st.lists(st.sampled_from(["send", "send", "deliver", "answer", "add", "cut"]), max_size=120))
    unsent = deque(messages)
    for action in actions:
        if action == "add":
            if unsent:
                link.outbox.add(unsent.popleft())
        else:
            getattr(link, action)()
        assert link.outbox.bytes_in_flight <= WINDOW_PARTS * PART_BYTES
    for rest in unsent:
        link.outbox.add(rest)
    link.run()
    assert link.arrived == messages
    assert len(link.outbox) == 0
    assert link.outbox.bytes_waiting == 0
    assert list(link.inbox) == []


def test_a_lost_last_acknowledgement_does_not_repeat_the_message() -> None:
    link = Link(Outbox(), Inbox(LIMIT))
    link.outbox.add(message(3))
    for _ in range(3):
        link.send()
        link.deliver()
    link.cut()
    assert len(link.outbox) == 0
    link.run()
    assert link.arrived == [message(3)]


def test_after_a_cut_it_goes_on_at_the_last_part_received() -> None:
    link = Link(Outbox(), Inbox(LIMIT))
    link.outbox.add(message(10))
    for _ in range(6):
        link.send()
        link.deliver()
        link.answer()
    link.cut()
    assert link.outbox.bytes_waiting == 4 * PART_BYTES
    link.run()
    assert link.parts_sent == 10
    assert link.arrived == [message(10)]


def test_another_sender_goes_on_where_the_first_stopped() -> None:
    first = Link(Outbox(), Inbox(LIMIT))
    first.outbox.add(message(10))
    for _ in range(4):
        first.send()
        first.deliver()
    second = Link(Outbox(), first.inbox)
    second.outbox.resume(first.inbox.progress())
    second.outbox.add(message(10))
    second.run()
    assert second.parts_sent == 6
    assert second.arrived == [message(10)]


def test_a_sender_that_does_not_know_is_told_by_the_first_acknowledgement() -> None:
    first = Link(Outbox(), Inbox(LIMIT))
    first.outbox.add(message(20))
    for _ in range(12):
        first.send()
        first.deliver()
        first.answer()
    second = Link(Outbox(), first.inbox)
    second.outbox.add(message(20))
    second.run()
    assert second.arrived == [message(20)]
    assert second.parts_sent <= 8 + WINDOW_PARTS


def test_a_message_that_is_meant_again_comes_again() -> None:
    link = Link(Outbox(), Inbox(LIMIT))
    for _ in range(2):
        link.outbox.add(message(5))
        link.run()
    assert link.arrived == [message(5)] * 2
    fresh = Link(Outbox(), link.inbox)
    fresh.outbox.resume(link.inbox.progress())
    fresh.outbox.add(message(5))
    fresh.run()
    assert fresh.arrived == [message(5)]


def test_the_same_message_twice_in_the_box_is_one() -> None:
    outbox = Outbox()
    outbox.add(message(5))
    outbox.next_part()
    outbox.add(message(5))
    assert len(outbox) == 1
    part = outbox.next_part()
    assert part is not None
    assert part[0].index == 1


def test_no_more_than_a_window_is_under_way() -> None:
    outbox = Outbox()
    outbox.add(message(10))
    parts = [outbox.next_part() for _ in range(WINDOW_PARTS + 1)]
    assert parts[-1] is None
    assert outbox.bytes_in_flight == WINDOW_PARTS * PART_BYTES
    part = parts[0]
    assert part is not None
    outbox.acknowledge(PartAck(transfer=part[0].transfer, next=1))
    assert outbox.next_part() is not None
    assert outbox.next_part() is None


def test_a_gap_is_answered_with_a_rewind_and_a_repetition_is_not() -> None:
    inbox, data = Inbox(LIMIT), message(4)
    ack, whole = inbox.receive(*part_of(data, 2))
    assert (ack.next, ack.rewind, whole) == (0, True, None)
    inbox.receive(*part_of(data, 0))
    ack, whole = inbox.receive(*part_of(data, 0))
    assert (ack.next, ack.rewind, whole) == (1, False, None)


def test_a_rewind_sends_again_from_there() -> None:
    outbox = Outbox()
    outbox.add(message(6))
    parts = [outbox.next_part() for _ in range(3)]
    assert parts[0] is not None
    outbox.acknowledge(PartAck(transfer=parts[0][0].transfer, next=1, rewind=True))
    again = outbox.next_part()
    assert again is not None
    assert again[0].index == 1


def test_a_late_part_of_a_finished_message_is_acknowledged_as_finished() -> None:
    inbox, data = Inbox(LIMIT), message(3)
    for index in range(3):
        inbox.receive(*part_of(data, index))
    ack, whole = inbox.receive(*part_of(data, 2))
    assert (ack.next, ack.rewind, whole) == (3, False, None)
    assert list(inbox) == []


def test_acknowledgements_of_unknown_or_old_transfers_change_nothing() -> None:
    outbox = Outbox()
    outbox.add(message(6))
    for _ in range(3):
        part = outbox.next_part()
    assert part is not None
    outbox.acknowledge(PartAck(transfer="0" * 32, next=1))
    outbox.acknowledge(PartAck(transfer=part[0].transfer, next=2))
    outbox.acknowledge(PartAck(transfer=part[0].transfer, next=1))
    assert outbox.bytes_waiting == 4 * PART_BYTES


def test_a_receiver_keeps_few_unfinished_messages_and_few_names() -> None:
    inbox = Inbox(LIMIT)
    for fill in range(3 * MAX_PARTIAL):
        inbox.receive(*part_of(message(3, fill), 0))
    assert len(list(inbox)) == MAX_PARTIAL
    inbox = Inbox(LIMIT)
    for fill in range(3 * MAX_FINISHED):
        inbox.receive(*part_of(message(1, fill), 0))
    assert len(inbox.progress()) == MAX_FINISHED
    assert MAX_PARTIAL + MAX_FINISHED <= 8  # what Hello and Welcome can say


def test_a_dropped_transfer_begins_anew() -> None:
    link = Link(Outbox(), Inbox(LIMIT))
    link.outbox.add(message(8))
    for _ in range(3):
        link.send()
        link.deliver()
        link.answer()
    for fill in range(1, 1 + MAX_PARTIAL):
        link.inbox.receive(*part_of(message(3, fill), 0))
    link.run()
    assert link.arrived == [message(8)]


@pytest.mark.parametrize(
    "changes",
    [
        {"size": LIMIT + 1},
        {"count": 4},
        {"count": 2},
        {"transfer": "0" * 32},
        {"size": 2 * PART_BYTES},
        {"count": MAX_PARTS},
    ],
)
def test_parts_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    part, chunk = part_of(message(3), 0, **changes)
    inbox = Inbox(LIMIT)
    with pytest.raises(TransferError):
        inbox.receive(part, chunk)
    assert list(inbox) == []


def test_parts_of_another_length_than_they_say_are_refused() -> None:
    for index, length in ((0, PART_BYTES - 1), (0, PART_BYTES + 1), (0, 0)):
        part, _ = part_of(message(2.5), index)
        with pytest.raises(TransferError, match=f"{length} bytes instead"):
            Inbox(LIMIT).receive(part, bytes(length))


def test_parts_that_contradict_the_first_are_refused() -> None:
    inbox, data = Inbox(LIMIT), message(2.5)
    part, chunk = part_of(data, 0)
    inbox.receive(part, chunk)
    other_digest = part.digest[:32] + "0" * 32
    with pytest.raises(TransferError, match="contradict"):
        inbox.receive(*part_of(data, 1, digest=other_digest))
    with pytest.raises(TransferError, match="contradict"):
        inbox.receive(*part_of(data, 1, size=len(data) + 1))


def test_altered_bytes_are_found_out_and_forgotten() -> None:
    inbox, data = Inbox(LIMIT), message(2)
    part, chunk = part_of(data, 0)
    inbox.receive(part, b"x" + chunk[1:])
    with pytest.raises(TransferError, match="digest"):
        inbox.receive(*part_of(data, 1))
    assert inbox.progress() == ()
    inbox.receive(*part_of(data, 0))
    assert inbox.receive(*part_of(data, 1))[1] == data
