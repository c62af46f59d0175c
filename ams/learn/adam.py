"""Adam that writes only selected coordinates (paper section 3.1.2).

The moments of all coordinates are updated in every step, also of those that are not written, and they persist from
phase to phase; so a coordinate that is selected later has an honest history. Knows flat vectors; does not know how
coordinates are selected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ams.errors import ModelError


@dataclass(frozen=True)
class AdamState:
    """The moments [P] and the number of steps that made them: a checkpoint of the optimiser."""

    steps: int
    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]


class MaskedAdam:
    """Adam without weight decay over one flat vector of `size` weights."""

    def __init__(
        self,
        size: int,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.lr, self.betas, self.eps = lr, betas, eps
        self.steps = 0
        self._first = torch.zeros(size, device=device)
        self._second = torch.zeros(size, device=device)

    @property
    def is_cold(self) -> bool:
        """True before the first step: then every coordinate's next change is lr * sign(gradient)."""
        return self.steps == 0

    def step(self, weights: Tensor, gradient: Tensor, mask: Tensor | None = None) -> None:
        """One step on `weights` [P], in place; with a mask (bool, [P]) only there. Moments change everywhere."""
        beta1, beta2 = self.betas
        with torch.no_grad():
            self.steps += 1
            self._first.lerp_(gradient, 1 - beta1)
            self._second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            scale = (1 - beta2**self.steps) ** 0.5
            denominator = self._second.sqrt().div_(scale).add_(self.eps)
            rate = -self.lr / (1 - beta1**self.steps)
            if mask is None:
                weights.addcdiv_(self._first, denominator, value=rate)
            else:
                change = torch.div(self._first, denominator, out=denominator).mul_(rate)
                weights.add_(change.masked_fill_(~mask, 0.0))

    def state(self) -> AdamState:
        """A copy of the moments."""
        return AdamState(self.steps, self._first.cpu().numpy().copy(), self._second.cpu().numpy().copy())

    def load_state(self, state: AdamState) -> None:
        """Go on from a checkpoint. Raises ModelError when it is of another size."""
        for moments, own in ((state.first, self._first), (state.second, self._second)):
            if moments.shape != tuple(own.shape):
                raise ModelError(
                    f"an optimiser of {own.numel()} weights cannot go on from one of shape {moments.shape}; "
                    "the checkpoint is of another student"
                )
            own.copy_(torch.from_numpy(moments))
        self.steps = state.steps
