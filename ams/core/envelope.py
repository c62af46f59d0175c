"""The envelope: one AMS message as bytes. `AMS`, version, header length, header as JSON, payload.

    offset  size  what
    0       3     b"AMS"
    3       1     envelope version, 1
    4       2     H, length of the header in bytes, little-endian
    6       H     header: compact JSON of one message of `ams.core.messages`
    6+H     ...   payload, raw

Knows lengths and limits; does not look into payloads and does not know in which order messages come.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from pydantic import ValidationError

from ams.core.messages import MESSAGE_TYPES, Message, message_adapter
from ams.errors import EnvelopeError

PREFIX = struct.Struct("<3sBH")
MAGIC = b"AMS"
ENVELOPE_VERSION = 1
MAX_FRAME_BYTES = 64 * 1024
"""Largest WebSocket message; what is larger travels in parts."""

MAX_HEADER_BYTES = 16 * 1024


@dataclass(frozen=True)
class Unknown:
    """A well-formed envelope whose message type this code does not know; it is answered and skipped."""

    type: str


def encode(message: Message, payload: bytes = b"") -> bytes:
    """The bytes of a message. The same message and payload always give the same bytes."""
    header = json.dumps(
        message.model_dump(mode="json", exclude_none=True), separators=(",", ":"), ensure_ascii=False
    ).encode()
    if len(header) > MAX_HEADER_BYTES:
        raise EnvelopeError(f"header of {message.type} has {len(header)} bytes, the limit is {MAX_HEADER_BYTES}")
    return PREFIX.pack(MAGIC, ENVELOPE_VERSION, len(header)) + header + payload


def decode(data: bytes, *, limit: int = MAX_FRAME_BYTES) -> tuple[Message | Unknown, bytes]:
    """Message and payload of one envelope. Raises EnvelopeError, which says what is wrong with the bytes."""
    if len(data) > limit:
        raise EnvelopeError(f"message has {len(data)} bytes, the limit is {limit}: send it in parts")
    if len(data) < PREFIX.size:
        raise EnvelopeError(f"message has {len(data)} bytes, an envelope has at least {PREFIX.size}")
    magic, version, header_bytes = PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise EnvelopeError(f"message starts with {magic!r} instead of {MAGIC!r}: the peer does not speak AMS")
    if version != ENVELOPE_VERSION:
        raise EnvelopeError(f"envelope version {version} came, this code knows {ENVELOPE_VERSION}")
    if header_bytes > MAX_HEADER_BYTES or PREFIX.size + header_bytes > len(data):
        raise EnvelopeError(f"header claims {header_bytes} bytes in a message of {len(data)}")
    raw = data[PREFIX.size : PREFIX.size + header_bytes]
    payload = data[PREFIX.size + header_bytes :]
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("header is not JSON") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise EnvelopeError("header is not a JSON object with a string 'type'")
    if fields["type"] not in MESSAGE_TYPES:
        return Unknown(fields["type"][:64]), payload
    try:
        return message_adapter.validate_python(fields), payload
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise EnvelopeError(f"header of {fields['type']}: {place}: {first['msg']}") from error
