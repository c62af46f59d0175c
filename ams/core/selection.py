"""Which coordinates of the student a training phase may change (paper section 3.1.2).

A selection sees one score per weight and answers a mask; it does not know gradients, optimisers or torch. The order
of events is `ams.learn.phase`'s: iteration 0 of a phase is a full Adam step with the moments that persist from
earlier phases, the score is |change of weight| in that step, coordinates that are not selected are rolled back, and
iterations 1 to K-1 keep the mask. Adam's very first step is lr * sign(gradient) for every weight, so on a cold
optimiser |change| ties everywhere and would select by rounding noise: there the score is |gradient| instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ams.errors import ConfigError

DEFAULT_FRACTION = 0.05
"""Share of the weights that a phase changes (gamma in the paper)."""

Scores = npt.NDArray[np.float32]
"""One non-negative score per weight, [P]."""

Mask = npt.NDArray[np.bool_]
"""True where a weight may change, [P]."""


class CoordinateSelection(Protocol):
    """Chooses the coordinates of one phase."""

    def select(self, scores: Scores) -> Mask:
        """The mask of one phase, [P], from the scores of its probe step, [P]."""
        ...


@dataclass(frozen=True)
class GradientGuidedSelection:
    """The `fraction` of all weights with the highest scores, over all tensors together."""

    fraction: float = DEFAULT_FRACTION

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def select(self, scores: Scores) -> Mask:
        """Exactly `round(fraction * P)` coordinates; of equal scores the lower index wins. NaN ranks last."""
        count = round(self.fraction * scores.size)
        mask = np.zeros(scores.size, np.bool_)
        if count == 0:
            return mask
        ranked = np.where(np.isnan(scores), np.float32(-np.inf), scores)
        threshold = np.partition(ranked, scores.size - count)[scores.size - count]
        np.greater(ranked, threshold, out=mask)
        ties = np.flatnonzero(ranked == threshold)
        mask[ties[: count - np.count_nonzero(mask)]] = True
        return mask


@dataclass(frozen=True)
class FullSelection:
    """All weights: ordinary training."""

    def select(self, scores: Scores) -> Mask:
        """A mask that is True everywhere."""
        return np.ones(scores.size, np.bool_)


@dataclass
class RandomSelection:
    """`round(fraction * P)` coordinates drawn anew for each phase, whatever the scores: the paper's control."""

    fraction: float = DEFAULT_FRACTION
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def select(self, scores: Scores) -> Mask:
        """Exactly `round(fraction * P)` coordinates, without replacement."""
        mask = np.zeros(scores.size, np.bool_)
        count = round(self.fraction * scores.size)
        mask[self.rng.choice(scores.size, size=count, replace=False, shuffle=False)] = True
        return mask


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ConfigError(f"the coordinate fraction must be above 0 and at most 1, got {fraction}")
