"""Rules for reductions over axes other than the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ams.learn.emitter import Value
from ams.learn.ops.table import Site, rule

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
}


@rule(*FUNCTIONS)
def _reduce(site: Site) -> Value:
    axes = site.axes(1)
    keep = bool(site.attributes.integer("keepdims", 1))
    if axes is None:
        if site.attributes.integer("noop_with_empty_axes", 0):
            return site.value(0)
        axes = list(range(len(site.shape())))
    else:
        site.attributes.integer("noop_with_empty_axes", 0)
    dims = [site.emitter.axis(site.node, site.value(0), axis) for axis in axes]
    return site.call(FUNCTIONS[site.node.op_type], site.tensor(0), dim=dims, keepdim=keep)
