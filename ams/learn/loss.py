"""The loss of a training phase: cross-entropy with hard labels, per pixel, over the card's class subset only.

Pixels whose label is outside the subset (255 included) do not count; the loss is the mean over those that do. Knows
scores and labels; does not know the model that the scores come from.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as nnf
from torch import Tensor

NOT_COUNTED = -100
"""Target of pixels that do not count; torch's own default."""

TINY = 1e-12
"""Smallest probability that the logarithm sees."""


def target_table(subset: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Position within the subset of every possible label, [256]; `NOT_COUNTED` for labels outside it."""
    table = np.full(256, NOT_COUNTED, np.int64)
    table[list(subset)] = np.arange(len(subset))
    return table


def pixel_loss(
    scores_NSHW: Tensor, targets_NHW: Tensor, *, kind: Literal["logits", "probabilities"] = "logits"
) -> Tensor:
    """Mean loss (nats) over the counted pixels; 0, with a gradient of 0, when none counts.

    `scores_NSHW` are the subset's scores, `targets_NHW` positions within the subset (int64) or `NOT_COUNTED`.
    Probabilities are renormalised over the subset: cross-entropy of their logarithms is just that.
    """
    logits = scores_NSHW if kind == "logits" else torch.log(scores_NSHW.clamp_min(TINY))
    total = nnf.cross_entropy(logits, targets_NHW, ignore_index=NOT_COUNTED, reduction="sum")
    counted = torch.count_nonzero(targets_NHW != NOT_COUNTED)
    return total / counted.clamp_min(1)
