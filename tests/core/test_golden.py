"""Recorded bytes of the protocol: today's code reads them and writes the same (tests/golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard

from ams.core import label_map
from ams.core.card import ModelCard, model_id
from ams.core.envelope import decode, encode
from ams.core.gap_zstd import SECTION
from ams.core.layout import Layout
from ams.core.messages import MESSAGE_TYPES
from ams.core.patch import GAP_ZSTD, HEADER, RANS, Patch
from tests.golden import content
from tests.golden.record import recordings

FOLDER = Path(__file__).parent.parent / "golden" / content.FOLDER
PATCHES = sorted(content.PATCHES)
FILES = [(f"patch-{name}.bin", name) for name in PATCHES]
FILES += [(f"patch-rans-{name}.bin", name) for name in sorted(content.RANS_PATCHES)]


def recorded(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def sections(data: bytes) -> list[bytes]:
    """The raw bytes of each section of a patch."""
    offset, found = HEADER.size, []
    while offset < len(data):
        raw_bytes, coded_bytes = SECTION.unpack_from(data, offset)
        offset += SECTION.size
        raw = zstandard.ZstdDecompressor().decompress(data[offset : offset + coded_bytes], max_output_size=raw_bytes)
        assert len(raw) == raw_bytes
        found.append(raw)
        offset += coded_bytes
    return found


def test_every_file_is_expected_and_every_type_is_recorded() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(recordings())
    assert {message.type for message, _ in content.MESSAGES.values()} == MESSAGE_TYPES


@pytest.mark.parametrize("name", sorted(content.MESSAGES))
def test_messages_mean_the_same_and_are_the_same_bytes(name: str) -> None:
    data = recorded(f"message-{name}.bin")
    assert decode(data) == content.MESSAGES[name]
    assert encode(*content.MESSAGES[name]) == data


@pytest.mark.parametrize(("file", "name"), FILES)
def test_patches_mean_the_same(file: str, name: str) -> None:
    expected = content.RANS_PATCHES[name]
    patch = Patch.decode(recorded(file), content.LAYOUT)
    assert (patch.base, patch.target, patch.model_id) == (expected.base, expected.target, expected.model_id)
    assert patch.digest == expected.digest
    assert np.array_equal(patch.delta.positions, expected.delta.positions)
    assert np.array_equal(patch.delta.values, expected.delta.values)
    start, result = {
        "patch": (content.VERSION0, content.VERSION1),
        "keyframe": (content.VERSION0, content.VERSION2),
        "empty": (content.VERSION2, content.VERSION2),
        "dense": (content.VERSION0, content.DENSE),
    }[name]
    applied = patch.apply(start, content.LAYOUT, model_id=content.MODEL_ID, version=expected.base)
    assert np.array_equal(applied, result)


@pytest.mark.parametrize("name", PATCHES)
def test_patches_are_the_same_bytes_but_for_the_compressor(name: str) -> None:
    data, now = recorded(f"patch-{name}.bin"), content.PATCHES[name].encode(content.LAYOUT, coder=GAP_ZSTD)
    assert data[: HEADER.size] == now[: HEADER.size]
    assert sections(data) == sections(now)


@pytest.mark.parametrize("name", sorted(content.RANS_PATCHES))
def test_patches_of_coder_2_are_the_same_bytes(name: str) -> None:
    assert content.RANS_PATCHES[name].encode(content.LAYOUT, coder=RANS) == recorded(f"patch-rans-{name}.bin")


def test_the_worked_example_of_the_protocol() -> None:
    """The numbers that docs/protocol.md walks through."""
    steps, gaps, plane = sections(recorded("patch-patch.bin"))
    assert list(steps) == [2, 0, 5]
    assert list(gaps) == [0, 4, 1, 0, 255, 36]
    assert list(plane) == [2, 3, 6, 2, 63]


def test_label_maps_mean_the_same() -> None:
    data = recorded("label-maps.bin")
    assert np.array_equal(label_map.decode(data), content.LABELS_NHW)
    now = label_map.encode(content.LABELS_NHW)
    size = label_map.HEADER.size
    assert data[:size] == now[:size]
    decompress = zstandard.ZstdDecompressor().decompress
    assert decompress(data[size:]) == decompress(now[size:])


def test_the_card_and_the_identities_are_the_same() -> None:
    raw = recorded("card.json")
    card = ModelCard.model_validate_json(raw)
    assert card == content.CARD
    assert card.canonical_json() == raw
    layout = Layout.of(card)
    assert layout == content.LAYOUT
    assert json.loads(recorded("identities.json")) == {
        "model_id": model_id(card, content.SKELETON),
        "digest_version0": layout.digest(content.VERSION0).hex(),
        "digest_version1": layout.digest(content.VERSION1).hex(),
        "digest_version2": layout.digest(content.VERSION2).hex(),
    }
    assert card.weights_digest == layout.digest(content.VERSION0).hex()
