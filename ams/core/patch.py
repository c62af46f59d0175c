"""A patch: the bytes that lead a student from one version to another, and the one way to apply them.

All integers little-endian.

    offset  size  what
    0       4     b"AMSP"
    4       1     format, 1
    5       1     entropy coder, 1 = gap bytes + zstd
    6       2     S, length of the signature, 0 (reserved; 64 once patches are signed)
    8       8     base version; 0 is the model file, and a patch with base 0 is a keyframe
    16      8     target version, larger than base
    24      32    model_id
    56      32    digest of the weights after applying (`Layout.digest`)
    88      8     key id, 0 (reserved)
    96      4     T, number of tensors of the layout
    100     4     N, number of changed weights
    104     S     signature
    104+S   ...   sections, each: raw length u32, coded length u32, one zstd frame of the raw bytes

Sections: one step per tensor (u8: changes of this tensor are multiples of 2**step); positions as gaps, each gap
(position minus the one before minus 1, counted over the flat vector) as bytes of 255 that continue and one
smaller byte that ends it; then the values divided by their step, zigzag coded, as one section per byte plane,
lowest first.

The decoder checks every length, count and range before it allocates or writes. Knows nothing of sessions or of
who may publish.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zstandard

from ams.core.delta import Delta
from ams.core.grid import LIMIT
from ams.core.layout import IntVector, Layout
from ams.errors import BaseMismatchError, CorruptPatchError, DigestMismatchError

HEADER = struct.Struct("<4sBBHQQ32s32sQII")
SECTION = struct.Struct("<II")
MAGIC = b"AMSP"
FORMAT = 1
GAP_ZSTD = 1
ZSTD_LEVEL = 3
CONTINUES = 255
"""Gap byte that says: 255 more, and the gap goes on."""

VERSION_LIMIT = 1 << 48
"""Exclusive bound of version numbers, as in the messages of the wire."""

MAX_STEP = 24
MAX_PLANES = 4
SIGNATURE_DOMAIN = b"ams-patch-v1\0"


@dataclass(frozen=True)
class Patch:
    """From version `base` to version `target` of `model_id` (hex); `digest` (32 bytes) is of the result."""

    base: int
    target: int
    model_id: str
    digest: bytes
    delta: Delta

    @property
    def is_keyframe(self) -> bool:
        """True when it applies to the model file itself, whatever the device runs."""
        return self.base == 0

    @classmethod
    def between(
        cls, layout: Layout, model_id: str, base: tuple[int, IntVector], target: tuple[int, IntVector]
    ) -> Patch:
        """The patch from one (version, weights) to another."""
        delta = Delta.between(base[1], target[1])
        return cls(base[0], target[0], model_id, layout.digest(target[1]), delta)

    def encode(self, layout: Layout) -> bytes:
        """The patch as bytes; the same patch always gives the same bytes for one zstd library."""
        steps, values = _divide_by_steps(self.delta, layout)
        sections = [steps.tobytes(), _encode_gaps(self.delta.positions), *_planes(_zigzag(values))]
        header = HEADER.pack(
            MAGIC, FORMAT, GAP_ZSTD, 0, self.base, self.target, bytes.fromhex(self.model_id), self.digest, 0,
            len(layout.parameters), len(self.delta),
        )  # fmt: skip
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False)
        pieces = [header]
        for raw in sections:
            coded = compressor.compress(raw)
            pieces += [SECTION.pack(len(raw), len(coded)), coded]
        return b"".join(pieces)

    @classmethod
    def decode(cls, data: bytes, layout: Layout) -> Patch:
        """The patch that some bytes hold. Raises CorruptPatchError before anything is written anywhere."""
        if len(data) < HEADER.size:
            raise CorruptPatchError(f"a patch has at least {HEADER.size} bytes, got {len(data)}")
        magic, form, coder, signature_bytes, base, target, model, digest, key_id, tensors, count = HEADER.unpack_from(
            data
        )
        if magic != MAGIC or form != FORMAT or coder != GAP_ZSTD:
            wanted = f"{MAGIC!r} format {FORMAT} coder {GAP_ZSTD}"
            raise CorruptPatchError(f"expected {wanted}, got {magic!r} format {form} coder {coder}")
        if signature_bytes or key_id:
            raise CorruptPatchError("signed patches are not known to this version: update the agent")
        if target <= base:
            raise CorruptPatchError(f"target version {target} must be larger than base version {base}")
        if target >= VERSION_LIMIT:
            raise CorruptPatchError(f"target version {target} is beyond the last one, {VERSION_LIMIT - 1}")
        if tensors != len(layout.parameters) or count > layout.size:
            raise CorruptPatchError(
                f"patch of {count} weights in {tensors} tensors does not fit a student of {layout.size} weights "
                f"in {len(layout.parameters)} tensors"
            )
        reader = _Sections(data, HEADER.size)
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
        values = _unzigzag(zigzag) << _steps_at(positions, steps, layout)
        if np.any(values == 0) or np.any(np.abs(values) >= 2 * LIMIT):
            raise CorruptPatchError("a value is zero or beyond the grid")
        return cls(base, target, model.hex(), digest, Delta(positions, values))

    def apply(self, weights: IntVector, layout: Layout, *, model_id: str, version: int) -> IntVector:
        """The weights after this patch; `weights` stays as it is.

        `weights` must be those of `version`, and `version` this patch's base. Raises BaseMismatchError for
        another base or model, CorruptPatchError when a weight leaves the grid, DigestMismatchError when the result
        is not what the patch promises.
        """
        if self.model_id != model_id:
            raise BaseMismatchError(f"patch is for model {self.model_id[:12]}, this is model {model_id[:12]}")
        if self.base != version:
            raise BaseMismatchError(f"patch starts from version {self.base}, the weights at hand are version {version}")
        if len(self.delta) and int(self.delta.positions[-1]) >= layout.size:
            raise CorruptPatchError(f"position {int(self.delta.positions[-1])} in a vector of {layout.size}")
        result = self.delta.added_to(weights)
        if not layout.in_range(result):
            raise CorruptPatchError("a weight leaves the grid")
        patched = result.astype(np.int32)
        if layout.digest(patched) != self.digest:
            raise DigestMismatchError(f"applying patch {self.base} to {self.target} gives other weights than promised")
        return patched


def signed_tuple(session: str, patch: Patch, payload_hash: bytes) -> bytes:
    """What a signature will cover: domain, session, base, target, model_id, digest, SHA-256 of the payload."""
    name = session.encode()
    fixed = struct.pack("<HQQ", len(name), patch.base, patch.target)
    return SIGNATURE_DOMAIN + fixed + name + bytes.fromhex(patch.model_id) + patch.digest + payload_hash


class _Sections:
    """Reads the sections of a patch one after the other, checking lengths before decompressing."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self._offset = offset

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


def _steps_at(positions: npt.NDArray[np.int64], steps: npt.NDArray[np.uint8], layout: Layout) -> npt.NDArray[np.int64]:
    """The step exponent at every position, [N]."""
    tensor = np.searchsorted(layout.starts, positions, side="right") - 1
    return steps[tensor].astype(np.int64)


def _divide_by_steps(delta: Delta, layout: Layout) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Per tensor the largest power of two that divides all its changes, [T], and the quotients, [N]."""
    steps = np.zeros(len(layout.parameters), np.uint8)
    if not len(delta):
        return steps, delta.values
    tensor = np.searchsorted(layout.starts, delta.positions, side="right") - 1
    first = np.flatnonzero(np.diff(tensor, prepend=-1))
    bits = np.bitwise_or.reduceat(np.abs(delta.values), first)  # the lowest set bit of the union divides all
    steps[tensor[first]] = np.log2(bits & -bits).astype(np.uint8)
    return steps, delta.values >> steps[tensor].astype(np.int64)


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
