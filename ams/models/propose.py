"""What an ONNX graph says about itself: which tensors to stream, input and output, stride, kind of output.

The proposals of `ams models import`; the card that comes of them is the authority afterwards. Knows op types and
input positions; does not know names, which differ between exporters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx

from ams.core.card import Parameter, ParameterKind
from ams.core.grid import grid_exponent
from ams.errors import ModelError
from ams.models.onnx_graph import DEFAULT_DOMAINS, Array

OutputKind = Literal["logits", "probabilities"]

WEIGHT, AFFINE, STAT = ParameterKind.WEIGHT, ParameterKind.NORM_AFFINE, ParameterKind.NORM_STAT
KIND_OF_INPUT: dict[str, dict[int, ParameterKind]] = {
    "Conv": {1: WEIGHT, 2: WEIGHT},
    "ConvTranspose": {1: WEIGHT, 2: WEIGHT},
    "Gemm": {1: WEIGHT, 2: WEIGHT},
    "PRelu": {1: WEIGHT},
    "BatchNormalization": {1: AFFINE, 2: AFFINE, 3: STAT, 4: STAT},
    "InstanceNormalization": {1: AFFINE, 2: AFFINE},
    "LayerNormalization": {1: AFFINE, 2: AFFINE},
}
"""Op and input position decide what a constant is for. Everything else is frozen inside the graph."""

MATMUL = {0: WEIGHT, 1: WEIGHT}
"""Only on request: exports hide constant matrices (adaptive pooling, for one) in MatMul."""

MAX_STRIDE = 64
PROBABILITY_TOLERANCE = 1e-3


def propose_parameters(
    graph: onnx.GraphProto, values: Mapping[str, Array], *, matmul: bool = False
) -> tuple[Parameter, ...]:
    """The parameters of a student, in the order in which its nodes use them, each with its grid.

    Of several uses of one tensor a streamed one decides. Raises ModelError when nothing can be streamed or a
    streamed tensor is not float32.
    """
    kinds: dict[str, ParameterKind] = {}
    table = {**KIND_OF_INPUT, "MatMul": MATMUL} if matmul else KIND_OF_INPUT
    for node in graph.node:
        positions = table.get(node.op_type, {}) if node.domain in DEFAULT_DOMAINS else {}
        for position, kind in positions.items():
            name = node.input[position] if position < len(node.input) else ""
            if name not in values or values[name].size == 0:
                continue
            if name not in kinds or (kind.streamed and not kinds[name].streamed):
                kinds[name] = kind
    for name, kind in kinds.items():
        if values[name].dtype != np.float32:
            raise ModelError(f"{kind.value} tensor {name!r} is {values[name].dtype}; export the student in float32")
    if not any(kind.streamed for kind in kinds.values()):
        ops = ", ".join(sorted({node.op_type for node in graph.node}))
        raise ModelError(
            f"no trainable tensor found; the graph has {ops}. Streamed are the constants of {', '.join(KIND_OF_INPUT)}"
            "; those of MatMul with matmul=True"
        )
    parameters = []
    for name, kind in kinds.items():
        tensor = values[name]
        exponent = grid_exponent(tensor.astype(np.float32)) if kind.streamed else 0
        parameters.append(Parameter(name=name, shape=tensor.shape, kind=kind, exponent=exponent))
    return tuple(parameters)


def propose_stride(size: tuple[int, int], output_size: tuple[int, int]) -> int:
    """The stride that leads from (height, width) to the output's; a last row or column may be partial.

    Raises ModelError when no stride fits both directions.
    """
    fitting = [
        stride
        for stride in range(1, MAX_STRIDE + 1)
        if all(math.ceil(whole / stride) == part for whole, part in zip(size, output_size, strict=True))
    ]
    if not fitting:
        raise ModelError(
            f"the output is {output_size[0]}x{output_size[1]} for an input of {size[0]}x{size[1]} (height x width); "
            f"expected the same size or one divided by a stride of up to {MAX_STRIDE}"
        )
    exact = [stride for stride in fitting if size[0] == stride * output_size[0] and size[1] == stride * output_size[1]]
    powers = [stride for stride in fitting if stride & (stride - 1) == 0]
    return (exact or powers or fitting)[0]


def propose_output_kind(scores_NCHW: npt.NDArray[np.float32]) -> OutputKind:
    """Probabilities when no score is negative and they sum to 1 over the channels, else logits."""
    sums = scores_NCHW.sum(axis=1)
    if scores_NCHW.min() >= 0 and float(np.abs(sums - 1).max()) < PROBABILITY_TOLERANCE:
        return "probabilities"
    return "logits"


def input_of(graph: onnx.GraphProto) -> tuple[str, tuple[int | None, ...]]:
    """Name and shape of the one image input; None for a dimension that is not fixed. Raises ModelError."""
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(f"expected one input, an image batch; the model has {len(inputs)}: {names}")
    value = inputs[0]
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        came = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ModelError(f"input {value.name!r} must be float32, it is {came}; export the model in float32")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    if len(shape) != 4 or shape[1] not in (3, None):
        said = [dim if dim is not None else "?" for dim in shape]
        raise ModelError(f"input {value.name!r} must be [N, 3, height, width], it is {said}; export it as NCHW RGB")
    if shape[0] not in (1, None):
        raise ModelError(
            f"input {value.name!r} has a fixed batch of {shape[0]}; export with batch 1 or with a dynamic batch"
        )
    return value.name, shape
