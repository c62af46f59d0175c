"""Batch normalisation folded into the convolution before it: one multiplication less, and a better student to train.

`conv(x) * s + t` with `s = scale / sqrt(var + epsilon)` and `t = bias - mean * s` is a convolution with weights
`w * s` and bias `b * s + t`. Possible where the convolution's output goes nowhere else and all tensors are constants
of this one pair. Works on a graph that `onnx_graph.tidy` has brought into form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from ams.models.onnx_graph import Array, attributes, constants, consumers, remove_dead, replace_nodes

DEFAULT_EPSILON = 1e-5
FOLDABLE = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class _Affine:
    """Per-channel factor and offset that a normalisation with fixed statistics amounts to, [C]."""

    factor: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]


def fold_batch_norms(graph: onnx.GraphProto) -> int:
    """Fold every BatchNormalization that can be folded; returns how many. The others are left as they are."""
    values = constants(graph)
    readers = consumers(graph)
    outputs = {value.name for value in graph.output}
    producer = {node.output[0]: node for node in graph.node if node.output}
    folded: set[str] = set()
    for norm in graph.node:
        if norm.op_type != "BatchNormalization" or len(norm.output) != 1:
            continue
        layer = producer.get(norm.input[0])
        if layer is None or layer.op_type not in FOLDABLE or layer.output[0] in outputs:
            continue
        if len(readers[layer.output[0]]) != 1 or any(name not in values for name in norm.input[1:5]):
            continue
        own = [name for name in layer.input[1:] if name]
        if any(name not in values or len(readers[name]) != 1 for name in own):
            continue
        new = _folded_tensors(layer, _affine(norm, values), values)
        if new is None:
            continue
        weight, bias = new
        bias_name = layer.input[2] if len(layer.input) > 2 and layer.input[2] else f"{layer.input[1]}.folded_bias"
        _store(graph, layer.input[1], weight)
        _store(graph, bias_name, bias)
        del layer.input[2:]
        layer.input.append(bias_name)
        layer.output[0] = norm.output[0]
        folded.add(norm.output[0])
    kept = [node for node in graph.node if not (node.op_type == "BatchNormalization" and node.output[0] in folded)]
    replace_nodes(graph, kept)
    remove_dead(graph)
    return len(folded)


def _affine(norm: onnx.NodeProto, values: Mapping[str, Array]) -> _Affine:
    scale, bias, mean, variance = (values[name].astype(np.float64) for name in norm.input[1:5])
    epsilon = attributes(norm).get("epsilon", DEFAULT_EPSILON)
    assert isinstance(epsilon, float)
    factor = scale / np.sqrt(variance + epsilon)
    return _Affine(factor, bias - mean * factor)


def _folded_tensors(layer: onnx.NodeProto, affine: _Affine, values: Mapping[str, Array]) -> tuple[Array, Array] | None:
    """The layer's new weight and bias, or None where its form does not allow it."""
    weight = values[layer.input[1]].astype(np.float64)
    channels = affine.factor.size
    bias = np.zeros(channels)
    if len(layer.input) > 2 and layer.input[2]:
        held = values[layer.input[2]].astype(np.float64)
        if held.size not in (1, channels):
            return None
        bias = np.broadcast_to(held.ravel(), (channels,))
    options = attributes(layer)
    if layer.op_type == "Conv":
        weight = weight * affine.factor.reshape((-1,) + (1,) * (weight.ndim - 1))
    elif layer.op_type == "ConvTranspose":  # [in, out / group, ...]; group g makes output channels g * out/group ...
        group = options.get("group", 1)
        assert isinstance(group, int)
        factor = affine.factor.reshape((group, 1, -1) + (1,) * (weight.ndim - 2))
        weight = (weight.reshape((group, -1, *weight.shape[1:])) * factor).reshape(weight.shape)
    else:
        if options.get("beta", 1.0) != 1.0:
            return None
        weight = weight * (affine.factor[:, None] if options.get("transB", 0) else affine.factor[None, :])
    return weight.astype(np.float32), (bias * affine.factor + affine.offset).astype(np.float32)


def _store(graph: onnx.GraphProto, name: str, value: Array) -> None:
    """Set an initializer, new or old."""
    tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
    for held in graph.initializer:
        if held.name == name:
            held.CopyFrom(tensor)
            return
    graph.initializer.append(tensor)
