"""Rules for normalisations. Statistics are those of the file: they never adapt (they would have to be streamed)."""

from __future__ import annotations

import torch.nn.functional as nnf

from ams.learn.emitter import Value, product
from ams.learn.ops.table import Site, rule


@rule("BatchNormalization")
def _batch_norm(site: Site) -> Value:
    site.attributes.expect("training_mode", 0, "export after model.eval()")
    epsilon = site.attributes.number("epsilon", 1e-5)
    scale, bias, mean, variance = (site.tensor(position) for position in range(1, 5))
    return site.call(nnf.batch_norm, site.tensor(0), mean, variance, scale, bias, training=False, eps=epsilon)


@rule("InstanceNormalization")
def _instance_norm(site: Site) -> Value:
    epsilon = site.attributes.number("epsilon", 1e-5)
    return site.call(nnf.instance_norm, site.tensor(0), weight=site.tensor(1), bias=site.tensor(2), eps=epsilon)


@rule("LayerNormalization")
def _layer_norm(site: Site) -> Value:
    site.attributes.expect("stash_type", 1)
    axis = site.emitter.axis(site.node, site.value(0), site.attributes.integer("axis", -1))
    normalized = list(site.shape()[axis:])
    for position in (1, 2):
        if site.given(position) and product(site.shape(position)) != product(normalized):
            site.refuse(f"scale and bias must have the normalised shape {normalized}")
    return site.call(
        nnf.layer_norm,
        site.tensor(0),
        normalized,
        site.optional_tensor(1),
        site.optional_tensor(2),
        site.attributes.number("epsilon", 1e-5),
    )
