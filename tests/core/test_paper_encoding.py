"""The paper's encoding, which ours is compared with: it must be itself, not a straw man."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from ams.core.paper_encoding import apply, encode
from ams.errors import CorruptPatchError


def test_masked_weights_arrive_as_float16() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=(2, 1001)).astype(np.float32)
    mask = rng.random(1001) < 0.05
    updated = apply(encode(new, mask), old)
    assert np.array_equal(updated[~mask], old[~mask])
    assert np.array_equal(updated[mask], new[mask].astype(np.float16).astype(np.float32))


def test_its_bytes_are_bitmap_then_values_in_gzip() -> None:
    weights = np.array([1.0, 2.0, 3.0], np.float32)
    data = encode(weights, np.array([True, False, True]))
    assert gzip.decompress(data) == bytes([0b1010_0000]) + np.array([1.0, 3.0], "<f2").tobytes()
    assert data == encode(weights, np.array([True, False, True]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not gzip",
        gzip.compress(b"")[:-3],
        gzip.compress(b"\x00" * 1000)[:-12],
        gzip.compress(b"\xff"),
        gzip.compress(b"\xff" + b"\0" * 16),
        gzip.compress(b"\x80\0\0"),
    ],
)
def test_bytes_that_are_no_update_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptPatchError):
        apply(data, np.zeros(12, np.float32))
