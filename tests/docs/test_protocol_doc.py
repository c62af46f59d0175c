"""The documents name what the code has: every message, field, bound of a kind, code and byte of the example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel

from ams.core import card, envelope, messages, patch, rans, rans_body, rans_numbers, session, transfer
from ams.core.delta import Delta
from ams.core.session import Role
from tests.core.students import MODEL_ID, layout_of
from tests.docs import plain_decoder
from tests.golden import content

REPOSITORY = Path(__file__).resolve().parents[2]
PROTOCOL = (REPOSITORY / "docs" / "protocol.md").read_text()
MODEL_CARD = (REPOSITORY / "docs" / "model-card.md").read_text()
GLOSSARY = (REPOSITORY / "docs" / "glossary.md").read_text()

MESSAGES: tuple[type[BaseModel], ...] = get_args(messages.AnyMessage)
NESTED: dict[str, type[BaseModel]] = {
    "StreamHello": messages.StreamHello,
    "Progress": messages.Progress,
    "StreamWelcome": messages.StreamWelcome,
    "FrameStamp": messages.FrameStamp,
    "DeviceLabels": messages.DeviceLabels,
}
TABLE = re.compile(r"\n\| field \|.*\n\|[-|]+\|\n((?:\|.*\n)+)")


def fields_in(document: str, heading: str) -> set[str]:
    """The names in the first column of the first table of fields after a heading."""
    start = document.index(heading)
    table = TABLE.search(document, start)
    assert table is not None
    return {name for row in table[1].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


@pytest.mark.parametrize("model", MESSAGES, ids=lambda model: model.__name__)
def test_every_message_has_a_table_of_its_fields(model: type[BaseModel]) -> None:
    kind = model.model_fields["type"].default
    assert fields_in(PROTOCOL, f"\n### {kind} (") == set(model.model_fields)


@pytest.mark.parametrize("name", sorted(NESTED))
def test_every_object_inside_has_one_too(name: str) -> None:
    assert fields_in(PROTOCOL, f"\n{name}") == set(NESTED[name].model_fields)


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("## Fields", card.ModelCard),
        ("### input", card.InputSpec),
        ("### output", card.OutputSpec),
        ("### parameters", card.Parameter),
    ],
)
def test_every_field_of_the_card_is_explained(heading: str, model: type[BaseModel]) -> None:
    assert fields_in(MODEL_CARD, heading) == set(model.model_fields)


def test_every_kind_of_parameter_is_explained() -> None:
    for kind in card.ParameterKind:
        assert f"`{kind}`" in MODEL_CARD


def test_the_hex_dump_is_the_recorded_patch() -> None:
    recorded = (REPOSITORY / "tests" / "golden" / "protocol-1" / "patch-patch.bin").read_bytes()
    lines = re.findall(r"^[0-9a-f]{8}: ((?:[0-9a-f]{2,4} ?)+)$", PROTOCOL, re.MULTILINE)
    assert bytes.fromhex("".join(lines)) == recorded


def test_the_body_of_coder_2_is_the_recorded_one() -> None:
    recorded = (REPOSITORY / "tests" / "golden" / "protocol-1" / "patch-rans-patch.bin").read_bytes()
    section = PROTOCOL[PROTOCOL.index("has a body of 25 bytes") : PROTOCOL.index("## 11.")]
    rows = re.findall(r"^\| 0x([0-9a-f]{2}) \| `([0-9a-f ]+)` \|", section, re.MULTILINE)
    found = b""
    for offset, data in rows:
        assert int(offset, 16) == patch.HEADER.size + len(found)
        found += bytes.fromhex(data)
    assert found == recorded[patch.HEADER.size :]


@pytest.mark.parametrize("name", sorted(content.RANS_PATCHES))
def test_a_decoder_written_from_the_page_reads_the_recorded_patches(name: str) -> None:
    recorded = (REPOSITORY / "tests" / "golden" / "protocol-1" / f"patch-rans-{name}.bin").read_bytes()
    delta = content.RANS_PATCHES[name].delta
    found = plain_decoder.decode(recorded[patch.HEADER.size :], [p.size for p in content.LAYOUT.parameters])
    assert found == list(zip(delta.positions.tolist(), delta.values.tolist(), strict=True))


@pytest.mark.parametrize("spread", [0.5, 3.0, 400.0])
def test_and_larger_ones_with_many_lanes(spread: float) -> None:
    rng = np.random.default_rng(7)
    layout = layout_of(900, 20_000, 1, 30, 6_000)
    dense = np.rint(rng.normal(0, spread, layout.size)) * (rng.random(layout.size) < 0.3)
    positions = np.flatnonzero(dense)
    delta = Delta(positions, dense[positions].astype(np.int64) << 3)
    data = patch.Patch(1, 2, MODEL_ID, bytes(32), delta).encode(layout)
    assert data[patch.HEADER.size] >= 4  # lanes
    assert data[patch.HEADER.size + 2] >= 1  # tables
    found = plain_decoder.decode(data[patch.HEADER.size :], [p.size for p in layout.parameters])
    assert found == list(zip(delta.positions.tolist(), delta.values.tolist(), strict=True))


def test_the_entropy_coder_is_that_of_the_code() -> None:
    section = PROTOCOL[PROTOCOL.index("### Coder 2: rANS") : PROTOCOL.index("### Decoding and applying")]
    assert ", ".join(str(ratio) for ratio in rans_numbers.FIRST_RATIOS) in section
    assert (rans.TOTAL, rans.LOW, rans.OVERFLOW_SHIFT) == (4096, 1 << 16, 20)
    assert rans.TOTAL - rans_numbers.SYMBOLS == 4024
    assert rans_numbers.FAMILIES == 128
    assert (rans_numbers.COUNT_BITS, rans_numbers.LENGTH_BITS, rans_numbers.REST) == (7, 4, 15)
    assert f"at most {rans_body.MAX_ROWS:,}" in section
    assert f"is 2^this, 0 to {rans_body.MAX_LANES_EXPONENT} |" in section
    assert section.count(f"that are sent, at most {rans_body.MAX_OWN} |") == 2
    assert f"step base, 0 to {patch.MAX_STEP}" in section
    assert rans_body.HEAD.size == 15
    for symbol, (bits, start) in enumerate(zip(rans_numbers.RAW_BITS, rans_numbers.STARTS, strict=True)):
        assert bits == (0 if symbol < 16 else 3 + (symbol - 16) // 2)
        assert start == (symbol if symbol < 16 else (2 + (symbol & 1)) << bits)


def test_features_are_listed() -> None:
    assert f"`{patch.FEATURE_RANS}` when it takes patches of coder {patch.RANS}" in PROTOCOL


def test_the_hex_dump_of_the_envelope_is_a_ping() -> None:
    line = re.search(r"^(41 4d 53 .*?)  ", PROTOCOL, re.MULTILINE)
    assert line is not None
    assert bytes.fromhex(line[1]) == envelope.encode(messages.Ping())


def test_limits_are_those_of_the_code() -> None:
    assert envelope.MAX_FRAME_BYTES == 65_536
    assert "**at most 64 KiB** (65,536 bytes)" in PROTOCOL
    assert f"at most {envelope.MAX_HEADER_BYTES:,}" in PROTOCOL
    assert f"parts of exactly {transfer.PART_BYTES:,} bytes" in PROTOCOL
    assert transfer.WINDOW_PARTS == 4
    assert "at most **four parts**" in PROTOCOL
    assert transfer.MAX_PARTIAL == transfer.MAX_FINISHED == 4
    assert f"| {session.MAX_WAITING:,} messages, {session.MAX_WAITING_BYTES >> 20} MiB |" in PROTOCOL
    assert session.MISSED_HEARTBEATS == 3
    assert f"at {session.SLOWEST_LINK_BYTES_PER_S:,} bytes per second" in PROTOCOL
    assert messages.MAX_FRAMES_PER_CLIP == 64
    assert messages.MAX_STREAMS_PER_DEVICE == 16
    assert patch.VERSION_LIMIT == 1 << 48
    assert len(Role) == 2


SENDERS = [path for folder in ("ams/core", "services", "edge_agent") for path in (REPOSITORY / folder).rglob("*.py")]
CODE = re.compile(r"""(?:code=|refusal\(\s*|nack\(|Refusal\(|HandshakeError\()"([a-z][a-z0-9_]*)\"""")
REASON = re.compile(r'^    reason = "([a-z]+)"', re.MULTILINE)


def test_every_code_that_is_sent_is_listed() -> None:
    section = PROTOCOL[PROTOCOL.index("## 13. Codes") : PROTOCOL.index("## 14.")]
    listed = set(re.findall(r"^\| [a-z, ]+ \| `(\w+)` \|", section, re.MULTILINE))
    sent = {code for path in SENDERS for code in CODE.findall(path.read_text())}
    assert {"token", "order", "unknown_message"} <= listed
    assert sent - {"welcome"} <= listed  # "welcome" is what an agent logs, it is never sent
    reasons = set(REASON.findall((REPOSITORY / "ams" / "errors.py").read_text())) - {"patch"}  # the base class
    assert reasons <= listed


@pytest.mark.parametrize(
    "word",
    ["teacher", "student", "session", "stream", "clip", "horizon", "training phase", "coordinate fraction (gamma)",
     "phi-score", "patch", "keyframe", "version", "digest", "grid", "skeleton", "card", "held-out frames", "gate",
     "lease", "fence", "bell"],
)  # fmt: skip
def test_the_glossary_has_the_words_of_the_field(word: str) -> None:
    assert f"| **{word}** |" in GLOSSARY


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY, re.MULTILINE)
    assert words == sorted(words, key=str.lower)


@pytest.mark.parametrize("page", ["protocol.md", "model-card.md", "glossary.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = REPOSITORY / "docs" / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
