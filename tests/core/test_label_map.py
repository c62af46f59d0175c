"""Label maps as bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.label_map import HEADER, MAX_FRAMES, decode, encode
from ams.errors import WireError
from tests.core.students import PROPERTY


@PROPERTY
@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.integers(1, 256), st.integers(0, 1 << 30))
def test_any_label_maps_survive(count: int, height: int, width: int, classes: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, (count, height, width)).astype(np.uint8)
    decoded = decode(encode(labels))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, labels)


def test_a_street_is_small() -> None:
    labels = np.zeros((4, 256, 512), np.uint8)
    labels[:, 100:, 50:400] = 3
    labels[:, :90] = 255
    assert len(encode(labels)) < labels.size / 200


@PROPERTY
@given(st.data())
def test_damaged_label_maps_raise_or_keep_their_shape(data: st.DataObject) -> None:
    labels = np.random.default_rng(1).integers(0, 5, (2, 9, 7)).astype(np.uint8)
    raw = bytearray(encode(labels))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(1, len(raw)))]
    try:
        decoded = decode(bytes(raw))
    except WireError:
        return
    assert decoded.shape == HEADER.unpack_from(raw)[1:]


def test_whoever_knows_the_size_can_bound_it() -> None:
    raw = encode(np.zeros((2, 64, 64), np.uint8))
    assert decode(raw, max_pixels=2 * 64 * 64).shape == (2, 64, 64)
    with pytest.raises(WireError, match="the limit is 8191"):
        decode(raw, max_pixels=2 * 64 * 64 - 1)


@pytest.mark.parametrize("shape", [(0, 4, 4), (MAX_FRAMES + 1, 1, 1), (1, 4097, 1), (1, 1, 4097), (64, 4096, 4096)])
def test_what_no_decoder_takes_is_not_encoded(shape: tuple[int, int, int]) -> None:
    labels = np.broadcast_to(np.uint8(0), shape)
    with pytest.raises(WireError):
        encode(labels)
