"""The envelope: bytes in, message out, or an EnvelopeError that says why. Hostile bytes: `test_hostile.py`."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.envelope import MAX_FRAME_BYTES, MAX_HEADER_BYTES, Unknown, decode, encode
from ams.core.messages import Error, Hello, Notice, Ping, Rates, StreamHello
from ams.errors import EnvelopeError
from tests.core.students import PROPERTY


def raw(header: bytes | dict[str, Any], payload: bytes = b"") -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<3sBH", b"AMS", 1, len(data)) + data + payload


@PROPERTY
@given(st.text(max_size=60), st.binary(max_size=300))
def test_any_text_and_any_payload_survive(text: str, payload: bytes) -> None:
    notice = Notice(code="note", text=text)
    data = encode(notice, payload)
    assert decode(data) == (notice, payload)
    assert data == encode(notice, payload)


def test_the_header_is_compact_and_leaves_out_what_is_not_said() -> None:
    data = encode(Notice(code="note", text="ä"), b"P")
    assert data == b'AMS\x01\x2b\x00{"type":"notice","code":"note","text":"\xc3\xa4"}P'


def test_fields_of_a_newer_peer_are_ignored() -> None:
    assert decode(raw({"type": "ping", "mood": {"good": [1, 2]}}))[0] == Ping()


def test_an_unknown_message_is_named_not_refused() -> None:
    assert decode(raw({"type": "song", "text": "la"}, b"xyz")) == (Unknown("song"), b"xyz")


def test_integers_are_fine_where_numbers_are_asked_for() -> None:
    fields = {"type": "rates", "stream": "a", "sampling_hz": 1, "clip_interval_s": 10, "uplink_kbps": 200}
    assert decode(raw(fields))[0] == Rates(stream="a", sampling_hz=1.0, clip_interval_s=10.0, uplink_kbps=200.0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at least 6"),
        (b"AMS\x01", "at least 6"),
        (b"GET / HTTP/1.1", "does not speak AMS"),
        (b"AMS\x02\x00\x00", "version 2"),
        (b"AMS\x01\x05\x00{}", "claims 5 bytes in a message of 8"),
        (bytes(MAX_FRAME_BYTES + 1), "send it in parts"),
        (raw({"type": "error", "code": "x"}), "error.text: Field required"),
        (raw({"type": "error", "code": "x", "text": 5}), "error.text"),
    ],
)
def test_the_error_says_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(EnvelopeError, match=message):
        decode(data)


def test_a_message_of_exactly_the_limit_passes_and_a_larger_limit_can_be_given() -> None:
    data = encode(Ping(), bytes(MAX_FRAME_BYTES - len(encode(Ping()))))
    assert len(data) == MAX_FRAME_BYTES
    decode(data)
    with pytest.raises(EnvelopeError):
        decode(data + b"x")
    decode(data + b"x", limit=MAX_FRAME_BYTES + 1)


def test_a_header_over_its_limit_is_not_sent() -> None:
    stream = StreamHello(name="s", model_id="0" * 64, digest="0" * 64, codecs=("c" * 64,) * 8)
    hello = Hello(
        device="d",
        agent="\N{VIDEO CAMERA}" * 500,
        token="\N{KEY}" * 200,
        boot_id="b",
        sent_ns=0,
        features=tuple("f" * 64 for _ in range(32)),
        streams=tuple(stream.model_copy(update={"name": f"{i:x<64}"}) for i in range(16)),
    )
    with pytest.raises(EnvelopeError, match=str(MAX_HEADER_BYTES)):
        encode(hello)


@PROPERTY
@given(st.binary(max_size=300))
def test_any_bytes_give_a_message_or_an_envelope_error(data: bytes) -> None:
    for candidate in (data, raw(data)):
        try:
            decode(candidate)
        except EnvelopeError as error:
            Error(code="malformed", text=str(error)[:500])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
TYPES = ("hello", "welcome", "clip", "patch", "rates", "ack", "nack", "refused", "stats", "notice", "part", "part_ack")


@PROPERTY
@given(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(["stream", "frames", "text", "size"]), JSON))
def test_any_json_gives_a_message_or_an_envelope_error(kind: str, fields: dict[str, Any]) -> None:
    try:
        message, _ = decode(raw({**fields, "type": kind}))
    except EnvelopeError:
        return
    assert not isinstance(message, Unknown)
    assert decode(encode(message))[0] == message
