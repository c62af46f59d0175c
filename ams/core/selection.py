"""Which coordinates of the student a training phase may change (paper section 3.1.2).

A selection sees one score per weight and answers a mask; it does not know gradients, optimisers or torch. The order
of events is `ams.learn.phase`'s: iteration 0 of a phase is a full Adam step with the moments that persist from
earlier phases, the score is |change of weight| in that step, coordinates that are not selected are rolled back, and
iterations 1 to K-1 keep the mask. Adam's very first step is lr * sign(gradient) for every weight, so on a cold
optimiser |change| ties everywhere and would select by rounding noise: there the score is |gradient| instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

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


@dataclass
class EndsSelection:
    """`round(fraction * P)` coordinates at the ends of the network, whatever the scores: the paper's other controls.

    Whole tensors from the `first` on, from the `last` back, or half from either end (`both`); of the tensor in which
    the number is reached a random part, drawn anew for each phase. `sizes`: those of the tensors in the layout's order.
    """

    sizes: tuple[int, ...]
    where: Literal["first", "last", "both"]
    fraction: float = DEFAULT_FRACTION
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def select(self, scores: Scores) -> Mask:
        """Exactly `round(fraction * P)` coordinates."""
        if scores.size != sum(self.sizes):
            raise ConfigError(f"a selection over {sum(self.sizes)} weights was given {scores.size} scores")
        mask = np.zeros(scores.size, np.bool_)
        count = round(self.fraction * scores.size)
        from_first = {"first": count, "last": 0, "both": (count + 1) // 2}[self.where]
        self._fill(mask, range(len(self.sizes)), from_first)
        self._fill(mask, range(len(self.sizes) - 1, -1, -1), count - from_first)
        return mask

    def _fill(self, mask: Mask, order: range, count: int) -> None:
        starts = np.concatenate(([0], np.cumsum(self.sizes)))
        for index in order:
            view = mask[starts[index] : starts[index + 1]]
            free = np.flatnonzero(~view)
            taken = free if len(free) <= count else self.rng.choice(free, size=count, replace=False, shuffle=False)
            view[taken] = True
            count -= len(taken)
            if count == 0:
                return


SELECTIONS = ("all", "gradient", "random", "first", "last", "first_and_last")
"""Names of the selections, for settings."""


def selection_named(
    name: str, *, fraction: float, sizes: tuple[int, ...], rng: np.random.Generator
) -> CoordinateSelection:
    """The selection of a name; `sizes` are those of the student's tensors. Raises ConfigError for another name."""
    if name == "all":
        return FullSelection()
    if name == "gradient":
        return GradientGuidedSelection(fraction)
    if name == "random":
        return RandomSelection(fraction, rng)
    if name == "first":
        return EndsSelection(sizes, "first", fraction, rng)
    if name == "last":
        return EndsSelection(sizes, "last", fraction, rng)
    if name == "first_and_last":
        return EndsSelection(sizes, "both", fraction, rng)
    raise ConfigError(f"no selection {name!r}; there are {', '.join(SELECTIONS)}")


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ConfigError(f"the coordinate fraction must be above 0 and at most 1, got {fraction}")
