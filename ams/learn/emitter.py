"""The trainable graph under construction: a `torch.fx.Graph` that knows the shape of every value.

Everything is laid out at batch 1 and tried at batch 2; dimension 0 of every value that depends on the image is the
batch, left free in what is emitted. Values that depend on neither image nor streamed weights are numpy arrays and
are computed here, once, so no shape arithmetic is left in the graph. Knows torch.fx and shapes; the rules of each op
are in `ams.learn.ops`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import fx

from ams.errors import UnknownOpError

Array = npt.NDArray[np.generic]
Value = fx.Node | Array
"""A value in the graph, or one that is known already."""

IGNORED_ATTRIBUTES = {"BatchNormalization": {"momentum"}, "Dropout": {"seed"}}
"""Attributes that say nothing about inference."""


def describe(node: onnx.NodeProto) -> str:
    """A node for an error message."""
    return f"{node.op_type} node {node.name or node.output[0]!r}"


def refuse(node: onnx.NodeProto, reason: str) -> NoReturn:
    """Raise UnknownOpError about a node: what cannot be differentiated, and what to do."""
    raise UnknownOpError(
        f"{describe(node)}: {reason}. Export the student without it, or add a rule to ams.learn.ops "
        "(docs/model-card.md lists the ops that can be trained)"
    )


class Attributes:
    """The attributes of one node, with a record of which were read: one that no rule reads must not be ignored."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self._node = node
        self._held = {attribute.name: attribute for attribute in node.attribute}
        self._read: set[str] = set()

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self._get(name, default))

    def number(self, name: str, default: float) -> float:
        """A float attribute."""
        return float(self._get(name, default))

    def text(self, name: str, default: str) -> str:
        """A string attribute."""
        value = self._get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: Sequence[int] | None) -> list[int] | None:
        """A list of integers; None where it is absent and has no default."""
        value = self._get(name, default)
        return None if value is None else [int(item) for item in value]

    def expect(self, name: str, only: int | float | str, why: str = "") -> None:
        """Refuse the node unless the attribute is absent or has just this value."""
        value = self._get(name, only)
        if isinstance(value, bytes):
            value = value.decode()
        if value != only:
            refuse(self._node, f"attribute {name}={value!r} is not supported, only {only!r} is{why and f' ({why})'}")

    def unread(self) -> set[str]:
        """Attributes that nothing has read."""
        return set(self._held) - self._read - IGNORED_ATTRIBUTES.get(self._node.op_type, set())

    def _get(self, name: str, default: Any) -> Any:
        self._read.add(name)
        return onnx.helper.get_attribute_value(self._held[name]) if name in self._held else default


class Emitter:
    """Emits torch calls into `graph` and keeps what they give, as meta tensors without memory.

    `on_cpu` lets rules choose the form that is fastest there; what is computed is the same.
    """

    def __init__(self, opset: int, *, on_cpu: bool) -> None:
        self.graph = fx.Graph()
        self.root = torch.nn.Module()
        self.opset = opset
        self.on_cpu = on_cpu
        self._buffers: dict[str, fx.Node] = {}

    def placeholder(self, name: str, shape: Sequence[int], *, batched: bool) -> fx.Node:
        """An argument of the module's forward."""
        examples = [torch.empty([count * shape[0], *shape[1:]], device="meta") for count in (1, 2 if batched else 1)]
        return self._remember(self.graph.placeholder(name), examples, batched=batched)

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> fx.Node:
        """Emit `function(*arguments, **options)`.

        Raises RuntimeError where the function cannot take these shapes, at batch 1 or at batch 2.
        """
        node = self.graph.call_function(function, arguments, options)
        seen: list[fx.Node] = []
        fx.map_arg((arguments, options), seen.append)
        batched = any(self.batched(argument) for argument in seen)
        examples = [
            function(*fx.map_arg(arguments, at_batch), **fx.map_arg(options, at_batch))
            for at_batch in (_at_batch_1, _at_batch_2)
        ]
        if batched and isinstance(examples[0], torch.Tensor):
            first, second = tuple(examples[0].shape), tuple(examples[1].shape)
            if not first or second != (2 * first[0], *first[1:]):
                raise RuntimeError(f"dimension 0 is not the batch: shape {first} for one image, {second} for two")
        return self._remember(node, examples, batched=batched)

    def tensor(self, value: Value) -> fx.Node:
        """The value as a tensor of the graph; a known one becomes a buffer of the module."""
        if isinstance(value, fx.Node):
            return value
        key = f"{value.dtype}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
        if key not in self._buffers:
            name = f"frozen_{len(self._buffers)}"
            held = torch.from_numpy(np.array(value))
            self.root.register_buffer(name, held, persistent=False)
            self._buffers[key] = self._remember(self.graph.get_attr(name), [held.to("meta")] * 2, batched=False)
        return self._buffers[key]

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape at batch 1."""
        return tuple(value.shape) if not isinstance(value, fx.Node) else tuple(_at_batch_1(value).shape)

    def batched(self, value: Value) -> bool:
        """Whether dimension 0 is the batch."""
        return isinstance(value, fx.Node) and bool(value.meta["batched"])

    def reshape(self, value: fx.Node, shape: Sequence[int]) -> fx.Node:
        """Emit a reshape to a shape at batch 1; of a batched value dimension 0 is left free."""
        target = list(shape)
        if self.batched(value) and target:
            target[0] = -1
        return self.call(torch.reshape, value, target)

    def axis(self, node: onnx.NodeProto, value: Value, axis: int) -> int:
        """A non-negative axis of `value`; refused when it is the batch."""
        positive = axis + len(self.shape(value)) if axis < 0 else axis
        if positive == 0 and self.batched(value):
            refuse(node, "it works across the batch, which must stay free")
        return positive

    def fold(self, node: onnx.NodeProto, inputs: Sequence[Array | None]) -> list[Array]:
        """What a node gives for known inputs."""
        operands = {name: value for name, value in zip(node.input, inputs, strict=True) if value is not None}
        declared = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in operands.items()
        ]
        results = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        model = onnx.helper.make_model(
            onnx.helper.make_graph([node], "fold", declared, results),
            opset_imports=[onnx.helper.make_opsetid("", self.opset)],
        )
        return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, operands)]

    def module(self, output: fx.Node) -> fx.GraphModule:
        """The finished module."""
        self.graph.output(output)
        self.graph.eliminate_dead_code()
        self.graph.lint()
        for node in self.graph.nodes:
            node.meta.clear()
        return fx.GraphModule(self.root, self.graph)

    def _remember(self, node: fx.Node, examples: Sequence[Any], *, batched: bool) -> fx.Node:
        node.meta["examples"] = examples
        node.meta["batched"] = batched
        return node


def _at_batch_1(node: fx.Node) -> Any:
    return node.meta["examples"][0]


def _at_batch_2(node: fx.Node) -> Any:
    return node.meta["examples"][1]


def initializer_array(tensor: onnx.TensorProto) -> Array:
    """An inline initializer as an array."""
    return numpy_helper.to_array(tensor)


def product(sizes: Sequence[int]) -> int:
    """Number of elements."""
    return math.prod(sizes)
