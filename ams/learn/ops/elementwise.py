"""Rules for activations and arithmetic: ops that treat every element by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import fx

from ams.learn.emitter import Value
from ams.learn.ops.table import RULES, Site, rule

UNARY: dict[str, Callable[..., Any]] = {
    "Relu": nnf.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Erf": torch.erf,
    "Reciprocal": torch.reciprocal,
    "HardSwish": nnf.hardswish,
    "Softplus": nnf.softplus,
    "Softsign": nnf.softsign,
    "Mish": nnf.mish,
}
BINARY: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
}


def _unary(function: Callable[..., Any]) -> Callable[[Site], Value]:
    return lambda site: site.call(function, site.tensor(0))


def _binary(function: Callable[..., Any]) -> Callable[[Site], Value]:
    def emit(site: Site) -> Value:
        return site.call(function, _operand(site, 0), _operand(site, 1))

    return emit


def _operand(site: Site, position: int) -> fx.Node | float:
    """A tensor, or a plain number for a constant of one element, which torch handles faster."""
    value = site.value(position)
    other = site.value(1 - position)
    if not isinstance(value, fx.Node) and value.size == 1 and value.ndim <= len(site.emitter.shape(other)):
        return float(value.reshape(()))
    return site.emitter.tensor(value)


RULES.update({name: _unary(function) for name, function in UNARY.items()})
RULES.update({name: _binary(function) for name, function in BINARY.items()})


@rule("Identity", "Dropout")
def _identity(site: Site) -> Value:
    return site.value(0)


@rule("Sum", "Min", "Max")
def _variadic(site: Site) -> Value:
    functions: dict[str, Callable[..., Any]] = {"Sum": torch.add, "Min": torch.minimum, "Max": torch.maximum}
    result = site.tensor(0)
    for position in range(1, len(site.inputs)):
        result = site.call(functions[site.node.op_type], result, site.tensor(position))
    return result


@rule("Clip")
def _clip(site: Site) -> Value:
    low = float(site.constant(1, "minimum").reshape(())) if site.given(1) else -math.inf
    high = float(site.constant(2, "maximum").reshape(())) if site.given(2) else math.inf
    if (low, high) == (0.0, 6.0):
        return site.call(nnf.relu6, site.tensor(0))
    if (low, high) == (-math.inf, math.inf):
        return site.value(0)
    return site.call(torch.clamp, site.tensor(0), min=_finite(low), max=_finite(high))


def _finite(bound: float) -> float | None:
    return None if math.isinf(bound) else bound


@rule("LeakyRelu")
def _leaky_relu(site: Site) -> Value:
    return site.call(nnf.leaky_relu, site.tensor(0), site.attributes.number("alpha", 0.01))


@rule("Elu")
def _elu(site: Site) -> Value:
    return site.call(nnf.elu, site.tensor(0), site.attributes.number("alpha", 1.0))


@rule("HardSigmoid")
def _hard_sigmoid(site: Site) -> Value:
    alpha, beta = site.attributes.number("alpha", 0.2), site.attributes.number("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return site.call(nnf.hardsigmoid, site.tensor(0))
    scaled = site.call(torch.add, site.call(torch.mul, site.tensor(0), alpha), beta)
    return site.call(torch.clamp, scaled, min=0.0, max=1.0)


@rule("Gelu")
def _gelu(site: Site) -> Value:
    return site.call(nnf.gelu, site.tensor(0), approximate=site.attributes.text("approximate", "none"))


@rule("PRelu")
def _prelu(site: Site) -> Value:
    image, slope = site.tensor(0), site.tensor(1)
    rank, channels = len(site.shape()), site.shape()[1]
    aligned = (1,) * (rank - len(site.shape(1))) + site.shape(1)
    if aligned in ((1,) * rank, (1, channels) + (1,) * (rank - 2)):
        return site.call(nnf.prelu, image, site.call(torch.reshape, slope, [-1]))
    positive = site.call(nnf.relu, image)
    negative = site.call(torch.sub, image, positive)
    return site.call(torch.add, positive, site.call(torch.mul, negative, slope))


@rule("Where")
def _where(site: Site) -> Value:
    return site.call(torch.where, site.tensor(0), site.tensor(1), site.tensor(2))


@rule("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def _compare(site: Site) -> Value:
    functions = {"Greater": torch.gt, "Less": torch.lt, "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le}
    return site.call(functions[site.node.op_type], site.tensor(0), site.tensor(1))


@rule("Cast")
def _cast(site: Site) -> Value:
    site.attributes.integer("saturate", 1)  # concerns 8-bit floats only
    dtypes = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}
    wanted = site.attributes.integer("to", 0)
    if wanted not in dtypes:
        site.refuse(f"a cast to ONNX type {wanted} is not supported, only to float32, int32, int64 and bool")
    return site.call(torch.Tensor.to, site.tensor(0), dtypes[wanted])


@rule("Softmax", "LogSoftmax")
def _softmax(site: Site) -> Value:
    axis = site.emitter.axis(site.node, site.value(0), site.attributes.integer("axis", -1))
    function = nnf.softmax if site.node.op_type == "Softmax" else nnf.log_softmax
    return site.call(function, site.tensor(0), dim=axis)
