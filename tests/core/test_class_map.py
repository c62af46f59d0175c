"""Class maps between teacher and student."""

from __future__ import annotations

import numpy as np
import pytest

from ams.core.card import IGNORE_LABEL, InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind
from ams.core.class_map import class_map
from ams.errors import ClassMapError


def card(role: str, classes: tuple[str, ...], **fields: object) -> ModelCard:
    streamed = {
        "parameters": (Parameter(name="w", shape=(1,), kind=ParameterKind.WEIGHT),),
        "weights_digest": "0" * 64,
    }
    return ModelCard.model_validate(
        {
            "name": f"a-{role}",
            "role": role,
            "classes": classes,
            "input": InputSpec(name="x", height=2, width=2),
            "output": OutputSpec(name="y"),
            **(streamed if role == "student" else {}),
            **fields,
        }
    )


def test_own_map_comes_before_equal_names() -> None:
    teacher = card("teacher", ("road", "tree", "sky", "cat"))
    student = card("student", ("sky", "vegetation", "road"), class_map={"tree": "vegetation", "sky": "road"})
    table = class_map(teacher, student)
    assert table.shape == (256,)
    assert table.dtype == np.uint8
    assert table[:4].tolist() == [2, 1, 2, IGNORE_LABEL]
    assert (table[4:] == IGNORE_LABEL).all()


def test_classes_outside_the_subset_are_ignored() -> None:
    teacher = card("teacher", ("a", "b", "c"))
    student = card("student", ("c", "b", "a"), subset=("a", "c"))
    assert class_map(teacher, student)[:3].tolist() == [2, IGNORE_LABEL, 0]


def test_maps_label_maps_by_indexing() -> None:
    table = class_map(card("teacher", ("a", "b")), card("student", ("b", "a")))
    labels = np.array([[0, 1], [255, 0]], np.uint8)
    assert table[labels].tolist() == [[1, 0], [255, 1]]


@pytest.mark.parametrize("subset", [None, ("x",)])
def test_nothing_in_common_is_refused_with_both_lists(subset: tuple[str, ...] | None) -> None:
    teacher = card("teacher", ("cat", "dog"))
    student = card("student", ("x", "cat") if subset else ("x", "y"), subset=subset)
    with pytest.raises(ClassMapError, match=r"cat, dog.*Student: x"):
        class_map(teacher, student)
