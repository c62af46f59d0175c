"""Rules for Conv and ConvTranspose, with the padding that pooling shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import fx

from ams.learn.emitter import Value, product
from ams.learn.ops.table import Site, rule

SPATIAL_RANK = 4
"""Only images: N, C, H, W."""

CHANNEL_BLOCK = 16
CHANNELS_LAST_PIXELS = 8192
"""Below this the conversions cost as much as they save."""


def check_image(site: Site) -> None:
    """Refuse anything that is not a batch of images."""
    if len(site.shape()) != SPATIAL_RANK:
        site.refuse(f"expected an input of rank 4 [N, C, H, W], it has shape {site.shape()} at batch 1")


def pads_of(site: Site, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Padding as ONNX counts it: [top, left, bottom, right]."""
    automatic = site.attributes.text("auto_pad", "NOTSET")
    explicit = site.attributes.integers("pads", (0, 0, 0, 0)) or [0, 0, 0, 0]
    if automatic == "NOTSET":
        return explicit
    if automatic == "VALID":
        return [0, 0, 0, 0]
    before, after = [], []
    for size, width, stride, dilation in zip(site.shape()[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        before.append(small if automatic == "SAME_UPPER" else large)
        after.append(large if automatic == "SAME_UPPER" else small)
    return before + after


def pad(site: Site, image: fx.Node, pads: Sequence[int], fill: float) -> tuple[fx.Node, list[int]]:
    """The image and the symmetric padding (rows, columns) that is left for the op itself to do."""
    top, left, bottom, right = pads
    if top == bottom and left == right:
        return image, [top, left]
    return site.call(nnf.pad, image, [left, right, top, bottom], value=fill), [0, 0]


@rule("Conv")
def _conv(site: Site) -> Value:
    check_image(site)
    kernel = list(site.shape(1)[2:])
    declared = site.attributes.integers("kernel_shape", kernel)
    if declared != kernel:
        site.refuse(f"kernel_shape is {declared}, the weight's kernel is {kernel}")
    strides = site.attributes.integers("strides", (1, 1)) or [1, 1]
    dilations = site.attributes.integers("dilations", (1, 1)) or [1, 1]
    image, padding = pad(site, site.tensor(0), pads_of(site, kernel, strides, dilations), 0.0)
    group = site.attributes.integer("group", 1)
    last = _is_faster_with_channels_last(site, group)
    if last:
        image = site.call(torch.Tensor.contiguous, image, memory_format=torch.channels_last)
    result = site.call(nnf.conv2d, image, site.tensor(1), site.optional_tensor(2), strides, padding, dilations, group)
    return site.call(torch.Tensor.contiguous, result) if last else result


def _is_faster_with_channels_last(site: Site, group: int) -> bool:
    """Whether this grouped convolution gains from channels-last images on the CPU, both conversions included.

    oneDNN's kernels for channels-first serve depthwise convolutions whose channels fill its blocks; the others fall
    to ones that take up to five times as long (measured: 10 depthwise channels of 256 x 512, 150 ms against 28;
    96 channels of 128 x 256, 41 against 80).
    """
    outputs, inputs_each, height, width = site.shape(1)
    large = product(site.shape()[2:]) >= CHANNELS_LAST_PIXELS and height * width > 1
    depthwise = inputs_each == 1 and outputs == group
    return site.emitter.on_cpu and group > 1 and large and not (depthwise and group % CHANNEL_BLOCK == 0)


@rule("ConvTranspose")
def _conv_transpose(site: Site) -> Value:
    check_image(site)
    kernel = list(site.shape(1)[2:])
    declared = site.attributes.integers("kernel_shape", kernel)
    if declared != kernel:
        site.refuse(f"kernel_shape is {declared}, the weight's kernel is {kernel}")
    site.attributes.expect("auto_pad", "NOTSET")
    if site.attributes.integers("output_shape", None) is not None:
        site.refuse("attribute output_shape is not supported, only pads and output_padding are")
    strides = site.attributes.integers("strides", (1, 1)) or [1, 1]
    dilations = site.attributes.integers("dilations", (1, 1)) or [1, 1]
    top, left, bottom, right = site.attributes.integers("pads", (0, 0, 0, 0)) or [0, 0, 0, 0]
    extra = site.attributes.integers("output_padding", (0, 0)) or [0, 0]
    extra = [extra[0] + top - bottom, extra[1] + left - right]
    if min(extra) < 0 or any(more >= max(pair) for more, *pair in zip(extra, strides, dilations, strict=True) if more):
        site.refuse(f"pads {[top, left, bottom, right]} with that output_padding are not supported")
    group = site.attributes.integer("group", 1)
    return site.call(
        nnf.conv_transpose2d,
        site.tensor(0),
        site.tensor(1),
        site.optional_tensor(2),
        strides,
        [top, left],
        extra,
        group,
        dilations,
    )
