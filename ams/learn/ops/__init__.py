"""The op table: for each ONNX op a rule that emits it in torch.

A rule gets a `Site` (the node, its inputs, its attributes and the emitter) and returns the node's value or values.
Rules read every attribute that they honour and refuse, by name, what they do not; an attribute that no rule has read
is refused, too, so nothing is silently ignored. Adding an op is one function with `@rule("Name")`.
"""

from ams.learn.ops import convolution, elementwise, normalization, pooling, product, reduction, resize, shaping
from ams.learn.ops.table import RULES, Site

__all__ = [
    "RULES",
    "Site",
    "convolution",
    "elementwise",
    "normalization",
    "pooling",
    "product",
    "reduction",
    "resize",
    "shaping",
]
