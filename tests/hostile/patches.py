"""Hostile patches for a student of 1,000 weights in two tensors: each differs from a sound one in one respect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import zstandard

from ams.core.gap_zstd import SECTION
from ams.core.layout import Layout
from ams.core.patch import HEADER
from tests.core.students import MODEL_ID, OTHER_MODEL_ID, layout_of

LAYOUT: Layout = layout_of(600, 400)
SIZE = 1000
START = np.zeros(SIZE, np.int32)
RESULT = START.copy()
RESULT[[1, 2]] = [1, -1]

STEPS, GAPS, PLANE = b"\0\0", b"\x01\x00", b"\x02\x01"
"""A sound patch: weight 1 grows by one, weight 2 shrinks by one."""


def section(raw: bytes, *, raw_bytes: int | None = None, coded: bytes | None = None, claim: int = 0) -> bytes:
    """One section; its claims may differ from what it holds."""
    body = zstandard.ZstdCompressor().compress(raw) if coded is None else coded
    return SECTION.pack(len(raw) if raw_bytes is None else raw_bytes, len(body) + claim) + body


def patch(
    *,
    magic: bytes = b"AMSP",
    form: int = 1,
    coder: int = 1,
    signature: int = 0,
    base: int = 3,
    target: int = 4,
    model: str = MODEL_ID,
    digest: bytes | None = None,
    key: int = 0,
    tensors: int = 2,
    count: int = 2,
    sections: Sequence[bytes] | None = None,
    tail: bytes = b"",
) -> bytes:
    """A patch; without arguments a sound one."""
    promised = LAYOUT.digest(RESULT) if digest is None else digest
    header = HEADER.pack(
        magic, form, coder, signature, base, target, bytes.fromhex(model), promised, key, tensors, count
    )
    body = [section(STEPS), section(GAPS), section(PLANE)] if sections is None else list(sections)
    return header + b"".join(body) + tail


def bomb(claimed: int, held: int) -> bytes:
    """A zstd frame of `held` zeros whose header claims `claimed` bytes."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(held))
    # Descriptor: single segment, 8 byte content size; then magic | descriptor | size | the blocks of the real frame.
    blocks = frame[6:]
    return frame[:4] + bytes([0b1110_0000]) + claimed.to_bytes(8, "little") + blocks


HUGE = (1 << 32) - 1
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00junk"
ROOMY = zstandard.ZstdCompressor().compress(bytes(100_000_000))
"""A sound frame of 9 KB that really holds 100 MB."""

CORRUPT: dict[str, bytes] = {
    "nothing": b"",
    "half a header": patch()[: HEADER.size - 1],
    "header only": patch()[: HEADER.size],
    "another magic": patch(magic=b"PK\x03\x04"),
    "another format": patch(form=2),
    "another coder": patch(coder=7),
    "a signature that is not there": patch(signature=64),
    "a key": patch(key=1),
    "target equal to base": patch(base=4, target=4),
    "target below base": patch(base=5, target=4),
    "a version beyond the last": patch(target=1 << 48),
    "the largest version": patch(base=(1 << 64) - 2, target=(1 << 64) - 1),
    "too few tensors": patch(tensors=1),
    "four billion tensors": patch(tensors=HUGE),
    "four billion weights": patch(count=HUGE),
    "one weight too many": patch(count=SIZE + 1),
    "more weights than positions": patch(count=3),
    "fewer weights than positions": patch(count=1),
    "a section that ends in its header": patch(tail=b"\x02\x00\x00"),
    "a section beyond the end": patch(sections=[section(STEPS), section(GAPS, claim=1000)]),
    "a section of four billion bytes": patch(sections=[section(STEPS, raw_bytes=HUGE)]),
    "a coded length of four billion": patch(sections=[section(STEPS, claim=HUGE - 100)]),
    "not zstd": patch(sections=[section(STEPS, coded=b"\x01\x02\x03\x04\x05\x06\x07\x08")]),
    "an empty frame": patch(sections=[section(STEPS, coded=b"")]),
    "a skippable frame": patch(sections=[section(STEPS, coded=SKIPPABLE)]),
    "a frame without its size": patch(
        sections=[section(STEPS, coded=zstandard.ZstdCompressor(write_content_size=False).compress(STEPS))]
    ),
    "a frame that claims a terabyte": patch(sections=[section(STEPS, coded=bomb(1 << 40, 2))]),
    "a frame that claims the right size and holds 100 MB": patch(sections=[section(STEPS, coded=bomb(2, 100_000_000))]),
    "a frame that claims its 100 MB": patch(sections=[section(STEPS), section(GAPS, coded=ROOMY)]),
    "a section that claims its 100 MB": patch(
        sections=[section(STEPS), section(GAPS, raw_bytes=100_000_000, coded=ROOMY)]
    ),
    "a cut frame": patch(sections=[section(STEPS, coded=zstandard.ZstdCompressor().compress(STEPS)[:-1])]),
    "two frames in one section": patch(
        sections=[section(STEPS), section(GAPS), section(PLANE, coded=zstandard.ZstdCompressor().compress(PLANE) * 2)]
    ),
    "extra data after the planes": patch(tail=b"extra data"),
    "a step that is too large": patch(sections=[section(b"\0\xff"), section(GAPS), section(PLANE)]),
    "more steps than tensors": patch(sections=[section(b"\0\0\0"), section(GAPS), section(PLANE)]),
    "fewer steps than tensors": patch(sections=[section(b"\0"), section(GAPS), section(PLANE)]),
    "a position beyond the vector": patch(sections=[section(STEPS), section(b"\xff\xff\xff\xfe\xfe"), section(PLANE)]),
    "more continuations than the vector is long": patch(
        sections=[section(STEPS), section(b"\xff" * 2000 + GAPS), section(PLANE)]
    ),
    "a gap that does not end": patch(sections=[section(STEPS), section(b"\x01\x00\xff"), section(PLANE)]),
    "a plane that is too short": patch(sections=[section(STEPS), section(GAPS), section(b"\x02")]),
    "a plane that is too long": patch(sections=[section(STEPS), section(GAPS), section(b"\x02\x01\x01")]),
    "five planes": patch(sections=[section(STEPS), section(GAPS), *[section(PLANE)] * 5]),
    "a thousand planes": patch(sections=[section(STEPS), section(GAPS), *[section(PLANE)] * 1000]),
    "no plane, so all values are zero": patch(sections=[section(STEPS), section(GAPS)]),
    "a zero among the values": patch(sections=[section(STEPS), section(GAPS), section(b"\x02\x00")]),
    "a value beyond the grid": patch(sections=[section(STEPS), section(GAPS), *[section(b"\xff\xff")] * 4]),
    "a value beyond the grid by its step": patch(sections=[section(b"\x18\x18"), section(GAPS), section(b"\xff\xff")]),
}

WRONG_MODEL = patch(model=OTHER_MODEL_ID)
WRONG_BASE = patch(base=2)
WRONG_DIGEST = patch(digest=bytes(32))
OTHER_VALUES = patch(sections=[section(STEPS), section(GAPS), section(b"\x02\x03")])
