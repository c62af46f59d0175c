"""Patches: exact round trips, the one way to apply, and nothing but PatchError for damaged bytes.

Invariant 1 (one model, bit for bit): a patch that does not give the promised weights is never taken.
"""

from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ams.core.delta import Delta
from ams.core.gap_zstd import SECTION
from ams.core.patch import GAP_ZSTD, HEADER, RANS, Patch, signed_tuple
from ams.errors import BaseMismatchError, CorruptPatchError, DigestMismatchError, PatchError
from tests.core.students import (
    MODEL_ID,
    OTHER_MODEL_ID,
    PROPERTY,
    changed,
    layout_of,
    layouts,
    random_weights,
    steps_of,
)

LAYOUT = layout_of(40, 700, 3)
CODERS = (GAP_ZSTD, RANS)


def sample(seed: int = 1, *, share: float = 0.1, bits: int = 9) -> tuple[np.ndarray, np.ndarray, Patch]:
    rng = np.random.default_rng(seed)
    before = random_weights(LAYOUT, rng)
    after = changed(before, rng, share=share, bits=bits)
    return before, after, Patch.between(LAYOUT, MODEL_ID, (3, before), (4, after))


@PROPERTY
@given(st.data())
def test_any_change_on_any_layout_survives_its_bytes(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    before, after = data.draw(steps_of(layout))
    patch = Patch.between(layout, MODEL_ID, (7, before), (9, after))
    decoded = Patch.decode(patch.encode(layout, coder=data.draw(st.sampled_from(CODERS))), layout)
    assert (decoded.base, decoded.target, decoded.model_id, decoded.digest) == (7, 9, MODEL_ID, patch.digest)
    assert np.array_equal(decoded.delta.positions, patch.delta.positions)
    assert np.array_equal(decoded.delta.values, patch.delta.values)
    assert np.array_equal(decoded.apply(before, layout, model_id=MODEL_ID, version=7), after)


@pytest.mark.parametrize("coder", CODERS)
def test_the_same_patch_gives_the_same_bytes(coder: int) -> None:
    _, _, patch = sample()
    assert patch.encode(LAYOUT, coder=coder) == patch.encode(LAYOUT, coder=coder)


def test_rans_unless_asked_otherwise() -> None:
    _, _, patch = sample()
    assert patch.encode(LAYOUT)[5] == RANS
    assert patch.encode(LAYOUT, coder=GAP_ZSTD)[5] == GAP_ZSTD
    with pytest.raises(ValueError, match="no entropy coder 3"):
        patch.encode(LAYOUT, coder=3)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("gap", [0, 1, 253, 254, 255, 256, 509, 510, 511, 699])
def test_gaps_around_their_continuation_byte(gap: int, coder: int) -> None:
    before, after = np.zeros(743, np.int32), np.zeros(743, np.int32)
    after[gap] = after[742] = 1
    patch = Patch.between(LAYOUT, MODEL_ID, (0, before), (1, after))
    assert Patch.decode(patch.encode(LAYOUT, coder=coder), LAYOUT).delta.positions.tolist() == [gap, 742]


def test_common_powers_of_two_are_taken_out_per_tensor() -> None:
    before = np.zeros(743, np.int32)
    after = before.copy()
    after[:40:3] = 1 << 20
    coarse = Patch.between(LAYOUT, MODEL_ID, (0, before), (1, after))
    after = after.copy()
    after[:40:3] += 1
    fine = Patch.between(LAYOUT, MODEL_ID, (0, before), (1, after))
    assert len(coarse.encode(LAYOUT)) < len(fine.encode(LAYOUT))  # one byte plane instead of three


def test_the_smallest_step_in_a_tensor_decides() -> None:
    before = np.zeros(743, np.int32)
    after = before.copy()
    after[[0, 1, 740]] = [8, 12, -(1 << 23)]
    data = Patch.between(LAYOUT, MODEL_ID, (0, before), (1, after)).encode(LAYOUT, coder=GAP_ZSTD)
    _, coded_bytes = SECTION.unpack_from(data, HEADER.size)
    start = HEADER.size + SECTION.size
    steps = zstandard.ZstdDecompressor().decompress(data[start : start + coded_bytes])
    assert list(steps) == [2, 0, 23]


@pytest.mark.parametrize("coder", CODERS)
def test_a_patch_that_changes_nothing(coder: int) -> None:
    weights = random_weights(LAYOUT, np.random.default_rng(2))
    patch = Patch.between(LAYOUT, MODEL_ID, (5, weights), (6, weights))
    decoded = Patch.decode(patch.encode(LAYOUT, coder=coder), LAYOUT)
    assert len(decoded.delta) == 0
    assert np.array_equal(decoded.apply(weights, LAYOUT, model_id=MODEL_ID, version=5), weights)


def test_a_keyframe_is_a_patch_from_version_zero() -> None:
    before, after, _ = sample()
    assert Patch.between(LAYOUT, MODEL_ID, (0, before), (4, after)).is_keyframe
    assert not Patch.between(LAYOUT, MODEL_ID, (3, before), (4, after)).is_keyframe


def test_applying_leaves_the_old_weights_as_they_were() -> None:
    before, after, patch = sample()
    kept = before.copy()
    applied = patch.apply(before, LAYOUT, model_id=MODEL_ID, version=3)
    assert np.array_equal(before, kept)
    assert applied.dtype == np.int32
    assert np.array_equal(applied, after)


def test_another_version_or_model_is_refused() -> None:
    before, _, patch = sample()
    with pytest.raises(BaseMismatchError, match=r"starts from version 3.*version 4"):
        patch.apply(before, LAYOUT, model_id=MODEL_ID, version=4)
    with pytest.raises(BaseMismatchError, match="model"):
        patch.apply(before, LAYOUT, model_id=OTHER_MODEL_ID, version=3)


def test_weights_that_differ_in_one_bit_are_found_out() -> None:
    before, _, patch = sample()
    before[-1] ^= 1
    with pytest.raises(DigestMismatchError, match="3 to 4"):
        patch.apply(before, LAYOUT, model_id=MODEL_ID, version=3)


def test_a_weight_may_not_leave_the_grid() -> None:
    weights = np.full(743, 2**24 - 1, np.int32)
    delta = Delta(np.array([5]), np.array([1]))
    patch = Patch(3, 4, MODEL_ID, b"\0" * 32, delta)
    with pytest.raises(CorruptPatchError, match="grid"):
        patch.apply(weights, LAYOUT, model_id=MODEL_ID, version=3)


def test_a_patch_of_another_layout_is_refused() -> None:
    _, _, patch = sample()
    with pytest.raises(CorruptPatchError, match="does not fit"):
        Patch.decode(patch.encode(LAYOUT), layout_of(743))
    patch = Patch(3, 4, MODEL_ID, b"\0" * 32, Delta(np.array([742]), np.array([1])))
    with pytest.raises(CorruptPatchError, match="position 742"):
        patch.apply(np.zeros(500, np.int32), layout_of(500), model_id=MODEL_ID, version=3)


@pytest.mark.parametrize("coder", CODERS)
@PROPERTY
@given(st.data())
def test_damaged_bytes_never_give_wrong_weights(coder: int, data: st.DataObject) -> None:
    before, after, patch = sample(data.draw(st.integers(0, 3)))
    raw = bytearray(patch.encode(LAYOUT, coder=coder))
    for _ in range(data.draw(st.integers(1, 4))):
        if not raw:
            break
        kind = data.draw(st.sampled_from(["flip", "set", "insert", "remove", "cut"]))
        at = data.draw(st.integers(0, len(raw) - 1))
        if kind == "flip":
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "set":
            raw[at] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        elif kind == "remove":
            del raw[at : at + data.draw(st.integers(1, 9))]
        else:
            del raw[at:]
    try:
        decoded = Patch.decode(bytes(raw), LAYOUT)
        applied = decoded.apply(before, LAYOUT, model_id=MODEL_ID, version=3)
    except PatchError:
        return
    assert np.array_equal(applied, after)  # only the number of the target may have changed
    assert decoded.digest == LAYOUT.digest(after)


@pytest.mark.parametrize("coder", CODERS)
@PROPERTY
@given(st.binary(max_size=400))
def test_any_bytes_after_a_sound_header_raise_only_patch_errors(coder: int, tail: bytes) -> None:
    _, _, patch = sample()
    header = patch.encode(LAYOUT, coder=coder)[: HEADER.size]
    with pytest.raises(CorruptPatchError):
        Patch.decode(header + tail, LAYOUT)


def test_the_signed_tuple_is_unambiguous() -> None:
    _, _, patch = sample()
    signed = signed_tuple("cam/front", patch, b"\1" * 32)
    assert signed.startswith(b"ams-patch-v1\0" + struct.pack("<HQQ", 9, 3, 4) + b"cam/front")
    assert signed.endswith(b"\1" * 32)
    assert len(signed) == 13 + 18 + 9 + 32 + 32 + 32
