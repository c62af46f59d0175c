"""A model as a directory: `model.onnx`, `card.json` and, for a student, `weights.bin`.

`weights.bin` is the flat vector of version 0 as little-endian float32, in the card's order. A student's
`model.onnx` is its skeleton: a normal ONNX file whose streamed tensors are external data in `weights.bin`, so that
ONNX Runtime opens the directory as it is. Knows files, sizes and digests; does not parse ONNX and never imports
onnx or torch, because the edge loads models with this file.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ams.core.card import ModelCard, model_id
from ams.core.layout import FloatVector, IntVector, Layout
from ams.errors import CardError, ModelError

GRAPH_FILE = "model.onnx"
CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.bin"

MAX_CARD_BYTES = 4 << 20
MAX_GRAPH_BYTES = 2 << 30
"""Protocol buffers end here, too."""

MAX_WEIGHTS_BYTES = 1 << 30


@dataclass(frozen=True)
class ModelBundle:
    """A model in memory. `weights` are those of version 0, [P], and None for a teacher."""

    card: ModelCard
    graph: bytes
    weights: FloatVector | None = None

    def __post_init__(self) -> None:
        if (self.weights is not None) != (self.card.role == "student"):
            held = "has none" if self.weights is None else "came with some"
            raise ModelError(f"a student has streamed weights, a teacher has none; {self.card.role} {held}")

    @cached_property
    def model_id(self) -> str:
        """The model's identity: SHA-256 (hex) over graph and card; the card holds the weights' digest."""
        return model_id(self.card, self.graph)

    @cached_property
    def layout(self) -> Layout:
        """Order, shapes and grids of the streamed weights."""
        return Layout.of(self.card)

    @cached_property
    def version0(self) -> IntVector:
        """The grid integers of version 0, [P].

        Raises ModelError when the weights are not exactly on their grids or do not have the card's digest.
        """
        if self.weights is None:
            raise ModelError(f"{self.card.name!r} is a teacher and has no streamed weights; name a student")
        if not np.all(np.isfinite(self.weights)):
            raise ModelError(
                f"the weights of {self.card.name!r} hold NaN or infinity; the file is damaged: import it again"
            )
        n = self.layout.to_grid(self.weights)
        if self.layout.to_float(n).tobytes() != self.weights.tobytes():
            raise ModelError(
                f"the weights of {self.card.name!r} are not on the card's grids; the file is damaged or was edited: "
                "copy or import it again"
            )
        digest = self.layout.digest(n).hex()
        if digest != self.card.weights_digest:
            raise ModelError(
                f"the weights of {self.card.name!r} have digest {digest}, the card says {self.card.weights_digest}; "
                "the file is damaged or of another model: copy or import it again"
            )
        return n

    @classmethod
    def load(cls, path: Path) -> ModelBundle:
        """The model in a directory, its weights checked against the card.

        Raises CardError for a card that cannot be read, ModelError for the other files.
        """
        card = read_card(path)
        graph = _read(path / GRAPH_FILE, MAX_GRAPH_BYTES)
        if card.role == "teacher":
            return cls(card, graph)
        expected_bytes = 4 * Layout.of(card).size
        if expected_bytes > MAX_WEIGHTS_BYTES:
            raise CardError(
                f"{path / CARD_FILE}: {expected_bytes} bytes of weights; at most {MAX_WEIGHTS_BYTES} can be"
            )
        raw = _read(path / WEIGHTS_FILE, expected_bytes)
        if len(raw) != expected_bytes:
            raise ModelError(
                f"{path / WEIGHTS_FILE}: the card promises {expected_bytes} bytes, the file has {len(raw)}; "
                "it is truncated: copy or import the model again"
            )
        bundle = cls(card, graph, np.frombuffer(raw, "<f4").astype(np.float32))
        try:
            _ = bundle.version0
        except ModelError as error:
            raise ModelError(f"{path / WEIGHTS_FILE}: {error}") from error
        return bundle

    def save(self, path: Path) -> None:
        """Write the directory so that it is there as a whole or not at all, even after a crash.

        Raises ModelError when something of that name is there already.
        """
        if path.exists():
            raise ModelError(f"{path} is there already; give another name or remove it first")
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming = path.parent / f".incoming-{secrets.token_hex(8)}"
        incoming.mkdir()
        try:
            _write(incoming / GRAPH_FILE, self.graph)
            _write(incoming / CARD_FILE, self.card.model_dump_json(indent=2).encode() + b"\n")
            if self.weights is not None:
                _write(incoming / WEIGHTS_FILE, self.weights.astype("<f4").tobytes())
            _sync_directory(incoming)
            incoming.rename(path)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        _sync_directory(path.parent)


def read_card(path: Path) -> ModelCard:
    """The card of a bundle directory. Raises CardError that names the file and each field that is wrong."""
    file = path / CARD_FILE
    text = _read(file, MAX_CARD_BYTES)
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        raise CardError(f"{file}: {describe(error)}; mend the card or import the model again") from error


def describe(error: ValidationError) -> str:
    """What pydantic found wrong, in one line: each field with its reason."""
    findings = []
    for finding in error.errors(include_url=False):
        where = ".".join(str(part) for part in finding["loc"]) or "card"
        findings.append(f"{where}: {finding['msg']}")
    return "; ".join(findings)


def _read(file: Path, limit_bytes: int) -> bytes:
    """The whole file, never more than one byte over `limit_bytes`. Raises ModelError."""
    try:
        with file.open("rb") as stream:
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise ModelError(
            f"{file} cannot be read ({error.strerror or error}); a model directory holds {GRAPH_FILE}, {CARD_FILE} "
            f"and, for a student, {WEIGHTS_FILE}"
        ) from error
    if len(data) > limit_bytes:
        raise ModelError(f"{file} is longer than the {limit_bytes} bytes it may have; it is not this model's file")
    return data


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    """Make names in a directory durable, where the system can (Windows cannot open one)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
