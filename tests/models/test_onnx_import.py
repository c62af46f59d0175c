"""Importing an ONNX file: what is streamed, folding, identity, proposals and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ams.core.card import ParameterKind
from ams.core.preprocess import normalize
from ams.errors import CardError, ModelError
from ams.models.bundle import ModelBundle
from ams.models.onnx_import import ImportRequest, import_onnx
from ams.models.session import ScoreSession

MakeOnnx = Callable[..., Path]


def image(bundle: ModelBundle) -> np.ndarray:
    spec = bundle.card.input
    frames = np.random.default_rng(5).integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
    return normalize(frames, spec)


def run(model: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def test_kinds_come_from_op_and_input_position(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    report = import_onnx(make_onnx(), request_student)
    kinds = {parameter.name: parameter.kind for parameter in report.bundle.card.parameters}
    assert {name: kinds[name] for name in ("conv1.weight", "depthwise.weight", "slope", "head.bias")} == dict.fromkeys(
        ("conv1.weight", "depthwise.weight", "slope", "head.bias"), ParameterKind.WEIGHT
    )
    assert kinds["bn4.scale"] is kinds["bn4.bias"] is ParameterKind.NORM_AFFINE
    assert kinds["bn4.mean"] is kinds["bn4.var"] is ParameterKind.NORM_STAT
    assert not kinds.keys() & {"dead.weight", "unused", "columns", "bn1.scale"}


def test_folds_what_can_be_folded_and_keeps_the_output(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    report = import_onnx(make_onnx(), request_student)
    assert (report.folded_batch_norms, report.kept_batch_norms) == (3, 1)
    assert report.largest_difference < 1e-4
    assert report.label_agreement > 0.99
    kept = import_onnx(make_onnx(), request_student.model_copy(update={"fold_batch_norm": False}))
    assert (kept.folded_batch_norms, kept.kept_batch_norms) == (0, 4)
    assert kept.largest_difference < 1e-4


def test_a_convolution_whose_output_is_used_twice_is_not_folded(
    make_onnx: MakeOnnx, request_student: ImportRequest
) -> None:
    twice = helper.make_node("Relu", ["c1"], ["n2_extra"])
    used = helper.make_node("ReduceMean", ["n2_extra"], ["mean"], keepdims=1)
    path = make_onnx(extra_nodes=(twice, used))
    model = onnx.load(path)
    model.graph.node[16].output[0] = "before"
    model.graph.node.append(helper.make_node("Add", ["before", "mean"], ["scores"]))
    onnx.save(model, path)
    report = import_onnx(path, request_student)
    assert report.folded_batch_norms == 2
    assert report.largest_difference < 1e-4


def test_path_bytes_and_original_give_the_same(
    make_onnx: MakeOnnx, request_student: ImportRequest, tmp_path: Path
) -> None:
    path = make_onnx()
    bundle = import_onnx(path, request_student).bundle
    bundle.save(tmp_path / "bundle")
    x = image(bundle)
    by_path = run(tmp_path / "bundle" / "model.onnx", x)
    by_bytes = ScoreSession.open(ModelBundle.load(tmp_path / "bundle")).run(x)
    np.testing.assert_array_equal(by_path, by_bytes)
    np.testing.assert_allclose(by_path, run(path, x), atol=1e-4)  # the weights have been snapped to their grids


def test_external_initializers_are_what_runs(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    bundle = import_onnx(make_onnx(), request_student).bundle
    assert bundle.weights is not None
    zeros = ScoreSession.open(bundle, np.zeros_like(bundle.weights)).run(image(bundle))
    assert np.all(zeros == 0)


def test_same_file_and_request_give_the_same_model_id(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    first = import_onnx(make_onnx(producer="one"), request_student).bundle
    assert import_onnx(make_onnx(producer="one"), request_student).bundle.model_id == first.model_id
    assert import_onnx(make_onnx(producer="two"), request_student).bundle.model_id == first.model_id
    assert import_onnx(make_onnx(seed=1), request_student).bundle.model_id != first.model_id
    other = request_student.model_copy(update={"licence": "MIT"})
    assert import_onnx(make_onnx(producer="one"), other).bundle.model_id != first.model_id


def test_matmul_constants_are_streamed_only_on_request(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    asked = request_student.model_copy(update={"matmul": True})
    names = [parameter.name for parameter in import_onnx(make_onnx(), asked).bundle.card.parameters]
    assert "columns" in names


def test_output_kind_is_proposed(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    assert import_onnx(make_onnx(), request_student).bundle.card.output.kind == "logits"
    assert import_onnx(make_onnx(softmax=True), request_student).bundle.card.output.kind == "probabilities"
    forced = request_student.model_copy(update={"output_kind": "logits"})
    assert import_onnx(make_onnx(softmax=True), forced).bundle.card.output.kind == "logits"


@pytest.mark.parametrize(("batch", "dynamic"), [(1, False), ("n", True)])
def test_dynamic_batch_comes_from_the_first_dimension(
    make_onnx: MakeOnnx, request_student: ImportRequest, batch: int | str, dynamic: bool
) -> None:
    bundle = import_onnx(make_onnx(batch=batch), request_student).bundle
    assert bundle.card.input.dynamic_batch is dynamic
    x = np.concatenate([image(bundle)] * 3)
    assert ScoreSession.open(bundle).run(x).shape == (3, 3, 16, 32)


def test_statistics_merged_with_a_scale_are_not_streamed(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    path = make_onnx()
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.name == "bn4")
    node.input[4] = "bn4.scale"
    onnx.save(model, path)
    report = import_onnx(path, request_student)
    kinds = {parameter.name: parameter.kind for parameter in report.bundle.card.parameters}
    assert kinds["bn4.scale"] is ParameterKind.NORM_AFFINE
    assert kinds["bn4.scale.statistics"] is ParameterKind.NORM_STAT
    assert report.largest_difference < 1e-4


def test_a_teacher_keeps_its_graph_and_has_no_weights(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    path = make_onnx()
    bundle = import_onnx(path, request_student.model_copy(update={"role": "teacher"})).bundle
    assert bundle.weights is None
    assert bundle.card.parameters == ()
    np.testing.assert_array_equal(ScoreSession.open(bundle).run(image(bundle)), run(path, image(bundle)))


def test_class_map_is_proposed_from_known_taxonomies(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    assert import_onnx(make_onnx(), request_student).bundle.card.class_map == {"pedestrian": "person"}
    own = request_student.model_copy(update={"class_map": {"dog": "person"}})
    assert import_onnx(make_onnx(), own).bundle.card.class_map == {"dog": "person"}


def test_wrong_number_of_classes_is_refused(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    with pytest.raises(ModelError, match="3 channels, 2 classes"):
        import_onnx(make_onnx(), request_student.model_copy(update={"classes": ("a", "b")}))


def test_unknown_subset_is_a_card_error(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    with pytest.raises(CardError, match="subset names classes"):
        import_onnx(make_onnx(), request_student.model_copy(update={"subset": ("tree",)}))


def test_other_inputs_than_float32_are_refused(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    with pytest.raises(ModelError, match="float32"):
        import_onnx(make_onnx(elem_type=TensorProto.DOUBLE), request_student)


def test_a_fixed_batch_is_refused(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    with pytest.raises(ModelError, match="fixed batch of 4"):
        import_onnx(make_onnx(batch=4), request_student)


def test_several_outputs_need_a_choice(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    path = make_onnx(shared_output=True)
    with pytest.raises(ModelError, match="scores, n2"):
        import_onnx(path, request_student)
    chosen = request_student.model_copy(update={"output": "scores"})
    assert import_onnx(path, chosen).bundle.card.output.name == "scores"
    with pytest.raises(ModelError, match="no output 'x'"):
        import_onnx(path, request_student.model_copy(update={"output": "x"}))


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, request_student: ImportRequest) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\xff\xfe not a model")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        import_onnx(path, request_student)
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        import_onnx(tmp_path / "absent.onnx", request_student)


def test_training_mode_is_refused(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    path = make_onnx(training_mode=1)
    with pytest.raises(ModelError, match="eval"):
        import_onnx(path, request_student)


def write_two_inputs(path: Path) -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in "ab"]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_two_inputs_are_refused(tmp_path: Path, request_student: ImportRequest) -> None:
    write_two_inputs(tmp_path / "two.onnx")
    with pytest.raises(ModelError, match="has 2: a, b"):
        import_onnx(tmp_path / "two.onnx", request_student)


def test_nothing_to_train_is_refused(tmp_path: Path, request_student: ImportRequest) -> None:
    inputs = [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 3, 4, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["y"])], "g", inputs, outputs)
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(ModelError, match="no trainable tensor"):
        import_onnx(path, request_student)


def test_an_open_size_must_be_given(make_onnx: MakeOnnx, request_student: ImportRequest) -> None:
    path = make_onnx()
    model = onnx.load(path)
    for axis, name in ((2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, path)
    with pytest.raises(ModelError, match="no fixed height"):
        import_onnx(path, request_student)
    card = import_onnx(path, request_student.model_copy(update={"height": 16, "width": 32})).bundle.card
    assert (card.input.height, card.input.width) == (16, 32)


@pytest.mark.kit
def test_kit_student_keeps_its_labels(kit: Path) -> None:
    path = kit / "models" / "student_espnetv2_s0.5_voc21_384x384.onnx"
    request = ImportRequest(role="student", name="voc", classes=tuple(f"c{index}" for index in range(21)))
    report = import_onnx(path, request)
    assert report.streamed_weights == report.bundle.layout.size == 78_124
    assert report.label_agreement > 0.999
    assert report.largest_difference < 0.01
    assert import_onnx(path, request).bundle.model_id == report.bundle.model_id
