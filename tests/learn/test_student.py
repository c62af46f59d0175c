"""The student: version 0, subset, stride, prediction, and that it refuses what ONNX Runtime contradicts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from ams.core.preprocess import normalize
from ams.errors import ModelError
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.models.session import ScoreSession

ImportModule = Callable[[nn.Module, tuple[str, ...]], ModelBundle]


def with_card(bundle: ModelBundle, **fields: object) -> ModelBundle:
    return ModelBundle(bundle.card.model_copy(update=fields), bundle.graph, bundle.weights)


def test_loads_exactly_the_grid_weights(bundle: ModelBundle) -> None:
    student = Student.from_bundle(bundle)
    n = bundle.version0 + 3
    student.load(n)
    np.testing.assert_array_equal(student.weights.detach().numpy(), bundle.layout.to_float(n))
    assert student.weights.requires_grad


def test_predicts_what_onnx_runtime_predicts(bundle: ModelBundle, frames: np.ndarray) -> None:
    student = Student.from_bundle(bundle)
    many = np.concatenate([frames, frames[:2]])  # more than one internal batch
    labels = student.predict(many)
    expected = ScoreSession.open(bundle).run(normalize(many, bundle.card.input)).argmax(axis=1)
    assert labels.dtype == np.uint8
    assert labels.shape == many.shape[:3]
    assert np.mean(labels == expected) > 0.999
    assert student.predict(frames[:0]).shape == (0, 16, 32)


def test_predicts_only_classes_of_the_subset(bundle: ModelBundle, frames: np.ndarray) -> None:
    student = Student.from_bundle(with_card(bundle, subset=("class4", "class1")))
    scores = ScoreSession.open(bundle).run(normalize(frames, bundle.card.input))
    expected = np.where(scores[:, 1] > scores[:, 4], 1, 4)
    assert np.mean(student.predict(frames) == expected) > 0.999
    with torch.no_grad():
        picked = student.subset_scores(student.images(frames)).numpy()
    np.testing.assert_allclose(picked, scores[:, [4, 1]], atol=1e-4)


def test_scores_at_a_stride_are_enlarged_to_the_labels(import_module: ImportModule) -> None:
    bundle = import_module(nn.Conv2d(3, 2, 3, stride=4, padding=1), ("a", "b"))
    assert bundle.card.output.stride == 4
    student = Student.from_bundle(bundle)
    x = torch.zeros(1, 3, 16, 32)
    assert student(x).shape == (1, 2, 4, 8)
    assert student.subset_scores(x).shape == (1, 2, 16, 32)


def test_a_teacher_cannot_be_trained(bundle: ModelBundle) -> None:
    teacher = ModelBundle(bundle.card.model_copy(update={"role": "teacher"}), bundle.graph)
    with pytest.raises(ModelError, match="role='student'"):
        Student.from_bundle(teacher)


def test_a_wrong_rule_would_be_found(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from ams.learn.ops import RULES

    monkeypatch.setitem(RULES, "Sigmoid", lambda site: site.call(torch.tanh, site.tensor(0)))
    with pytest.raises(ModelError, match="differs from ONNX Runtime"):
        Student.from_bundle(bundle)
    Student.from_bundle(bundle, verify=False)


def test_verification_is_of_version_0_whatever_is_loaded(bundle: ModelBundle) -> None:
    student = Student(bundle)
    with torch.no_grad():
        student.weights.add_(1.0)
    student.verify()
