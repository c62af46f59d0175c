"""Training from scratch: Adam with a warm-up and a cosine, on exact labels. Seeded; knows pictures and students."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ams.core.layout import FloatVector
from ams.learn.loss import pixel_loss, target_table
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from evaluation.pretraining.pictures import Pictures

WARM_UP = 0.04
"""Share of the steps in which the learning rate rises."""

WEIGHT_DECAY = 1e-5
LARGEST_NORM = 5.0
"""Gradients are shortened to this length: without normalisation layers a bad batch could undo many good ones."""


def train(
    bundle: ModelBundle, pictures: Pictures, *, steps: int, batch: int, lr: float, seed: int,
    note: Callable[[int, float], None] = lambda *_: None,
) -> FloatVector:  # fmt: skip
    """The weights [P] after `steps` steps; `note` hears each step and its loss."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    student = Student.from_bundle(bundle)
    optimizer = torch.optim.AdamW([student.weights], lr=lr, weight_decay=WEIGHT_DECAY)
    table = target_table(student.subset)
    for step in range(steps):
        rise = min(1.0, (step + 1) / (WARM_UP * steps))
        optimizer.param_groups[0]["lr"] = lr * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
        frames, labels = pictures.batch(rng, batch)
        scores = student.subset_scores(student.images(frames))
        loss = pixel_loss(scores, torch.from_numpy(table[labels]))
        (student.weights.grad,) = torch.autograd.grad(loss, student.weights)
        torch.nn.utils.clip_grad_norm_([student.weights], LARGEST_NORM)
        optimizer.step()
        note(step + 1, float(loss.detach()))
    trained: FloatVector = student.weights.detach().numpy().copy()
    return trained
