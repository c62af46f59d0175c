"""Small students and strategies over them, for the tests of the core. Knows no model files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from ams.core.card import InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind
from ams.core.grid import LIMIT
from ams.core.layout import IntVector, Layout

MODEL_ID = "ab" * 32
OTHER_MODEL_ID = "cd" * 32

PROPERTY = settings(max_examples=100, deadline=None)
"""How long a property is looked at; a slow machine is no failure."""


def layout_of(*sizes: int, exponent: int = -20) -> Layout:
    """A layout of flat tensors `t0`, `t1`, ... of these sizes."""
    return Layout(
        tuple(
            Parameter(name=f"t{index}", shape=(size,), kind=ParameterKind.WEIGHT, exponent=exponent)
            for index, size in enumerate(sizes)
        )
    )


def student_card(parameters: Sequence[Parameter] | None = None, **changes: Any) -> ModelCard:
    """A sound student's card; `changes` replace fields."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "role": "student",
        "classes": ("road", "car", "sky"),
        "palette": ((128, 64, 128), (0, 0, 142), (70, 130, 180)),
        "input": InputSpec(name="image", height=64, width=128),
        "output": OutputSpec(name="logits"),
        "parameters": tuple(
            parameters
            if parameters is not None
            else [Parameter(name="w", shape=(2, 3), kind=ParameterKind.WEIGHT, exponent=-20)]
        ),
        "weights_digest": "0" * 64,
    }
    return ModelCard(**{**fields, **changes})


def random_weights(layout: Layout, rng: np.random.Generator, bits: int = 20) -> IntVector:
    """Grid integers of up to `bits` bits, [P]."""
    return rng.integers(-(1 << bits) + 1, 1 << bits, layout.size).astype(np.int32)


def changed(weights: IntVector, rng: np.random.Generator, *, share: float, bits: int, step: int = 0) -> IntVector:
    """`weights` with a share of them moved by multiples of 2**step of up to `bits` bits, inside the grid."""
    move = rng.integers(-(1 << bits), (1 << bits) + 1, weights.size) << step
    moved = np.where(rng.random(weights.size) < share, weights + move, weights)
    return np.clip(moved, -(LIMIT - 1), LIMIT - 1).astype(np.int32)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """One to six tensors of one to 700 weights, on grids of their own."""
    tensors = draw(
        st.lists(
            st.tuples(st.sampled_from([(), (1,), (5,), (4, 3), (2, 3, 3), (300,), (7, 100)]), st.integers(-40, 20)),
            min_size=1,
            max_size=6,
        )
    )
    return Layout(
        tuple(
            Parameter(name=f"t{index}", shape=shape, kind=ParameterKind.WEIGHT, exponent=exponent)
            for index, (shape, exponent) in enumerate(tensors)
        )
    )


@st.composite
def steps_of(draw: st.DrawFn, layout: Layout) -> tuple[IntVector, IntVector]:
    """Weights before and after an arbitrary sparse or dense change."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    before = random_weights(layout, rng, draw(st.integers(0, 24)))
    after = changed(
        before,
        rng,
        share=draw(st.sampled_from([0.0, 0.002, 0.05, 0.5, 1.0])),
        bits=draw(st.integers(0, 25)),
        step=draw(st.integers(0, 24)),
    )
    return before, after
