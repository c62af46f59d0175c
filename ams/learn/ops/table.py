"""What a rule sees, and the table that rules enter themselves into. Knows no op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx
from torch import fx

from ams.learn.emitter import Array, Attributes, Emitter, Value, refuse

Emitted = Value | Sequence[Value]
Rule = Callable[["Site"], Emitted]

RULES: dict[str, Rule] = {}
"""Op type to rule."""


@dataclass(frozen=True)
class Site:
    """One ONNX node with its inputs; at least one of them is not a constant."""

    node: onnx.NodeProto
    inputs: Sequence[Value | None]
    attributes: Attributes
    emitter: Emitter

    def value(self, position: int) -> Value:
        """A required input, known or not."""
        value = self.inputs[position] if position < len(self.inputs) else None
        if value is None:
            self.refuse(f"input {position} is missing")
        return value

    def tensor(self, position: int) -> fx.Node:
        """A required input as a tensor of the graph."""
        return self.emitter.tensor(self.value(position))

    def optional_tensor(self, position: int) -> fx.Node | None:
        """An optional input as a tensor of the graph."""
        return self.tensor(position) if self.given(position) else None

    def given(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def constant(self, position: int, what: str) -> Array:
        """A required input that must be known when the graph is built."""
        value = self.value(position)
        if isinstance(value, fx.Node):
            self.refuse(f"its {what} (input {position}) is computed from the image; it must be a constant")
        return value

    def integers(self, position: int, what: str) -> list[int]:
        """A required constant input as integers."""
        return [int(item) for item in np.atleast_1d(self.constant(position, what))]

    def axes(self, position: int) -> list[int] | None:
        """The axes of an op that has them as attribute `axes` or, in later opsets, as an input; None if neither."""
        if self.given(position):
            return self.integers(position, "list of axes")
        return self.attributes.integers("axes", None)

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """The shape of an input at batch 1."""
        return self.emitter.shape(self.value(position))

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> fx.Node:
        """Emit a torch call."""
        return self.emitter.call(function, *arguments, **options)

    def refuse(self, reason: str) -> NoReturn:
        """Raise UnknownOpError about this node."""
        refuse(self.node, reason)


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Enter a function into the table under these op types."""

    def enter(function: Rule) -> Rule:
        for op_type in op_types:
            RULES[op_type] = function
        return function

    return enter
