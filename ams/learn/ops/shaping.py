"""Rules for ops that move elements about. Dimension 0 of a batched value is the batch and stays where it is."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as nnf

from ams.learn.emitter import Value, product
from ams.learn.ops.table import Site, rule


@rule("Shape")
def _shape(site: Site) -> Value:
    shape = np.array(site.shape(), np.int64)
    start = site.attributes.integer("start", 0)
    end = site.attributes.integer("end", len(shape))
    return shape[start:end]


@rule("Size")
def _size(site: Site) -> Value:
    return np.array(product(site.shape()), np.int64)


@rule("Reshape")
def _reshape(site: Site) -> Value:
    target = site.integers(1, "target shape")
    held = site.shape()
    if not site.attributes.integer("allowzero", 0):
        target = [held[axis] if size == 0 else size for axis, size in enumerate(target)]
    if -1 in target:
        known = product([size for size in target if size != -1])
        target[target.index(-1)] = product(held) // known if known else 0
    return site.emitter.reshape(site.tensor(0), target)


@rule("Flatten")
def _flatten(site: Site) -> Value:
    axis = site.emitter.axis(site.node, site.value(0), site.attributes.integer("axis", 1))
    held = site.shape()
    return site.emitter.reshape(site.tensor(0), [product(held[:axis]), product(held[axis:])])


@rule("Squeeze")
def _squeeze(site: Site) -> Value:
    held = site.shape()
    axes = site.axes(1)
    if axes is None:
        axes = [axis for axis, size in enumerate(held) if size == 1]
    dropped = {site.emitter.axis(site.node, site.value(0), axis) for axis in axes}
    return site.emitter.reshape(site.tensor(0), [size for axis, size in enumerate(held) if axis not in dropped])


@rule("Unsqueeze")
def _unsqueeze(site: Site) -> Value:
    held = list(site.shape())
    axes = site.axes(1) or []
    rank = len(held) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        if axis == 0 and site.emitter.batched(site.value(0)):
            site.refuse("it puts a dimension before the batch, which must stay first")
        held.insert(axis, 1)
    return site.emitter.reshape(site.tensor(0), held)


@rule("Transpose")
def _transpose(site: Site) -> Value:
    rank = len(site.shape())
    order = site.attributes.integers("perm", tuple(reversed(range(rank)))) or []
    if site.emitter.batched(site.value(0)) and order[0] != 0:
        site.refuse(f"perm={order} moves the batch, which must stay first")
    return site.call(torch.permute, site.tensor(0), order)


@rule("Concat")
def _concat(site: Site) -> Value:
    values = [site.value(position) for position in range(len(site.inputs))]
    rank = len(site.shape())
    axis = site.attributes.integer("axis", 0) % rank
    batched = [site.emitter.batched(value) for value in values]
    if any(batched) and (axis == 0 or not all(batched)):
        site.refuse("it joins values across the batch, or one that has the batch with one that has not")
    return site.call(torch.cat, [site.emitter.tensor(value) for value in values], axis)


@rule("Split")
def _split(site: Site) -> Sequence[Value]:
    axis = site.emitter.axis(site.node, site.value(0), site.attributes.integer("axis", 0))
    total, parts = site.shape()[axis], len(site.node.output)
    site.attributes.integer("num_outputs", parts)
    each = -(-total // parts)
    even = [each] * (parts - 1) + [total - each * (parts - 1)]
    sizes = site.integers(1, "list of sizes") if site.given(1) else even
    pieces = site.call(torch.split, site.tensor(0), sizes, axis)
    return [site.call(operator.getitem, pieces, index) for index in range(len(sizes))]


@rule("Slice")
def _slice(site: Site) -> Value:
    held = site.shape()
    starts, ends = site.integers(1, "start"), site.integers(2, "end")
    axes = site.integers(3, "list of axes") if site.given(3) else list(range(len(starts)))
    steps = site.integers(4, "step") if site.given(4) else [1] * len(starts)
    index = [slice(None)] * len(held)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        positive = axis % len(held)
        if step < 1:
            site.refuse(f"a step of {step} is not supported, only positive ones are")
        begin, stop, step = slice(start, end, step).indices(held[positive])
        whole = (begin, stop, step) == (0, held[positive], 1)
        if not whole:
            index[site.emitter.axis(site.node, site.value(0), axis)] = slice(begin, stop, step)
    return site.call(operator.getitem, site.tensor(0), tuple(index))


@rule("Gather")
def _gather(site: Site) -> Value:
    axis = site.emitter.axis(site.node, site.value(0), site.attributes.integer("axis", 0))
    indices = site.constant(1, "list of indices").astype(np.int64) % site.shape()[axis]
    if indices.ndim == 0:
        return site.call(torch.select, site.tensor(0), axis, int(indices))
    if indices.ndim != 1:
        site.refuse(f"indices of rank {indices.ndim} are not supported, only a number or a list")
    return site.call(torch.index_select, site.tensor(0), axis, site.emitter.tensor(indices))


@rule("Expand")
def _expand(site: Site) -> Value:
    held = site.shape()
    target = np.broadcast_shapes(held, tuple(site.integers(1, "target shape")))
    if not site.emitter.batched(site.value(0)):
        return site.call(torch.broadcast_to, site.tensor(0), target)
    if len(target) != len(held) or target[0] != held[0]:
        site.refuse(f"expanding {held} to {target} changes the batch, which must stay free")
    return site.call(torch.Tensor.expand, site.tensor(0), [-1, *target[1:]])


@rule("Pad")
def _pad(site: Site) -> Value:
    rank = len(site.shape())
    amounts = site.integers(1, "amounts")
    axes = site.integers(3, "list of axes") if site.given(3) else list(range(rank))
    mode = site.attributes.text("mode", "constant")
    fill = float(site.constant(2, "fill").reshape(())) if site.given(2) else 0.0
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = amounts[position], amounts[position + len(axes)]
    if before[0] or after[0]:
        site.emitter.axis(site.node, site.value(0), 0)
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    spatial_only = not any(before[:2] + after[:2])
    if mode not in modes or (mode != "constant" and (rank != 4 or not spatial_only)):
        site.refuse(f"padding mode {mode!r} is not supported there")
    first = 2 if rank == 4 and spatial_only else 0
    pads = [amount for axis in reversed(range(first, rank)) for amount in (before[axis], after[axis])]
    if mode == "constant":
        return site.call(nnf.pad, site.tensor(0), pads, value=fill)
    return site.call(nnf.pad, site.tensor(0), pads, mode=modes[mode])


@rule("DepthToSpace", "SpaceToDepth")
def _depth_to_space(site: Site) -> Value:
    block = site.attributes.integer("blocksize", 1)
    _, channels, height, width = site.shape()
    if site.node.op_type == "SpaceToDepth":
        rows, columns = height // block, width // block
        split = site.emitter.reshape(site.tensor(0), [1, channels, rows, block, columns, block])
        moved = site.call(torch.permute, split, [0, 3, 5, 1, 2, 4])
        return site.emitter.reshape(moved, [1, channels * block * block, rows, columns])
    mode = site.attributes.text("mode", "DCR")
    if mode == "CRD":
        return site.call(nnf.pixel_shuffle, site.tensor(0), block)
    depth = channels // (block * block)
    split = site.emitter.reshape(site.tensor(0), [1, block, block, depth, height, width])
    moved = site.call(torch.permute, split, [0, 3, 4, 1, 5, 2])
    return site.emitter.reshape(moved, [1, depth, height * block, width * block])
