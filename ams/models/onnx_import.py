"""Importing an ONNX file: from somebody's export to a bundle with its card, and a report of what was done.

Deterministic: the same file and request give the same model_id. Knows the order of the steps; what each one does is
in `onnx_graph`, `fold` and `propose`. Runs ONNX Runtime on one seeded image to see what the model answers and what
snapping the weights to their grids changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data
from pydantic import BaseModel, ConfigDict, ValidationError

from ams.core.card import InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind
from ams.core.layout import FloatVector, Layout
from ams.core.preprocess import ImagesNCHW, normalize
from ams.errors import CardError, ModelError
from ams.models.bundle import WEIGHTS_FILE, ModelBundle, describe
from ams.models.fold import fold_batch_norms
from ams.models.onnx_graph import Array, attributes, constants, keep_output, read_onnx, strip, tidy
from ams.models.propose import OutputKind, input_of, propose_output_kind, propose_parameters, propose_stride
from ams.models.taxonomy import propose_class_map

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SEED = 20260101
"""Of the image on which the import compares; any number, always the same."""

Colour = tuple[int, int, int]
Triple = tuple[float, float, float]


class ImportRequest(BaseModel):
    """What the person who imports a model knows about it. The defaults of the input are ImageNet's.

    `class_map` leads from teacher names to student names; None proposes it from the known taxonomies. `output` names
    the output if there are several; `height` and `width` fix a size that the file leaves open; `matmul` also streams
    the constant matrices of MatMul; `fold_batch_norm=False` keeps every BatchNormalization as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["teacher", "student"]
    name: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...] = ()
    subset: tuple[str, ...] | None = None
    class_map: dict[str, str] | None = None
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    output: str | None = None
    output_kind: OutputKind | None = None
    height: int | None = None
    width: int | None = None
    licence: str = "unknown"
    matmul: bool = False
    fold_batch_norm: bool = True


@dataclass(frozen=True)
class ImportReport:
    """The bundle and what became of the file. Differences are against the original on one seeded image."""

    bundle: ModelBundle
    streamed_weights: int
    streamed_tensors: int
    norm_affine_weights: int
    norm_stat_tensors: int
    folded_batch_norms: int
    kept_batch_norms: int
    largest_difference: float
    label_agreement: float


def import_onnx(path: Path, request: ImportRequest) -> ImportReport:
    """The bundle of an ONNX file. Raises ModelError (CardError for the request's part of the card) with the reason."""
    model = read_onnx(path)
    _refuse_training_mode(model.graph)
    keep_output(model, request.output)
    input_spec = _fix_input(model, request)
    image_NCHW = _seeded_image(input_spec)
    original_NCHW = _run(model.SerializeToString(), input_spec.name, image_NCHW)
    output_spec = _output_spec(model, request, input_spec, original_NCHW)
    if request.role == "teacher":
        strip(model)
        bundle = ModelBundle(_card(request, input_spec, output_spec), model.SerializeToString(deterministic=True))
        return ImportReport(bundle, 0, 0, 0, 0, 0, _batch_norms(model), 0.0, 1.0)
    tidy(model)
    folded = fold_batch_norms(model.graph) if request.fold_batch_norm else 0
    values = constants(model.graph)
    parameters = propose_parameters(model.graph, values, matmul=request.matmul)
    layout = Layout(tuple(p for p in parameters if p.kind.streamed))
    version0 = layout.to_grid(layout.flatten({p.name: _float32(values[p.name]) for p in layout.parameters}))
    weights = layout.to_float(version0)
    digest = layout.digest(version0).hex()
    card = _card(request, input_spec, output_spec, parameters=parameters, weights_digest=digest)
    snapped_NCHW = _run(_with_weights(model, layout, weights), input_spec.name, image_NCHW)
    _externalize(model.graph, layout)
    kinds = [parameter.kind for parameter in parameters]
    return ImportReport(
        bundle=ModelBundle(card, model.SerializeToString(deterministic=True), weights),
        streamed_weights=layout.size,
        streamed_tensors=len(layout.parameters),
        norm_affine_weights=sum(p.size for p in parameters if p.kind is ParameterKind.NORM_AFFINE),
        norm_stat_tensors=kinds.count(ParameterKind.NORM_STAT),
        folded_batch_norms=folded,
        kept_batch_norms=_batch_norms(model),
        largest_difference=float(np.abs(snapped_NCHW - original_NCHW).max()),
        label_agreement=float(np.mean(snapped_NCHW.argmax(axis=1) == original_NCHW.argmax(axis=1))),
    )


