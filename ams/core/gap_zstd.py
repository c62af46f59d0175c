"""Entropy coder 1 of patches: gaps as bytes and values as byte planes, each section one zstd frame.

Sections: one step per tensor (u8); positions as gaps (position minus the one before minus 1, counted over the flat
vector), as bytes of 255 that continue and one smaller byte that ends it; then the quotients, zigzag coded, as one
section per byte plane, lowest first. Simple, and what agents understand that do not announce coder 2. Knows sections;
does not know a patch's header.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import zstandard

from ams.core.layout import Layout
from ams.core.steps import MAX_STEP, SteppedDelta, changes_per_tensor
from ams.errors import CorruptPatchError

SECTION = struct.Struct("<II")
"""Before each section: length of its raw bytes, length of its coded bytes."""

ZSTD_LEVEL = 3
CONTINUES = 255
"""Gap byte that says: 255 more, and the gap goes on."""

MAX_PLANES = 4


def encode(change: SteppedDelta) -> bytes:
    """The sections; the same change always gives the same bytes for one zstd library."""
    gaps = _encode_gaps(change.positions)
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False)
    pieces = []
    for raw in [change.steps.astype(np.uint8).tobytes(), gaps, *_planes(_zigzag(change.quotients))]:
        coded = compressor.compress(raw)
        pieces += [SECTION.pack(len(raw), len(coded)), coded]
    return b"".join(pieces)


def decode(body: bytes, count: int, layout: Layout) -> SteppedDelta:
    """The change of `count` weights that some sections hold. Raises CorruptPatchError."""
    tensors = len(layout.parameters)
    reader = _Sections(body)
    steps = np.frombuffer(reader.next(tensors, tensors), np.uint8)
    if steps.size and int(steps.max()) > MAX_STEP:
        raise CorruptPatchError(f"step 2**{int(steps.max())}, the largest is 2**{MAX_STEP}")
    gaps = np.frombuffer(reader.next(count, count + layout.size // CONTINUES), np.uint8)
    positions = _decode_gaps(gaps, count, layout.size)
    zigzag = np.zeros(count, np.uint32)
    planes = 0
    while not reader.at_end:
        if planes == MAX_PLANES:
            raise CorruptPatchError(f"more than {MAX_PLANES} value planes")
        plane = np.frombuffer(reader.next(count, count), np.uint8)
        zigzag |= plane.astype(np.uint32) << np.uint32(8 * planes)
        planes += 1
    counts = changes_per_tensor(positions, layout)
    return SteppedDelta(positions, counts, steps.astype(np.int64), _unzigzag(zigzag))


class _Sections:
    """Reads sections one after the other, checking lengths before decompressing."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def at_end(self) -> bool:
        return self._offset == len(self._data)

    def next(self, least: int, most: int) -> bytes:
        """The next section, which must have `least` to `most` raw bytes."""
        start = self._offset + SECTION.size
        if start > len(self._data):
            raise CorruptPatchError("patch ends inside a section header")
        raw_bytes, coded_bytes = SECTION.unpack_from(self._data, self._offset)
        if not least <= raw_bytes <= most or start + coded_bytes > len(self._data):
            raise CorruptPatchError(f"section of {raw_bytes} bytes (coded {coded_bytes}), expected {least} to {most}")
        coded = self._data[start : start + coded_bytes]
        self._offset = start + coded_bytes
        try:
            # The frame's own claim is checked first: it, not our limit, decides what zstd allocates.
            if zstandard.frame_content_size(coded) != raw_bytes:
                raise CorruptPatchError("a section's frame claims another length than its header")
            raw = zstandard.ZstdDecompressor().decompress(coded, max_output_size=raw_bytes, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CorruptPatchError("a section is not a zstd frame") from error
        if len(raw) != raw_bytes:
            raise CorruptPatchError(f"a section holds {len(raw)} bytes instead of {raw_bytes}")
        return raw


def _zigzag(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    return ((values << 1) ^ (values >> 63)).astype(np.uint32)


def _unzigzag(zigzag: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    wide = zigzag.astype(np.int64)
    return (wide >> 1) ^ -(wide & 1)


def _planes(zigzag: npt.NDArray[np.uint32]) -> list[bytes]:
    """Byte planes, lowest first, as many as the largest value needs."""
    largest = int(zigzag.max(initial=0))
    count = (largest.bit_length() + 7) // 8
    return [((zigzag >> np.uint32(8 * plane)) & np.uint32(255)).astype(np.uint8).tobytes() for plane in range(count)]


def _encode_gaps(positions: npt.NDArray[np.int64]) -> bytes:
    gaps = np.diff(positions, prepend=-1) - 1
    longer = gaps // CONTINUES
    coded = np.full(len(gaps) + int(longer.sum()), CONTINUES, np.uint8)
    coded[np.cumsum(longer + 1) - 1] = gaps % CONTINUES
    return coded.tobytes()


def _decode_gaps(coded: npt.NDArray[np.uint8], count: int, size: int) -> npt.NDArray[np.int64]:
    """Positions, [count], strictly increasing and below `size` by construction or by refusal."""
    ends = np.flatnonzero(coded != CONTINUES)
    if len(ends) != count or (coded.size and coded[-1] == CONTINUES):
        raise CorruptPatchError(f"{len(ends)} positions, the header says {count}")
    positions = np.cumsum(coded, dtype=np.int64)[ends] + np.arange(count)
    if count and int(positions[-1]) >= size:
        raise CorruptPatchError(f"position {int(positions[-1])} in a vector of {size}")
    return positions
