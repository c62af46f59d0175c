"""A training phase: K Adam steps from exactly the weights that the device has, on a fixed set of coordinates.

Iteration 0 is a full step with the moments of earlier phases; it gives the scores for the selection, and what is not
selected is rolled back. Iterations 1 to K-1 keep the mask (paper section 3.1.2, as released). Knows student,
optimiser and selection; does not know where frames come from, what time it is, or how the change is sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ams.core.layout import FloatVector, IntVector
from ams.core.preprocess import FramesNHWC
from ams.core.selection import CoordinateSelection, Mask
from ams.errors import ModelError
from ams.learn.adam import MaskedAdam
from ams.learn.loss import pixel_loss, target_table
from ams.learn.student import LabelsNHW, Student

Batch = tuple[FramesNHWC, LabelsNHW]
"""RGB frames [N, H, W, 3] with the teacher's labels in the student's classes [N, H, W]."""


class PhaseSettings(BaseModel):
    """How long a phase is and how fast it learns; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=20, ge=1, le=10_000, description="Adam steps in a phase (K)")
    batch: int = Field(default=8, ge=1, le=256, description="frames in a step")
    lr: float = Field(default=1e-3, gt=0, le=1, description="Adam's learning rate")


@dataclass(frozen=True)
class PhaseResult:
    """What a phase made: weights [P], where they may differ from the start [P], and the loss of every step done."""

    weights: FloatVector
    mask: Mask
    losses: tuple[float, ...]


class DistillationPhase:
    """Runs phases of one session: its optimiser's moments persist from one to the next."""

    def __init__(
        self, student: Student, optimizer: MaskedAdam, selection: CoordinateSelection, settings: PhaseSettings
    ) -> None:
        self.student = student
        self.optimizer = optimizer
        self.selection = selection
        self.settings = settings
        self._target_of_label = target_table(student.subset)

    def run(
        self, start: IntVector, batches: Iterable[Batch], *, should_stop: Callable[[], bool] = lambda: False
    ) -> PhaseResult:
        """One phase from the device's grid integers `start`, [P]; takes up to `settings.steps` batches.

        `should_stop` is asked before each step; a phase that stops, or runs out of batches, returns what it has.
        Raises ModelError when loss, gradient or weights are not finite; then student and optimiser are as before.
        """
        before_phase = self.student.weights.detach().clone()
        state = self.optimizer.state()
        self.optimizer.lr = self.settings.lr
        try:
            self.student.load(start)
            return self._train(batches, should_stop)
        except BaseException:
            self.student.weights.data.copy_(before_phase)
            self.optimizer.load_state(state)
            raise

    def _train(self, batches: Iterable[Batch], should_stop: Callable[[], bool]) -> PhaseResult:
        weights = self.student.weights
        mask = torch.zeros_like(weights, dtype=torch.bool)
        losses: list[float] = []
        for frames, labels in islice(batches, self.settings.steps):
            if should_stop():
                break
            loss, gradient = self._gradient(frames, labels)
            losses.append(loss)
            if len(losses) == 1:
                mask = self._probe(weights.data, gradient)
            else:
                self.optimizer.step(weights.data, gradient, mask)
        trained = weights.detach().cpu().numpy().copy()
        if not math.isfinite(float(weights.detach().abs().sum(dtype=torch.float64))):
            raise ModelError(
                f"the weights of {self.student.card.name!r} are not finite after {len(losses)} steps; "
                f"lower the learning rate (now {self.settings.lr})"
            )
        return PhaseResult(trained, mask.cpu().numpy(), tuple(losses))

    def _gradient(self, frames: FramesNHWC, labels: LabelsNHW) -> tuple[float, Tensor]:
        """Loss and gradient [P] on one batch."""
        if labels.shape != frames.shape[:3]:
            raise ModelError(
                f"labels of shape {labels.shape} do not fit frames of shape {frames.shape}; both must have the size of "
                "the card's input"
            )
        targets_NHW = torch.from_numpy(self._target_of_label[labels]).to(self.student.device)
        scores = self.student.subset_scores(self.student.images(frames))
        loss = pixel_loss(scores, targets_NHW, kind=self.student.card.output.kind)
        (gradient,) = torch.autograd.grad(loss, self.student.weights)
        value = float(loss.detach())
        if not (math.isfinite(value) and bool(torch.isfinite(gradient).all())):
            raise ModelError(
                f"loss ({value}) or gradient of {self.student.card.name!r} is not finite; the phase is undone. Lower "
                f"the learning rate (now {self.settings.lr}) or start from an earlier version"
            )
        return value, gradient

    def _probe(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """Iteration 0: a full step; what the selection does not take is rolled back. Returns the mask, [P]."""
        was_cold = self.optimizer.is_cold
        held = weights.clone()
        self.optimizer.step(weights, gradient)
        scores = gradient.abs() if was_cold else (weights - held).abs()
        mask = torch.from_numpy(self.selection.select(scores.cpu().numpy())).to(weights.device)
        torch.where(mask, weights, held, out=weights)
        return mask
