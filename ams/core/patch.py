"""A patch: the bytes that lead a student from one version to another, and the one way to apply them.

All integers little-endian.

    offset  size  what
    0       4     b"AMSP"
    4       1     format, 1
    5       1     entropy coder, 1 = gap bytes + zstd (`gap_zstd`), 2 = rANS (`rans_body`)
    6       2     S, length of the signature, 0 (reserved; 64 once patches are signed)
    8       8     base version; 0 is the model file, and a patch with base 0 is a keyframe
    16      8     target version, larger than base
    24      32    model_id
    56      32    digest of the weights after applying (`Layout.digest`)
    88      8     key id, 0 (reserved)
    96      4     T, number of tensors of the layout
    100     4     N, number of changed weights
    104     S     signature
    104+S   ...   body, as the coder has it

The decoder checks every length, count and range before it allocates or writes. Knows nothing of sessions or of
who may publish.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from ams.core import gap_zstd, rans_body
from ams.core.delta import Delta
from ams.core.grid import LIMIT
from ams.core.layout import IntVector, Layout
from ams.core.steps import MAX_STEP as MAX_STEP
from ams.core.steps import SteppedDelta
from ams.errors import BaseMismatchError, CorruptPatchError, DigestMismatchError

HEADER = struct.Struct("<4sBBHQQ32s32sQII")
MAGIC = b"AMSP"
CODER_OFFSET = 5
"""Where a patch says its entropy coder, for who asks no more of it."""

FORMAT = 1
GAP_ZSTD = 1
RANS = 2
FEATURE_RANS = "rans"
"""What a device announces in `features` that takes patches of coder `RANS`; all take `GAP_ZSTD`."""

VERSION_LIMIT = 1 << 48
"""Exclusive bound of version numbers, as in the messages of the wire."""

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

    def encode(self, layout: Layout, *, coder: int = RANS) -> bytes:
        """The patch as bytes, for a device that knows `coder`.

        The same patch always gives the same bytes: with `GAP_ZSTD` for one zstd library, with `RANS` anywhere.
        """
        header = HEADER.pack(
            MAGIC, FORMAT, coder, 0, self.base, self.target, bytes.fromhex(self.model_id), self.digest, 0,
            len(layout.parameters), len(self.delta),
        )  # fmt: skip
        change = SteppedDelta.of(self.delta, layout)
        if coder == RANS:
            return header + rans_body.encode_body(change, layout)
        if coder == GAP_ZSTD:
            return header + gap_zstd.encode(change)
        raise ValueError(f"no entropy coder {coder}; there are {GAP_ZSTD} and {RANS}")

    @classmethod
    def decode(cls, data: bytes, layout: Layout) -> Patch:
        """The patch that some bytes hold. Raises CorruptPatchError before anything is written anywhere."""
        if len(data) < HEADER.size:
            raise CorruptPatchError(f"a patch has at least {HEADER.size} bytes, got {len(data)}")
        magic, form, coder, signature_bytes, base, target, model, digest, key_id, tensors, count = HEADER.unpack_from(
            data
        )
        if magic != MAGIC or form != FORMAT or coder not in (GAP_ZSTD, RANS):
            wanted = f"{MAGIC!r} format {FORMAT} coder {GAP_ZSTD} or {RANS}"
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
        body = data[HEADER.size :]
        decode_body = rans_body.decode_body if coder == RANS else gap_zstd.decode
        return cls(base, target, model.hex(), digest, decode_body(body, count, layout).delta())

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
        changed = weights[self.delta.positions] + self.delta.values
        if np.any(np.abs(changed) >= LIMIT):
            raise CorruptPatchError("a weight leaves the grid")
        patched = weights.astype(np.int32)
        patched[self.delta.positions] = changed
        if layout.digest(patched) != self.digest:
            raise DigestMismatchError(f"applying patch {self.base} to {self.target} gives other weights than promised")
        return patched


def signed_tuple(session: str, patch: Patch, payload_hash: bytes) -> bytes:
    """What a signature will cover: domain, session, base, target, model_id, digest, SHA-256 of the payload."""
    name = session.encode()
    fixed = struct.pack("<HQQ", len(name), patch.base, patch.target)
    return SIGNATURE_DOMAIN + fixed + name + bytes.fromhex(patch.model_id) + patch.digest + payload_hash
