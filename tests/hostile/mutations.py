"""Random changes of sound bytes, from a seed: what a broken link, a broken peer or an impatient attacker would send.

Knows where envelopes and patches have their lengths, so that not every change ends at the first check.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

import zstandard

from ams.core import envelope
from ams.core.gap_zstd import SECTION
from ams.core.patch import CODER_OFFSET, GAP_ZSTD, HEADER
from ams.core.patch import MAGIC as PATCH_MAGIC
from tests.hostile.patches import section

MOST_CHANGES = 3
MOST_BYTES = 200_000
"""What splicing and doubling may make of a file."""

EXTREMES = (0, 1, 2, 127, 128, 255, 256, (1 << 15) - 1, 1 << 15, (1 << 16) - 1, 1 << 16, (1 << 31) - 1, 1 << 31,
            (1 << 32) - 1, 1 << 32, (1 << 48) - 1, 1 << 48, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
"""Numbers at which something may turn over."""

LENGTHS = {2: "<H", 4: "<I", 8: "<Q"}
PATCH_FIELDS = ((6, 2), (8, 8), (16, 8), (88, 8), (96, 4), (100, 4), (104, 4), (108, 4))
"""Offset and size of the numbers in a patch's header, and of the first ones behind it."""

NUMBER = re.compile(rb"-?\d+(\.\d+)?")
TEXT = re.compile(rb'"[^"]*"')
JSON_VALUES = (
    *(b"-1", b"0", b"1e999", b"0.5", b"null", b"true", b"[]", b"{}", b'""', b'"\\u0000"', b"9" * 20, b"9" * 400),
    *(str(1 << bits).encode() for bits in (48, 63, 64)),
    b"1" * 5_000,
)


Change = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def mutated(rng: random.Random, files: Sequence[bytes]) -> bytes:
    """One of some files, with one change or a few."""
    data = rng.choice(files)
    for _ in range(rng.randint(1, MOST_CHANGES)):
        data = rng.choice(CHANGES)(rng, data, files)[:MOST_BYTES]
    return data


def _flip_bits(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _change_bytes(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    new = rng.randbytes(rng.choice((1, 1, 2, 4, 32)))
    return data[:at] + new + data[at + len(new) :]


def _truncate(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _remove(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    begin, end = _slice(rng, data)
    return data[:begin] + data[end:]


def _duplicate(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    begin, end = _slice(rng, data)
    return data[:end] + data[begin:end] * rng.choice((1, 1, 2, 100)) + data[end:]


def _insert(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    new = rng.choice((bytes, rng.randbytes))(rng.choice((1, 4, 16, 300)))
    return data[:at] + new + data[at:]


def _splice(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    other = rng.choice(files)
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


def _overwrite_number(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """An extreme number anywhere, of 2, 4 or 8 bytes."""
    width = rng.choice(tuple(LENGTHS))
    return _with_number(data, rng.randint(0, max(0, len(data) - width)), width, rng.choice(EXTREMES))


def _overwrite_field(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """An extreme number where there is a number."""
    if data[:4] == PATCH_MAGIC:
        at, width = rng.choice(PATCH_FIELDS)
    else:
        at, width = 4, 2
    return _with_number(data, at, width, rng.choice(EXTREMES))


def _change_header(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """Another value in the header of an envelope, whose length stays right."""
    if data[:3] != envelope.MAGIC or len(data) < envelope.PREFIX.size:
        return data
    end = envelope.PREFIX.size + int.from_bytes(data[4:6], "little")
    header = data[envelope.PREFIX.size : end]
    found = [match.span() for pattern in (NUMBER, TEXT) for match in pattern.finditer(header)]
    if not found:
        return data
    begin, stop = rng.choice(found)
    value = rng.choice((*JSON_VALUES, header[begin:stop] * 2, header[begin : stop - 1]))
    header = header[:begin] + value + header[stop:]
    return envelope.PREFIX.pack(envelope.MAGIC, 1, len(header) & 0xFFFF) + header + data[end:]


def _change_section(rng: random.Random, data: bytes, files: Sequence[bytes]) -> bytes:
    """Other content in a section of a patch, whose frame and lengths stay right."""
    if data[:4] != PATCH_MAGIC or len(data) < HEADER.size or data[CODER_OFFSET] != GAP_ZSTD:
        return data
    places, at = [], HEADER.size
    while at + SECTION.size <= len(data):
        places.append(at)
        at += SECTION.size + SECTION.unpack_from(data, at)[1]
    if not places:
        return data
    at = rng.choice(places)
    _, coded_bytes = SECTION.unpack_from(data, at)
    begin, end = at + SECTION.size, at + SECTION.size + coded_bytes
    try:
        raw = zstandard.ZstdDecompressor().decompress(data[begin:end], max_output_size=1 << 16)
    except zstandard.ZstdError:
        return data
    return data[:at] + section(rng.choice((_flip_bits, _change_bytes, _remove))(rng, raw, files)) + data[end:]


def _slice(rng: random.Random, data: bytes) -> tuple[int, int]:
    begin, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    return begin, end


def _with_number(data: bytes, at: int, width: int, number: int) -> bytes:
    new = struct.pack(LENGTHS[width], number & ((1 << (8 * width)) - 1))
    return data[:at] + new + data[at + width :]


CHANGES: tuple[Change, ...] = (
    _flip_bits, _flip_bits, _change_bytes, _truncate, _remove, _duplicate, _insert, _splice, _overwrite_number,
    _overwrite_field, _change_header, _change_header, _change_section, _change_section,
)  # fmt: skip
