"""From a student's ONNX graph to a trainable torch module: a `torch.fx.GraphModule` that passes `torch.export`.

The module's forward takes the flat vector of streamed weights [P] and images [N, 3, H, W], any N. All weights are
pieces of that one vector by a single `torch.split`, because slicing leaf by leaf costs a pass over the whole
gradient per tensor in the backward. Knows graphs; does not know cards beyond the layout, files, or training.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import fx

from ams.core.layout import Layout
from ams.errors import CardError, UnknownOpError
from ams.learn.emitter import Attributes, Emitter, Value, describe, initializer_array
from ams.learn.ops import RULES, Site

DEFAULT_DOMAINS = ("", "ai.onnx")


def trainable_module(
    model: onnx.ModelProto, layout: Layout, *, channels: Sequence[int] | None = None, on_cpu: bool = True
) -> fx.GraphModule:
    """The module of a skeleton: `forward(weights_P, x_NCHW)` gives what the ONNX output gives.

    With `channels` it gives only those channels of the output, in that order; where the last node is a Resize they
    are picked before it, which gives the same and costs less. `on_cpu` chooses forms that are fast there.
    Raises UnknownOpError for an op or an attribute without a rule, CardError when the layout does not fit the graph.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), default=1)
    emitter = Emitter(opset, on_cpu=on_cpu)
    graph = model.graph
    streamed = {parameter.name: parameter for parameter in layout.parameters}
    values: dict[str, Value] = {}
    weights = emitter.placeholder("weights_P", [layout.size], batched=False)
    pieces = emitter.call(torch.split, weights, [slot.stop - slot.start for slot in layout.slots])
    for index, parameter in enumerate(layout.parameters):
        piece = emitter.call(operator.getitem, pieces, index)
        values[parameter.name] = emitter.call(torch.reshape, piece, list(parameter.shape))
    for tensor in graph.initializer:
        if tensor.name in streamed:
            declared, held = streamed.pop(tensor.name).shape, tuple(tensor.dims)
            if held != declared:
                raise CardError(f"tensor {tensor.name!r}: the card says shape {declared}, the graph {held}")
        else:
            values[tensor.name] = initializer_array(tensor)
    if streamed:
        raise CardError(f"the card streams tensors that the graph does not have: {', '.join(streamed)}")
    image = graph.input[0]
    dims = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    values[image.name] = emitter.placeholder("x_NCHW", [1, *dims[1:]], batched=True)
    output_name = graph.output[0].name
    for node in graph.node:
        inputs = [values[name] if name else None for name in node.input]
        if channels is not None and output_name in node.output and node.op_type == "Resize":
            inputs[0] = _pick(emitter, emitter.tensor(_required(inputs[0], node)), channels)
            inputs[3:] = [_with_channels(value, len(channels)) for value in inputs[3:]]
            channels = None
        for name, value in zip(node.output, _emit(emitter, node, inputs), strict=False):
            values[name] = value
    output = emitter.tensor(values[output_name])
    return emitter.module(output if channels is None else _pick(emitter, output, channels))


def _emit(emitter: Emitter, node: onnx.NodeProto, inputs: Sequence[Value | None]) -> Sequence[Value]:
    """The values of one node: computed now where all inputs are known, else emitted by the op's rule."""
    rule = RULES.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
    known = [value for value in inputs if not isinstance(value, fx.Node)]
    if len(known) == len(inputs) and node.domain in DEFAULT_DOMAINS:
        return emitter.fold(node, known)
    if rule is None:
        domain = f" of domain {node.domain!r}" if node.domain not in DEFAULT_DOMAINS else ""
        raise UnknownOpError(
            f"{describe(node)}{domain}: the trainer has no rule for this op. Export the student without it, or add a "
            f"rule to ams.learn.ops. There are rules for {', '.join(sorted(RULES))}"
        )
    attributes = Attributes(node)
    try:
        emitted = rule(Site(node, inputs, attributes, emitter))
    except (RuntimeError, ValueError, IndexError) as error:  # what torch and numpy raise about shapes
        raise UnknownOpError(
            f"{describe(node)} cannot be laid out for any batch of images: {error}. Export the student with a dynamic "
            "batch, or without a reshape that mixes images"
        ) from error
    if attributes.unread():
        raise UnknownOpError(
            f"{describe(node)}: attribute {', '.join(sorted(attributes.unread()))} is not known to the trainer; export "
            "the student with an older opset (17 is well tried)"
        )
    return [emitted] if isinstance(emitted, (fx.Node, np.ndarray)) else emitted


def _pick(emitter: Emitter, scores: fx.Node, channels: Sequence[int]) -> fx.Node:
    indices = emitter.tensor(np.array(channels, np.int64))
    return emitter.call(torch.index_select, scores, 1, indices)


def _with_channels(sizes: Value | None, count: int) -> Value | None:
    """The sizes of a Resize whose input has had channels picked."""
    if sizes is None or isinstance(sizes, fx.Node) or sizes.size != 4:
        return sizes
    changed = sizes.copy()
    changed[1] = count
    return changed


def _required(value: Value | None, node: onnx.NodeProto) -> Value:
    if value is None:
        raise UnknownOpError(f"{describe(node)}: its input is missing; the file is not valid ONNX")
    return value
