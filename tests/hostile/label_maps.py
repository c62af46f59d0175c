"""Hostile label maps."""

from __future__ import annotations

import zstandard

from ams.core.label_map import HEADER
from tests.hostile.patches import ROOMY, bomb


def label_maps(
    *, magic: bytes = b"AMSL", count: int = 1, height: int = 4, width: int = 4, coded: bytes | None = None
) -> bytes:
    """Label maps; without arguments sound ones."""
    body = zstandard.ZstdCompressor().compress(bytes(16)) if coded is None else coded
    return HEADER.pack(magic, count, height, width) + body


CASES: dict[str, bytes] = {
    "nothing": b"",
    "half a header": label_maps()[:9],
    "header only": label_maps(coded=b""),
    "another magic": label_maps(magic=b"\x89PNG"),
    "no frames": label_maps(count=0),
    "too many frames": label_maps(count=65),
    "no height": label_maps(height=0),
    "no width": label_maps(width=0),
    "a side that is too long": label_maps(height=4097),
    "the largest sides": label_maps(count=64, height=4096, width=4096),
    "65535 of everything": label_maps(count=65535, height=65535, width=65535),
    "not zstd": label_maps(coded=b"P5 4 4 255"),
    "fewer pixels than promised": label_maps(height=5),
    "more pixels than promised": label_maps(height=3),
    "a frame of 100 MB for sixteen pixels": label_maps(coded=ROOMY),
    "a frame that claims sixteen bytes and holds 100 MB": label_maps(coded=bomb(16, 100_000_000)),
    "a frame that claims a terabyte": label_maps(coded=bomb(1 << 40, 16)),
    "a frame without its size": label_maps(
        coded=zstandard.ZstdCompressor(write_content_size=False).compress(bytes(16))
    ),
    "a cut frame": label_maps()[:-1],
    "extra data": label_maps() + b"extra data",
}
