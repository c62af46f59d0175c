"""Rules for pooling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as nnf

from ams.learn.emitter import Value
from ams.learn.ops.convolution import check_image, pad, pads_of
from ams.learn.ops.table import Site, rule


@rule("AveragePool")
def _average_pool(site: Site) -> Value:
    check_image(site)
    kernel = site.attributes.integers("kernel_shape", None) or []
    strides = site.attributes.integers("strides", (1, 1)) or [1, 1]
    if site.attributes.integers("dilations", (1, 1)) != [1, 1]:
        site.refuse("dilated average pooling is not supported")
    ceil_mode = bool(site.attributes.integer("ceil_mode", 0))
    count_padding = bool(site.attributes.integer("count_include_pad", 0))
    pads = pads_of(site, kernel, strides, (1, 1))
    image, padding = pad(site, site.tensor(0), pads, 0.0)
    if image is site.tensor(0):
        return site.call(nnf.avg_pool2d, image, kernel, strides, padding, ceil_mode, count_padding)
    if ceil_mode:
        site.refuse("ceil_mode with padding that differs between the sides is not supported")
    pooled = site.call(nnf.avg_pool2d, image, kernel, strides)
    if count_padding:
        return pooled
    top, left, bottom, right = pads
    counted = nnf.avg_pool2d(nnf.pad(torch.ones(1, 1, *site.shape()[2:]), [left, right, top, bottom]), kernel, strides)
    return site.call(torch.mul, pooled, site.emitter.tensor(counted.reciprocal().numpy()))


@rule("MaxPool")
def _max_pool(site: Site) -> Value:
    check_image(site)
    if len([name for name in site.node.output if name]) > 1:
        site.refuse("its second output (indices) is not supported")
    site.attributes.expect("storage_order", 0)
    kernel = site.attributes.integers("kernel_shape", None) or []
    strides = site.attributes.integers("strides", (1, 1)) or [1, 1]
    dilations = site.attributes.integers("dilations", (1, 1)) or [1, 1]
    ceil_mode = bool(site.attributes.integer("ceil_mode", 0))
    pads = pads_of(site, kernel, strides, dilations)
    image, padding = pad(site, site.tensor(0), pads, -math.inf)
    return site.call(nnf.max_pool2d, image, kernel, strides, padding, dilations, ceil_mode)


@rule("GlobalAveragePool")
def _global_average_pool(site: Site) -> Value:
    check_image(site)
    return site.call(torch.mean, site.tensor(0), dim=[2, 3], keepdim=True)


@rule("GlobalMaxPool")
def _global_max_pool(site: Site) -> Value:
    check_image(site)
    return site.call(torch.amax, site.tensor(0), dim=[2, 3], keepdim=True)
