"""The layout: one flat vector for everybody, exact conversion, and the digest."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.card import Parameter, ParameterKind
from ams.core.grid import LIMIT
from ams.core.layout import Layout
from ams.errors import ModelError
from tests.core.students import PROPERTY, layout_of, layouts, random_weights, student_card


def test_only_streamed_tensors_are_in_it_in_the_order_of_the_card() -> None:
    kinds = {
        "z": ParameterKind.WEIGHT,
        "frozen": ParameterKind.FROZEN,
        "a": ParameterKind.NORM_AFFINE,
        "mean": ParameterKind.NORM_STAT,
        "b": ParameterKind.WEIGHT,
    }
    card = student_card([Parameter(name=name, shape=(3, 2), kind=kind) for name, kind in kinds.items()])
    layout = Layout.of(card)
    assert [slot.parameter.name for slot in layout.slots] == ["z", "a", "b"]
    assert [(slot.start, slot.stop) for slot in layout.slots] == [(0, 6), (6, 12), (12, 18)]
    assert layout.starts.tolist() == [0, 6, 12]
    assert layout.size == 18


@PROPERTY
@given(st.data())
def test_grid_to_float_and_back_is_exact(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    n = random_weights(layout, np.random.default_rng(data.draw(st.integers(0, 1 << 30))), 24)
    weights = layout.to_float(n)
    assert weights.dtype == np.float32
    assert np.array_equal(layout.to_grid(weights), n)
    assert np.array_equal(layout.flatten(dict(layout.tensors(weights))), weights)


def test_tensors_are_views_in_their_own_shape() -> None:
    layout = Layout((Parameter(name="w", shape=(2, 3), kind=ParameterKind.WEIGHT),))
    flat = np.arange(6, dtype=np.float32)
    name, tensor = next(layout.tensors(flat))
    assert name == "w"
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.shares_memory(tensor, flat)


def test_missing_and_misshapen_tensors_are_named() -> None:
    layout = layout_of(4, 2)
    with pytest.raises(ModelError, match=r"'t1'.*got nothing"):
        layout.flatten({"t0": np.zeros(4, np.float32)})
    with pytest.raises(ModelError, match=r"'t0'.*\(4,\).*\(2, 2\)"):
        layout.flatten({"t0": np.zeros((2, 2), np.float32), "t1": np.zeros(2, np.float32)})


def test_vectors_of_another_length_are_refused() -> None:
    layout = layout_of(4)
    for call in (
        lambda: layout.digest(np.zeros(5, np.int32)),
        lambda: layout.to_grid(np.zeros(3)),
        lambda: list(layout.tensors(np.zeros((4, 1), np.float32))),
    ):
        with pytest.raises(ModelError, match="flat vector of 4"):
            call()


def test_the_digest_is_what_the_protocol_says() -> None:
    n = np.array([1, -2, LIMIT - 1], np.int32)
    expected = hashlib.sha256(b"ams-weights-v1\0" + bytes.fromhex("01000000feffffffffffff00")).digest()
    assert layout_of(3).digest(n) == expected


def test_the_digest_does_not_depend_on_how_the_vector_lies_in_memory() -> None:
    n = random_weights(layout_of(100), np.random.default_rng(3))
    twice = np.repeat(n, 2)
    layout = layout_of(100)
    assert layout.digest(twice[::2]) == layout.digest(n) == layout.digest(n.astype(">i4").astype("<i4"))


def test_in_range_is_exclusive() -> None:
    layout = layout_of(2)
    assert layout.in_range(np.array([LIMIT - 1, -(LIMIT - 1)]))
    assert not layout.in_range(np.array([LIMIT, 0]))
    assert not layout.in_range(np.array([0, -LIMIT]))
