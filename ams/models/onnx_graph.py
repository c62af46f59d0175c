"""Reading an ONNX file and bringing it into the one form that the rest of AMS expects.

After `tidy`: no Constant or Identity nodes, no local functions, no dead nodes, no unused initializers, one input, one
output, and nothing that depends on who exported the file and when. Knows ONNX protobufs; does not know cards.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from ams.errors import ModelError

MIN_OPSET = 13
"""Before it Squeeze, Softmax and others meant something else; older files are converted."""

CONVERTED_OPSET = 17
CONTROL_FLOW = ("If", "Loop", "Scan")
DEFAULT_DOMAINS = ("", "ai.onnx")
IR_VERSION = 8
"""What opset 17 belongs to; written only into files that we converted or that are older."""

Array = npt.NDArray[np.generic]


def read_onnx(path: Path) -> onnx.ModelProto:
    """A checked model, at opset 13 or newer, with its external data in memory. Raises ModelError with the reason."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{path} is not a valid ONNX file: {error}; export the model again") from error
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if opset(model) < MIN_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, CONVERTED_OPSET)
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{path} uses opset {opset(model)} and cannot be converted ({error}); "
                f"export the model again with opset_version={CONVERTED_OPSET}"
            ) from error
        model.ir_version = max(model.ir_version, IR_VERSION)
    return model


def opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set."""
    return max((entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), default=1)


def keep_output(model: onnx.ModelProto, name: str | None) -> None:
    """Leave one output, the named one or the only one. Raises ModelError when the choice is not clear."""
    outputs = {output.name: output for output in model.graph.output}
    if name is None and len(outputs) != 1:
        raise ModelError(f"the model has outputs {', '.join(outputs)}; say which one holds the class scores")
    chosen = next(iter(outputs)) if name is None else name
    if chosen not in outputs:
        raise ModelError(f"the model has no output {chosen!r}; it has {', '.join(outputs)}")
    kept = outputs[chosen]
    del model.graph.output[:]
    model.graph.output.append(kept)


def strip(model: onnx.ModelProto) -> None:
    """Remove what does not take part in the computation: documentation, the producer's name, recorded shapes."""
    for field in ("producer_name", "producer_version", "model_version", "doc_string", "metadata_props", "domain"):
        model.ClearField(field)
    graph = model.graph
    for field in ("doc_string", "value_info", "metadata_props", "quantization_annotation"):
        graph.ClearField(field)
    graph.name = "student"
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def tidy(model: onnx.ModelProto) -> None:
    """Bring a student's graph into form. Raises ModelError for control flow, which a student may not have."""
    graph = model.graph
    for node in graph.node:
        if node.op_type in CONTROL_FLOW:
            raise ModelError(
                f"the graph has a {node.op_type} node ({node.name!r}); a student must be free of control flow: "
                "export it by tracing"
            )
    if graph.sparse_initializer:
        raise ModelError("the graph has sparse initializers; export the student with dense weights")
    strip(model)
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    del graph.input[:]
    graph.input.extend(inputs)
    _constants_to_initializers(graph)
    _remove_identities(graph)
    _separate_statistics(graph)
    remove_dead(graph)


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    nodes = []
    for node in graph.node:
        if node.op_type != "Constant" or node.domain not in DEFAULT_DOMAINS:
            nodes.append(node)
            continue
        tensor = onnx.TensorProto()
        tensor.CopyFrom(_constant_value(node))
        tensor.name = node.output[0]
        tensor.ClearField("doc_string")
        graph.initializer.append(tensor)
    replace_nodes(graph, nodes)


def _constant_value(node: onnx.NodeProto) -> onnx.TensorProto:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        assert isinstance(value, onnx.TensorProto)
        return value
    dtypes: dict[str, type[np.generic]] = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if attribute.name not in dtypes:
        raise ModelError(f"constant {node.output[0]!r} has {attribute.name}, which AMS does not read; export again")
    return numpy_helper.from_array(np.asarray(value, dtypes[attribute.name]))


def _remove_identities(graph: onnx.GraphProto) -> None:
    """Route around Identity nodes, except one that gives the graph's output its name."""
    outputs = {value.name for value in graph.output}
    source: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = source.get(name, name)
        if node.op_type == "Identity" and node.domain in DEFAULT_DOMAINS and node.output[0] not in outputs:
            source[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    replace_nodes(graph, nodes)


def _separate_statistics(graph: onnx.GraphProto) -> None:
    """Give statistics their own tensor where an exporter has merged them with an equal scale or bias.

    Exporters merge initializers of equal content, as in a network fresh from its initialisation; the scale is
    streamed, the statistics must stay.
    """
    held = {tensor.name: tensor for tensor in graph.initializer}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    statistics = {name for node in norms for name in node.input[3:5]}
    elsewhere = {name for node in norms for name in node.input[1:3]}
    elsewhere.update(name for node in graph.node if node.op_type != "BatchNormalization" for name in node.input)
    for name in sorted(statistics & elsewhere & held.keys()):
        copy = onnx.TensorProto.FromString(held[name].SerializeToString())
        copy.name = f"{name}.statistics"
        graph.initializer.append(copy)
        for node in norms:
            for position in (3, 4):
                if node.input[position] == name:
                    node.input[position] = copy.name


def remove_dead(graph: onnx.GraphProto) -> None:
    """Remove nodes that do not reach the output and initializers that nothing uses."""
    needed = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(name for name in node.input if name)
    replace_nodes(graph, nodes[::-1])
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give the graph these nodes; they may be its own."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """All initializers as arrays."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """For each value, the nodes that read it, once per input position."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """A node's attributes by name."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
