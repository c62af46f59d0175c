"""The model card: what it refuses, what it derives, and the identity of a model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ams.core.card import InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind, model_id
from tests.core.students import student_card


def weight(name: str, kind: ParameterKind = ParameterKind.WEIGHT) -> Parameter:
    return Parameter(name=name, shape=(2,), kind=kind)


def test_a_card_survives_its_json() -> None:
    card = student_card(subset=("road", "sky"), class_map={"street": "road"})
    assert ModelCard.model_validate_json(card.canonical_json()) == card
    assert ModelCard.model_validate_json(card.model_dump_json(indent=2)) == card


def test_canonical_json_is_sorted_compact_and_utf8() -> None:
    card = student_card(classes=("straße", "car", "sky"))
    raw = card.canonical_json()
    assert raw == json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert "straße".encode() in raw


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("road", "road", "sky")}, "differ"),
        ({"classes": ()}, "at least 1"),
        ({"classes": tuple(str(i) for i in range(256)), "palette": ()}, "at most 255"),
        ({"palette": ((1, 2, 3),)}, "3 classes need as many"),
        ({"palette": ((1, 2, 3), (4, 5, 6), (7, 8, 256))}, "less than or equal to 255"),
        ({"palette": ((1, 2, 3), (4, 5, 6), (7, 8, -1))}, "greater than or equal to 0"),
        ({"subset": ("road", "dragon")}, "dragon"),
        ({"subset": ()}, "at least one class"),
        ({"subset": ("road", "road")}, "twice"),
        ({"class_map": {"street": "way"}}, "way"),
        ({"parameters": ()}, "streamed"),
        ({"parameters": (weight("a", ParameterKind.FROZEN),)}, "streamed"),
        ({"parameters": (weight("a"), weight("a"))}, "differ"),
        ({"weights_digest": None}, "weights_digest"),
        ({"weights_digest": "xyz"}, "pattern"),
        ({"name": "../../etc"}, "pattern"),
        ({"ignore_label": 0}, "255"),
        ({"card_version": 2}, "1"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        student_card(**changes)


@pytest.mark.parametrize(
    "field",
    [
        {"std": (1.0, 0.0, 1.0)},
        {"std": (1.0, float("nan"), 1.0)},
        {"mean": (float("inf"), 0.0, 0.0)},
        {"scale": float("nan")},
        {"height": 0},
        {"width": 8193},
        {"channels": "rgba"},
    ],
)
def test_an_impossible_input_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InputSpec(**{"name": "image", "height": 8, "width": 8, **field})


def test_a_tensor_has_a_positive_shape_and_a_grid_in_bounds() -> None:
    for field in ({"shape": (3, 0)}, {"exponent": -121}, {"exponent": 101}, {"name": ""}):
        with pytest.raises(ValidationError):
            Parameter.model_validate({"name": "w", "shape": (3,), "kind": "weight", **field})
    assert Parameter(name="scalar", shape=(), kind=ParameterKind.WEIGHT).size == 1


def test_which_kinds_are_streamed() -> None:
    assert {kind for kind in ParameterKind if kind.streamed} == {ParameterKind.WEIGHT, ParameterKind.NORM_AFFINE}


def test_a_teacher_needs_no_parameters() -> None:
    teacher = student_card(role="teacher", parameters=(), weights_digest=None)
    assert teacher.subset_indices == (0, 1, 2)


def test_subset_indices_follow_the_order_of_the_subset() -> None:
    assert student_card(subset=("sky", "road")).subset_indices == (2, 0)


def test_model_id_covers_skeleton_and_every_field_of_the_card() -> None:
    card = student_card()
    identity = model_id(card, b"graph")
    assert len(identity) == 64
    assert identity == model_id(student_card(), b"graph")
    others = [
        model_id(card, b"grapi"),
        model_id(student_card(weights_digest="1" * 64), b"graph"),
        model_id(student_card(subset=("road",)), b"graph"),
        model_id(student_card(output=OutputSpec(name="logits", stride=2)), b"graph"),
        model_id(student_card([weight("w")]), b"graph"),
    ]
    assert len({identity, *others}) == 1 + len(others)
