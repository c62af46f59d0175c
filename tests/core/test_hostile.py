"""Hostile bytes (tests/hostile): the right error, soon, and without allocating what they claim (invariants 6, 7)."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from ams.core import envelope, label_map
from ams.core.messages import Error, Part
from ams.core.patch import Patch
from ams.core.transfer import PART_BYTES, Inbox
from ams.errors import (
    AmsError,
    BaseMismatchError,
    CorruptPatchError,
    DigestMismatchError,
    EnvelopeError,
    TransferError,
    WireError,
)
from tests.core.students import MODEL_ID
from tests.hostile import envelopes, label_maps, patches, rans_patches

MAX_ALLOCATED_BYTES = 2 * 1024 * 1024
MAX_SECONDS = 0.5


@contextmanager
def cheaply() -> Iterator[None]:
    """Fails when what happens inside takes long or much memory."""
    tracemalloc.start()
    began_s = time.perf_counter()
    try:
        yield
        took_s = time.perf_counter() - began_s
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MAX_ALLOCATED_BYTES
    assert took_s < MAX_SECONDS


def test_the_sound_ones_pass() -> None:
    """Or the cases below would prove nothing."""
    for data in (patches.patch(), rans_patches.SOUND):
        decoded = Patch.decode(data, patches.LAYOUT)
        applied = decoded.apply(patches.START, patches.LAYOUT, model_id=MODEL_ID, version=3)
        assert np.array_equal(applied, patches.RESULT)
    assert label_map.decode(label_maps.label_maps()).shape == (1, 4, 4)
    for fields in (envelopes.PART, envelopes.STATS, envelopes.CLIP):
        message, _ = envelope.decode(envelopes.envelope(fields))
        assert not isinstance(message, envelope.Unknown)


def test_tracemalloc_sees_what_zstd_gives_back() -> None:
    """The bombs below are measured: a decoder that unpacks one is seen."""
    with pytest.raises(AssertionError), cheaply():
        label_map.decode(label_map.encode(np.zeros((2, 2048, 2048), np.uint8)))


CORRUPT = patches.CORRUPT | {f"rans: {name}": data for name, data in rans_patches.CORRUPT.items()}


@pytest.mark.parametrize("name", sorted(CORRUPT))
def test_hostile_patches(name: str) -> None:
    with cheaply(), pytest.raises(CorruptPatchError) as raised:
        Patch.decode(CORRUPT[name], patches.LAYOUT)
    assert raised.value.reason == "corrupt"
    assert len(str(raised.value)) <= 300


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (patches.WRONG_MODEL, BaseMismatchError),
        (patches.WRONG_BASE, BaseMismatchError),
        (patches.WRONG_DIGEST, DigestMismatchError),
        (patches.OTHER_VALUES, DigestMismatchError),
    ],
)
def test_patches_that_are_sound_and_wrong(data: bytes, expected: type[AmsError]) -> None:
    decoded = Patch.decode(data, patches.LAYOUT)
    with pytest.raises(expected):
        decoded.apply(patches.START, patches.LAYOUT, model_id=MODEL_ID, version=3)
    assert not patches.START.any()


@pytest.mark.parametrize("name", sorted(envelopes.CASES))
def test_hostile_envelopes(name: str) -> None:
    with cheaply(), pytest.raises(EnvelopeError) as raised:
        envelope.decode(envelopes.CASES[name])
    Error(code="malformed", text=str(raised.value))  # what is wrong can be said on the wire


@pytest.mark.parametrize("name", sorted(label_maps.CASES))
def test_hostile_label_maps(name: str) -> None:
    with cheaply(), pytest.raises(WireError):
        label_map.decode(label_maps.CASES[name])


def test_a_small_label_map_that_really_is_large_is_stopped_by_who_knows_its_size() -> None:
    data = label_map.encode(np.zeros((16, 2048, 2048), np.uint8))
    assert len(data) < 10_000
    with cheaply(), pytest.raises(WireError, match="the limit is 131072"):
        label_map.decode(data, max_pixels=256 * 512)


SOUND = {"transfer": "a" * 32, "index": 0, "count": 3, "size": 3 * PART_BYTES, "digest": "a" * 64}


@pytest.mark.parametrize(
    ("changes", "chunk_bytes"),
    [
        ({"size": 1 << 34, "count": 1 << 20}, PART_BYTES),
        ({"size": (1 << 20) + 1, "count": 65}, PART_BYTES),
        ({"count": 1}, PART_BYTES),
        ({"count": 1 << 20}, PART_BYTES),
        ({"size": 1}, PART_BYTES),
        ({"transfer": "b" * 32}, PART_BYTES),
        ({}, 0),
        ({}, PART_BYTES - 1),
        ({}, PART_BYTES + 1),
        ({}, 60_000),
    ],
)
def test_hostile_parts(changes: dict[str, int | str], chunk_bytes: int) -> None:
    inbox = Inbox(1 << 20)
    part = Part.model_validate({**SOUND, **changes})
    with cheaply(), pytest.raises(TransferError) as raised:
        inbox.receive(part, bytes(chunk_bytes))
    Error(code="protocol", text=str(raised.value))


def test_a_flood_of_transfers_stays_bounded() -> None:
    inbox = Inbox(1 << 20)
    with cheaply():
        for number in range(2_000):
            digest = f"{number:064x}"[::-1]
            part = Part.model_validate({**SOUND, "transfer": digest[:32], "digest": digest})
            inbox.receive(part, bytes(PART_BYTES))
    assert len(inbox.progress()) <= 8
