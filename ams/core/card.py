"""The model card: the only authority on what a model expects, what it answers and which weights are streamed.

Knows the card's fields, their consistency, and the identity of a model (`model_id`). Does not read files and
does not know ONNX: importing a model (`ams.models`) fills a card in, everybody else only reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ams.core.grid import MAX_EXPONENT, MIN_EXPONENT

IGNORE_LABEL = 255
"""Label of pixels without a known class; never trained on, never scored."""

MAX_CLASSES = 255
Colour = Annotated[int, Field(ge=0, le=255)]
MODEL_ID_PATTERN = r"^[0-9a-f]{64}$"
MODEL_ID_DOMAIN = b"ams-model-v1\0"


class ParameterKind(StrEnum):
    """What a tensor of the student is for (docs/model-card.md)."""

    WEIGHT = "weight"
    NORM_AFFINE = "norm_affine"
    NORM_STAT = "norm_stat"
    FROZEN = "frozen"

    @property
    def streamed(self) -> bool:
        """True when tensors of this kind are trained and sent; the others never leave version 0."""
        return self in (ParameterKind.WEIGHT, ParameterKind.NORM_AFFINE)


class Parameter(BaseModel):
    """One tensor of a student: `name` as in the ONNX graph, `shape` in elements, grid spacing 2**`exponent`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    kind: ParameterKind
    exponent: int = Field(default=0, ge=MIN_EXPONENT, le=MAX_EXPONENT)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class InputSpec(BaseModel):
    """The image a model takes: float32 NCHW, `(pixel * scale - mean) / std` per channel, pixel in 0..255."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    height: int = Field(ge=1, le=8192)
    width: int = Field(ge=1, le=8192)
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dynamic_batch: bool = False

    @model_validator(mode="after")
    def _std_is_positive(self) -> InputSpec:
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive in every channel, got {self.std}")
        return self


class OutputSpec(BaseModel):
    """What a model answers: [N, classes, height/stride, width/stride], as logits or as probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["logits", "probabilities"] = "logits"
    stride: int = Field(default=1, ge=1, le=64)


class ModelCard(BaseModel):
    """Everything that AMS believes about a model. See `docs/model-card.md` for each field with an example."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    card_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    role: Literal["teacher", "student"]
    task: Literal["semantic_segmentation"] = "semantic_segmentation"
    classes: tuple[str, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    palette: tuple[tuple[Colour, Colour, Colour], ...] = ()
    class_map: dict[str, str] = Field(default_factory=dict)
    subset: tuple[str, ...] | None = None
    ignore_label: Literal[255] = 255
    input: InputSpec
    output: OutputSpec
    licence: str = "unknown"
    parameters: tuple[Parameter, ...] = ()
    weights_digest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _is_consistent(self) -> ModelCard:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must differ from one another")
        if self.palette and len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes need as many palette colours, got {len(self.palette)}")
        unknown = [name for name in self.subset or () if name not in self.classes]
        if unknown:
            raise ValueError(f"subset names classes that the model does not have: {', '.join(unknown)}")
        if self.subset is not None and not self.subset:
            raise ValueError("subset must name at least one class, or be left out")
        if self.subset is not None and len(set(self.subset)) != len(self.subset):
            raise ValueError("subset names a class twice; it would count twice in the mIoU")
        targets = [name for name in self.class_map.values() if name not in self.classes]
        if targets:
            raise ValueError(f"class_map leads to classes that the model does not have: {', '.join(targets)}")
        names = [parameter.name for parameter in self.parameters]
        if len(set(names)) != len(names):
            raise ValueError("parameter names must differ from one another")
        if self.role == "student" and not any(p.kind.streamed for p in self.parameters):
            raise ValueError("a student needs at least one streamed parameter")
        if self.role == "student" and self.weights_digest is None:
            raise ValueError("a student's card needs weights_digest, the digest of version 0")
        return self

    @property
    def subset_indices(self) -> tuple[int, ...]:
        """Indices of the classes that are predicted, trained and scored; all of them without a subset."""
        if self.subset is None:
            return tuple(range(len(self.classes)))
        return tuple(self.classes.index(name) for name in self.subset)

    def canonical_json(self) -> bytes:
        """The card as bytes that are the same on every machine: sorted keys, no spaces, UTF-8."""
        fields = self.model_dump(mode="json")
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def model_id(card: ModelCard, skeleton: bytes) -> str:
    """SHA-256 (hex) over the graph with all frozen constants (`skeleton`) and the canonical card.

    Version 0 of the streamed weights takes part through `card.weights_digest`.
    """
    digest = hashlib.sha256(MODEL_ID_DOMAIN)
    digest.update(hashlib.sha256(skeleton).digest())
    digest.update(hashlib.sha256(card.canonical_json()).digest())
    return digest.hexdigest()
