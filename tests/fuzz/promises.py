"""What the core promises for any bytes at all; each function fails (AssertionError, or what escapes) where it does not.

Used with random changes of sound bytes by `test_mutations`, and with what a coverage-guided fuzzer makes up by
`fuzz_envelope`, `fuzz_patch` and `fuzz_parts`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np

from ams.core import envelope, label_map
from ams.core.grid import LIMIT
from ams.core.layout import IntVector
from ams.core.messages import (
    AnyMessage,
    Clip,
    Error,
    Hello,
    Part,
    StreamHello,
    StreamWelcome,
    Welcome,
)
from ams.core.messages import Patch as PatchHeader
from ams.core.patch import GAP_ZSTD, RANS, Patch
from ams.core.session import MAX_WAITING_BYTES, Connection, Role
from ams.core.transfer import MAX_FINISHED, MAX_PARTIAL, PART_BYTES, Inbox, Outbox, Outgoing
from ams.errors import EnvelopeError, PatchError, TransferError, WireError
from tests.golden import content

FOLDER = Path(__file__).parent.parent / "golden" / content.FOLDER
FILES = {path.name: path.read_bytes() for path in sorted(FOLDER.glob("*.bin"))}
"""All recorded messages, patches and label maps."""

MAX_PIXELS = 1 << 16
LIMIT_BYTES = 1 << 20
WEIGHTS_OF = {0: content.VERSION0, 1: content.VERSION0, 2: content.VERSION1}
"""Weights of the versions from which the recorded patches lead on; of all later ones `VERSION2`."""

Seen = Counter[str]
"""How often each outcome was seen: a test that only ever sees refusals at the first check proves little."""


def take_envelope(data: bytes, seen: Seen) -> None:
    """An envelope is read or refused with an EnvelopeError that can be said on the wire, and means what it says."""
    try:
        message, payload = envelope.decode(data)
    except EnvelopeError as error:
        Error(code="malformed", text=str(error))
        seen["envelope refused"] += 1
        return
    if isinstance(message, envelope.Unknown):
        seen["envelope unknown"] += 1
        return
    seen["envelope read"] += 1
    assert envelope.decode(envelope.encode(message, payload)) == (message, payload)
    if isinstance(message, Clip):
        try:
            video, labels = message.parts_of(payload)
        except WireError:
            return
        assert video
        assert video + labels == payload
    if isinstance(message, PatchHeader):
        take_patch(payload, seen)


def take_patch(data: bytes, seen: Seen) -> None:
    """A patch is applied, and then gives what it promises, or it is refused; the weights at hand stay as they are."""
    try:
        patch = Patch.decode(data, content.LAYOUT)
    except PatchError as error:
        assert error.reason == "corrupt"  # noqa: PT017
        seen["patch corrupt"] += 1
        return
    weights = WEIGHTS_OF.get(patch.base, content.VERSION2)
    before = weights.copy()
    try:
        applied = patch.apply(weights, content.LAYOUT, model_id=content.MODEL_ID, version=patch.base)
    except PatchError as error:
        assert error.reason in ("corrupt", "base", "digest")  # noqa: PT017
        seen[f"patch refused: {error.reason}"] += 1
    else:
        assert content.LAYOUT.digest(applied) == patch.digest
        seen["patch applied"] += 1
    assert np.array_equal(weights, before)
    _check_meaning(patch, weights, seen)


def take_label_maps(data: bytes, seen: Seen) -> None:
    """Label maps are read within the pixels that were allowed, or refused."""
    try:
        labels_NHW = label_map.decode(data, max_pixels=MAX_PIXELS)
    except WireError:
        seen["label maps refused"] += 1
        return
    assert labels_NHW.size <= MAX_PIXELS
    seen["label maps read"] += 1


def take_connection(pieces: list[bytes], role: Role, seen: Seen, *, whole: frozenset[bytes] = frozenset()) -> None:
    """A connection takes WebSocket messages in, or ends; what it keeps and what it answers stays bounded.

    A large message comes out only if it is one of `whole`: envelopes that really were cut.
    """
    inbox, outbox = Inbox(LIMIT_BYTES), Outbox()
    connection = greeted(role, inbox, outbox)
    outbox.add(SENT_LARGE)
    for piece in pieces:
        try:
            received = connection.receive(piece, 1.0)
        except WireError:
            seen["connection ended"] += 1
            break
        for event in received:
            seen["connection heard"] += 1
            data = envelope.encode(event.message, event.payload)
            if len(data) > envelope.MAX_FRAME_BYTES:
                assert data in whole
        answers = 0
        while (answer := connection.data_to_send(1.0)) is not None:
            assert len(answer) <= envelope.MAX_FRAME_BYTES
            envelope.decode(answer)
            answers += len(answer)
        assert answers <= MAX_WAITING_BYTES
        assert 0 <= outbox.bytes_in_flight <= 4 * PART_BYTES
        _check_inbox(inbox)
    else:
        seen["connection held"] += 1
    # Whatever came, the next connection can be greeted.
    envelope.encode(HELLO.model_copy(update={"partial": inbox.progress()}))


def take_parts(script: bytes, seen: Seen) -> None:
    """Parts in an order, with changes and with cuts that a script tells, four bytes a step.

    What comes out of an inbox, and of a connection, is a message that was cut, whole; nothing else ever does.
    """
    inbox = Inbox(LIMIT_BYTES)
    pieces: list[bytes] = []
    for offset in range(0, min(len(script), 4 * MOST_STEPS) - 3, 4):
        which, index, action, number = script[offset : offset + 4]
        outgoing = LARGE[which % len(LARGE)]
        header, chunk = _part(outgoing, index % outgoing.count)
        header, chunk = _altered(header, chunk, action, number)
        data = envelope.encode(header, chunk)
        if action % 16 == 15:
            data = data[:number] + bytes([action]) + data[number + 1 :]
        pieces.append(data)
        try:
            ack, message = inbox.receive(header, chunk)
        except TransferError:
            seen["part refused"] += 1
        else:
            seen["part taken"] += 1
            assert 0 <= ack.next <= header.count
            if message is not None:
                seen["message whole"] += 1
                assert message == outgoing.data
        _check_inbox(inbox)
    for role in Role:
        take_connection(pieces, role, seen, whole=_WHOLE)


MOST_STEPS = 200
_RATES = content.MESSAGES["welcome"][0].streams[0].rates  # type: ignore[union-attr]
HELLO = Hello(
    device="cam", token="t", boot_id="b", sent_ns=1,
    streams=(StreamHello(name="front", model_id=content.MODEL_ID, digest="0" * 64),),
)  # fmt: skip
WELCOME = Welcome(streams=(StreamWelcome(name="front", session="cam/front", rates=_RATES, max_clip_bytes=LIMIT_BYTES),))
SENT_LARGE = envelope.encode(PatchHeader(stream="front", base=0, target=9), bytes(80_000))
"""What the connection under test has under way itself, so that a PartAck means something."""


def _large(message: AnyMessage, payload: bytes) -> Outgoing:
    return Outgoing(envelope.encode(message, payload))


LARGE = (
    _large(PatchHeader(stream="front", base=0, target=3), FILES["patch-rans-keyframe.bin"] + bytes(70_000)),
    _large(PatchHeader(stream="front", base=1, target=2), bytes(range(256)) * 260),
    _large(content.MESSAGES["clip"][0], b"a video" * 12_000),
    Outgoing(envelope.PREFIX.pack(b"AMS", 1, 15) + b'{"type":"song"}' + bytes(70_000)),
    Outgoing(envelope.encode(HELLO, bytes(70_000))),
    Outgoing(b"no envelope at all" * 5_000),
)
"""Messages that travel in parts: three that may, one that nobody knows, one that may not, and one that is none."""

_WHOLE = frozenset(outgoing.data for outgoing in LARGE[:3])


def greeted(role: Role, inbox: Inbox, outbox: Outbox) -> Connection:
    """A connection on which Hello and Welcome have passed."""
    connection = Connection(role, inbox, outbox, now_s=0.0)
    if role is Role.DEVICE:
        connection.send(HELLO)
        connection.data_to_send(0.0)
        connection.receive(envelope.encode(WELCOME), 0.0)
    else:
        connection.receive(envelope.encode(HELLO), 0.0)
        connection.send(WELCOME)
        connection.data_to_send(0.0)
    return connection


def _part(outgoing: Outgoing, index: int) -> tuple[Part, bytes]:
    header = Part(
        transfer=outgoing.transfer, index=index, count=outgoing.count, size=len(outgoing.data), digest=outgoing.digest
    )
    return header, outgoing.data[index * PART_BYTES : (index + 1) * PART_BYTES]


def _altered(header: Part, chunk: bytes, action: int, number: int) -> tuple[Part, bytes]:
    """A part as it is, for most actions, or changed in one respect."""
    fields = header.model_dump()
    match action:
        case 1:
            chunk = chunk[:number]
        case 2:
            chunk = bytes([number]) + chunk[1:]
        case 3:
            chunk += bytes(number)
        case 4:
            fields["size"] = max(1, header.size - number)
        case 5:
            fields["size"] = fields["size"] + number
        case 6:
            fields["count"] = header.count + number
        case 7:
            fields["digest"] = f"{number:064x}"
        case 8:
            fields["transfer"] = f"{number:032x}"
        case 9:
            fields["digest"] = header.digest[:62] + f"{number:02x}"
        case 10:
            fields["transfer"], fields["digest"] = f"{number:032x}", f"{number:032x}" + "0" * 32
        case 11:
            fields["size"], fields["count"] = 1 << (number % 35), max(1, (1 << (number % 35)) // PART_BYTES)
    fields["index"] = min(header.index, fields["count"] - 1)
    return Part.model_validate(fields), chunk


def _check_inbox(inbox: Inbox) -> None:
    assert len(list(inbox)) <= MAX_PARTIAL
    progress = inbox.progress()
    assert len(progress) <= MAX_PARTIAL + MAX_FINISHED
    assert len({item.transfer for item in progress}) == len(progress)


def _check_meaning(patch: Patch, weights: IntVector, seen: Seen) -> None:
    """What was decoded is sound: its positions increase, and encoded again it means the same."""
    positions, values = patch.delta.positions, patch.delta.values
    assert np.all(np.diff(positions) > 0)
    if len(positions):
        assert 0 <= positions[0] <= positions[-1] < content.LAYOUT.size
    assert np.all(values != 0)
    for coder in (GAP_ZSTD, RANS):
        again = Patch.decode(patch.encode(content.LAYOUT, coder=coder), content.LAYOUT)
        assert np.array_equal(again.delta.positions, positions)
        assert np.array_equal(again.delta.values, values)
    result = weights.astype(np.int64)
    result[positions] += values
    if not content.LAYOUT.in_range(result):
        return
    # Whoever can make up a digest as well gets weights on the grid, and only those.
    honest = dataclasses.replace(
        patch, model_id=content.MODEL_ID, digest=content.LAYOUT.digest(result.astype(np.int32))
    )
    applied = honest.apply(weights, content.LAYOUT, model_id=content.MODEL_ID, version=patch.base)
    assert applied.dtype == np.int32
    assert int(np.abs(applied).max()) < LIMIT
    seen["patch sound"] += 1
