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
import re
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

TYPE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""What a message type of any future version looks like; nothing else is worth an answer."""


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
    kind = _type_of(raw)
    if kind not in MESSAGE_TYPES:
        return Unknown(kind), payload
    try:
        # Strict: a number is a number, or two implementations would understand one message differently.
        return message_adapter.validate_json(raw, strict=True), payload
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise EnvelopeError(f"header of {kind}: {place}: {first['msg']}") from error


def _type_of(raw: bytes) -> str:
    """The message type of a header that is sound JSON: UTF-8, one object, no key twice, numbers that are numbers."""
    try:
        fields = _SOUND_JSON.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise EnvelopeError("header is not JSON in UTF-8 with every key once") from error
    kind = fields.get("type") if isinstance(fields, dict) else None
    if not isinstance(kind, str) or not TYPE_PATTERN.fullmatch(kind):
        raise EnvelopeError("header is not a JSON object whose 'type' is a name of lower-case letters, digits and _")
    return kind


def _with_keys_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key comes twice")
    return fields


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_SOUND_JSON = json.JSONDecoder(object_pairs_hook=_with_keys_once, parse_constant=_refuse_constant)
