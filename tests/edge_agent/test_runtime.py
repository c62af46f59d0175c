"""The runtime against references: argmax, strides, subset, ONNX Runtime on the same weights as constants."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from ams.core.card import InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind
from ams.core.preprocess import normalize
from ams.errors import BackendError
from ams.models.bundle import ModelBundle
from ams.video import resize
from edge_agent.onnx_runtime import OnnxRuntimeStudent, providers_for
from edge_agent.runtime import LabelPicker


def card(classes: int, *, height: int, width: int, stride: int = 1, subset: tuple[int, ...] | None = None) -> ModelCard:
    names = tuple(f"class{k}" for k in range(classes))
    return ModelCard(
        name="c",
        role="student",
        classes=names,
        subset=None if subset is None else tuple(names[k] for k in subset),
        input=InputSpec(name="i", height=height, width=width),
        output=OutputSpec(name="o", stride=stride),
        parameters=(Parameter(name="w", shape=(1,), kind=ParameterKind.WEIGHT),),
        weights_digest="0" * 64,
    )


def half_pixel(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation with half-pixel centres, written out."""

    def axis(size: int, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, source - 1), (at - low).astype(np.float32)

    y0, y1, fy = axis(height, plane.shape[0])
    x0, x1, fx = axis(width, plane.shape[1])
    top = plane[y0][:, x0] * (1 - fx) + plane[y0][:, x1] * fx
    bottom = plane[y1][:, x0] * (1 - fx) + plane[y1][:, x1] * fx
    return top * (1 - fy)[:, None] + bottom * fy[:, None]


@pytest.mark.parametrize("classes", [1, 2, 5, 20, 255])
def test_labels_are_the_argmax(classes: int) -> None:
    scores = np.random.default_rng(classes).normal(size=(classes, 24, 32)).astype(np.float32)
    labels = LabelPicker(card(classes, height=24, width=32)).pick(scores)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, scores.argmax(0))


@pytest.mark.parametrize("subset", [(3,), (4, 0), (1, 2, 4)])
def test_only_the_subset_is_predicted(subset: tuple[int, ...]) -> None:
    scores = np.random.default_rng(0).normal(size=(6, 8, 8)).astype(np.float32)
    scores[5] += 100
    labels = LabelPicker(card(6, height=8, width=8, subset=subset)).pick(scores)
    order = sorted(subset)
    assert np.array_equal(labels, np.array(order)[scores[order].argmax(0)])


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_strides_are_interpolated_with_half_pixel_centres(stride: int) -> None:
    height, width = 64, 96
    scores = np.random.default_rng(stride).normal(size=(4, height // stride, width // stride)).astype(np.float32)
    labels = LabelPicker(card(4, height=height, width=width, stride=stride)).pick(scores)
    full = np.stack([half_pixel(plane, height, width) for plane in scores])
    ranked = np.sort(full, axis=0)
    clear = ranked[-1] - ranked[-2] > 1e-5
    assert np.array_equal(labels[clear], full.argmax(0)[clear])
    assert clear.mean() > 0.99


def test_label_maps_do_not_share_memory() -> None:
    picker = LabelPicker(card(3, height=8, width=8))
    rng = np.random.default_rng(0)
    first = picker.pick(rng.normal(size=(3, 8, 8)).astype(np.float32))
    kept = first.copy()
    picker.pick(rng.normal(size=(3, 8, 8)).astype(np.float32))
    assert np.array_equal(first, kept)


def test_scores_of_another_shape_are_refused() -> None:
    picker = LabelPicker(card(3, height=8, width=8))
    with pytest.raises(BackendError, match="expected scores of 3 classes"):
        picker.pick(np.zeros((4, 8, 8), np.float32))


def as_constants(bundle: ModelBundle, weights: np.ndarray) -> onnxruntime.InferenceSession:
    """The same graph with its weights inside: what any ONNX user would run."""
    model = onnx.load_from_string(bundle.graph)
    tensors = dict(bundle.layout.tensors(weights))
    for initializer in model.graph.initializer:
        if initializer.name in tensors:
            initializer.CopyFrom(onnx.numpy_helper.from_array(tensors[initializer.name], initializer.name))
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_student_gives_what_onnx_runtime_gives_with_constants(tiny: type, stride: int, seed: int) -> None:
    bundle = tiny.make_student(stride=stride)
    n = tiny.changed(bundle, bundle.version0, seed=seed)
    weights = bundle.layout.to_float(n)
    frame = np.random.default_rng(seed).integers(0, 256, (90, 160, 3), np.uint8)
    student = OnnxRuntimeStudent(bundle.card, bundle.graph, bundle.layout, weights)
    small = resize(frame[None], width=64, height=48)
    (scores,) = as_constants(bundle, weights).run(None, {"image": normalize(small, bundle.card.input)})
    expected = LabelPicker(bundle.card).pick(scores[0])
    labels = student.predict(frame)
    assert labels.shape == (48, 64)
    assert np.array_equal(labels, expected)
    assert set(np.unique(labels)) <= set(bundle.card.subset_indices)


def test_sessions_do_not_see_one_another(student: ModelBundle, tiny: type) -> None:
    """A new version must leave the running one alone, and the caller's buffer may be reused."""
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    weights = student.layout.to_float(student.version0)
    running = OnnxRuntimeStudent(student.card, student.graph, student.layout, weights)
    before = running.predict(frame)
    n = tiny.changed(student, student.version0, seed=9)
    OnnxRuntimeStudent(student.card, student.graph, student.layout, student.layout.to_float(n)).predict(frame)
    assert np.array_equal(running.predict(frame), before)


def test_scores_that_are_not_finite_fail_the_check(student: ModelBundle) -> None:
    weights = student.layout.to_float(student.version0).copy()
    frame = np.zeros((48, 64, 3), np.uint8)
    weights[-1] = np.inf
    broken = OnnxRuntimeStudent(student.card, student.graph, student.layout, weights)
    with pytest.raises(BackendError, match="not finite"):
        broken.check(frame)


def test_graph_that_cannot_be_built_is_a_backend_error(student: ModelBundle) -> None:
    with pytest.raises(BackendError, match="cannot build 'tiny'"):
        OnnxRuntimeStudent(student.card, b"no graph", student.layout, student.layout.to_float(student.version0))


def test_card_of_another_graph_is_a_backend_error(student: ModelBundle) -> None:
    other = student.card.model_copy(update={"input": student.card.input.model_copy(update={"name": "pixels"})})
    with pytest.raises(BackendError, match="names input 'pixels'"):
        OnnxRuntimeStudent(other, student.graph, student.layout, student.layout.to_float(student.version0))


def test_cpu_is_always_the_last_resort() -> None:
    assert providers_for("auto")[-1] == "CPUExecutionProvider"
    assert providers_for("cpu") == ["CPUExecutionProvider"]


def test_cuda_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match="onnxruntime-gpu"):
        providers_for("cuda")
