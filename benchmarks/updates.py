"""A realistic update to encode: a student of 2.1 M weights in 110 tensors, 5 % of them changed.

Densities vary between tensors as gradient-guided selection makes them vary; values are those of one Adam phase.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ams.core.card import Parameter, ParameterKind
from ams.core.grid import grid_exponent
from ams.core.layout import FloatVector, IntVector, Layout

WEIGHTS = 2_100_000
TENSORS = 110
FRACTION = 0.05


def synthetic(seed: int, *, weights: int = WEIGHTS) -> tuple[Layout, IntVector, FloatVector, npt.NDArray[np.bool_]]:
    """Layout, start integers [P], wanted weights [P] and mask [P]."""
    rng = np.random.default_rng(seed)
    sizes = rng.multinomial(weights - TENSORS, rng.dirichlet(np.full(TENSORS, 0.4))) + 1
    values = [rng.normal(0, rng.uniform(0.01, 0.2), size).astype(np.float32) for size in sizes]
    layout = Layout(
        tuple(
            Parameter(name=f"t{i}", shape=(len(v),), kind=ParameterKind.WEIGHT, exponent=grid_exponent(v))
            for i, v in enumerate(values)
        )
    )
    start = layout.to_grid(np.concatenate(values))
    density = np.concatenate([np.full(len(v), rng.gamma(0.6)) for v in values])
    score = rng.random(weights) ** (1 / np.maximum(density, 1e-6))
    mask = score > np.quantile(score, 1 - FRACTION)
    moved = layout.to_float(start) + rng.normal(0, 4e-3, weights).astype(np.float32) * mask
    return layout, start, moved.astype(np.float32), mask