def _fix_input(model: onnx.ModelProto, request: ImportRequest) -> InputSpec:
    """The card's input; a size that the file leaves open is fixed in the graph, too."""
    name, shape = input_of(model.graph)
    sizes = []
    for label, axis, asked in (("height", 2, request.height), ("width", 3, request.width)):
        size = shape[axis] or asked
        if size is None:
            raise ModelError(f"input {name!r} has no fixed {label}; say which {label} to use")
        if asked is not None and asked != size:
            raise ModelError(f"input {name!r} has {label} {size}, {asked} was asked for; export the model at that size")
        sizes.append(size)
    value = next(value for value in model.graph.input if value.name == name)
    for axis, size in zip((1, 2, 3), (3, *sizes), strict=True):
        value.type.tensor_type.shape.dim[axis].dim_value = size
    try:
        return InputSpec(
            name=name,
            height=sizes[0],
            width=sizes[1],
            channels=request.channels,
            scale=request.scale,
            mean=request.mean,
            std=request.std,
            dynamic_batch=shape[0] is None,
        )
    except ValidationError as error:
        raise CardError(f"the input of {request.name!r}: {describe(error)}") from error


def _output_spec(
    model: onnx.ModelProto, request: ImportRequest, input_spec: InputSpec, scores_NCHW: npt.NDArray[np.float32]
) -> OutputSpec:
    name = model.graph.output[0].name
    if scores_NCHW.ndim != 4 or scores_NCHW.dtype != np.float32:
        raise ModelError(
            f"output {name!r} must hold float32 scores [N, classes, height, width]; it is {scores_NCHW.dtype} "
            f"{list(scores_NCHW.shape)}: export the model without its argmax"
        )
    if scores_NCHW.shape[1] != len(request.classes):
        raise ModelError(
            f"output {name!r} has {scores_NCHW.shape[1]} channels, {len(request.classes)} classes were named; "
            "name one class per channel, in the channels' order"
        )
    _, _, height, width = scores_NCHW.shape
    return OutputSpec(
        name=name,
        kind=request.output_kind or propose_output_kind(scores_NCHW),
        stride=propose_stride((input_spec.height, input_spec.width), (height, width)),
    )


def _card(
    request: ImportRequest,
    input_spec: InputSpec,
    output_spec: OutputSpec,
    *,
    parameters: tuple[Parameter, ...] = (),
    weights_digest: str | None = None,
) -> ModelCard:
    mapped = request.class_map
    if mapped is None:
        mapped = propose_class_map(request.classes) if request.role == "student" else {}
    try:
        return ModelCard(
            name=request.name,
            role=request.role,
            classes=request.classes,
            palette=request.palette,
            class_map=mapped,
            subset=request.subset,
            input=input_spec,
            output=output_spec,
            licence=request.licence,
            parameters=parameters,
            weights_digest=weights_digest,
        )
    except ValidationError as error:
        raise CardError(f"the card of {request.name!r}: {describe(error)}") from error


def _seeded_image(spec: InputSpec) -> ImagesNCHW:
    """One normalised image of blocks with noise, [1, 3, H, W]: flat noise would look the same to every class."""
    rng = np.random.default_rng(SEED)
    rows, columns = -(-spec.height // 16), -(-spec.width // 16)
    blocks = rng.integers(0, 224, (rows, columns, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    noise = rng.integers(0, 32, (spec.height, spec.width, 3), np.uint8)
    return normalize((blocks[: spec.height, : spec.width] + noise)[None], spec)


def _run(graph: bytes, input_name: str, image_NCHW: ImagesNCHW) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, {input_name: image_NCHW})
    except Exception as error:  # ONNX Runtime's exceptions have no common base but this one
        raise ModelError(f"ONNX Runtime cannot run the model: {error}") from error
    return np.asarray(scores)


def _refuse_training_mode(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "BatchNormalization" and attributes(node).get("training_mode", 0):
            raise ModelError(f"BatchNormalization {node.name!r} is in training mode; export after model.eval()")


def _with_weights(model: onnx.ModelProto, layout: Layout, weights: FloatVector) -> bytes:
    """Set the streamed initializers to `weights` and serialize the whole model."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, tensor in layout.tensors(weights):
        held[name].CopyFrom(numpy_helper.from_array(tensor, name))
    serialized: bytes = model.SerializeToString()
    return serialized


def _externalize(graph: onnx.GraphProto, layout: Layout) -> None:
    """Turn the streamed initializers into references to `weights.bin`, at the places that the layout gives them."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    for slot in layout.slots:
        tensor = held[slot.parameter.name]
        set_external_data(tensor, WEIGHTS_FILE, offset=4 * slot.start, length=4 * slot.parameter.size)
        tensor.ClearField("raw_data")


def _batch_norms(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def _float32(value: Array) -> npt.NDArray[np.float32]:
    return value.astype(np.float32, copy=False)
