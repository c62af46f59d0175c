"""The paper's encoding of an update, as the figure that ours is compared with.

As the authors' released code writes it: a packed bitmap over every trainable weight, then the new values (not
differences) of the updated ones as float16, all through gzip -9 (paper section 3.1.2). Not used on the wire.
"""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import numpy.typing as npt

from ams.core.layout import FloatVector
from ams.errors import CorruptPatchError


def encode(weights: FloatVector, mask: npt.NDArray[np.bool_]) -> bytes:
    """The update that sets `weights[mask]`, [P] and [P], as bytes."""
    return gzip.compress(np.packbits(mask).tobytes() + weights[mask].astype("<f2").tobytes(), compresslevel=9, mtime=0)


def apply(data: bytes, weights: FloatVector) -> FloatVector:
    """The weights after an update; what float16 loses is lost here, which is why the paper's server drifts.

    Raises CorruptPatchError for bytes that are no update of as many weights.
    """
    try:
        raw = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptPatchError("the update is not a gzip file") from error
    bitmap_bytes = (len(weights) + 7) // 8
    if len(raw) < bitmap_bytes:
        raise CorruptPatchError(f"expected at least {bitmap_bytes} bytes for {len(weights)} weights, got {len(raw)}")
    mask = np.unpackbits(np.frombuffer(raw, np.uint8, bitmap_bytes), count=len(weights)).astype(bool)
    value_bytes = len(raw) - bitmap_bytes
    if value_bytes != 2 * int(mask.sum()):
        raise CorruptPatchError(f"{value_bytes} bytes of float16 values for {int(mask.sum())} set bits")
    updated = weights.copy()
    updated[mask] = np.frombuffer(raw, "<f2", offset=bitmap_bytes)
    return updated
