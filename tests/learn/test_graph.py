"""The trainable form of whole networks: outputs, gradients, export, and the kit's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from ams.core.card import ParameterKind
from ams.errors import UnknownOpError
from ams.learn.graph import trainable_module
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.models.onnx_import import ImportRequest, import_onnx
from ams.models.session import ScoreSession

KIT_MODELS = {
    "espnetv2_s2.0_city20_1024x512": 20,
    "espnetv2_s2.0_voc21_384x384": 21,
    "student_espnetv2_s0.5_city20_512x256": 20,
    "student_espnetv2_s0.5_voc21_384x384": 21,
    "teacher_cgnet_camvid11_480x360": 11,
    "teacher_ensemble_city19_512x256": 19,
    "teacher_ensemble_city19_704x512": 19,
}


def images(bundle: ModelBundle, count: int) -> np.ndarray:
    spec = bundle.card.input
    return np.random.default_rng(4).normal(size=(count, 3, spec.height, spec.width)).astype(np.float32)


def test_a_batch_is_as_good_as_single_images(bundle: ModelBundle, hand_written: nn.Module) -> None:
    student = Student.from_bundle(bundle)
    x = images(bundle, 3)
    expected = ScoreSession.open(bundle).run(x)  # the file has a fixed batch of 1
    with torch.no_grad():
        np.testing.assert_allclose(student(torch.from_numpy(x)).numpy(), expected, atol=1e-4)
        np.testing.assert_allclose(hand_written(torch.from_numpy(x)).numpy(), expected, atol=1e-3)


def test_gradients_are_those_of_the_hand_written_module(bundle: ModelBundle, hand_written: nn.Module) -> None:
    student = Student.from_bundle(bundle)
    layout, n = student.layout, bundle.version0
    with torch.no_grad():  # the hand-written module gets the very weights that lie on the grid
        own = dict(hand_written.named_parameters())
        by_name = dict(layout.tensors(layout.to_float(n)))
        pairs = {name: matching(name, value, own) for name, value in by_name.items()}
        assert len(set(pairs.values())) == len(own)
        for name, target in pairs.items():
            own[target].copy_(torch.from_numpy(by_name[name]).reshape(own[target].shape))
    x = torch.from_numpy(images(bundle, 2))
    weight = torch.randn(2, 5, 16, 32, generator=torch.Generator().manual_seed(1))
    (hand_written(x) * weight).sum().backward()
    (student(x) * weight).sum().backward()
    assert student.weights.grad is not None
    for name, gradient in layout.tensors(student.weights.grad.numpy()):
        expected = own[pairs[name]].grad
        assert expected is not None
        np.testing.assert_allclose(gradient.ravel(), expected.numpy().ravel(), rtol=1e-3, atol=1e-3, err_msg=name)


def matching(name: str, value: np.ndarray, own: dict[str, nn.Parameter]) -> str:
    """The parameter of the module that a tensor of the file came from: by name, else by its (unique) value."""
    if name in own:
        return name
    close = [
        key
        for key, held in own.items()
        if held.numel() == value.size and np.allclose(held.detach().ravel(), value.ravel(), atol=1e-4)
    ]
    assert len(close) == 1, (name, close)
    return close[0]


def test_passes_torch_export_with_a_free_batch(bundle: ModelBundle) -> None:
    student = Student.from_bundle(bundle)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(student, (torch.zeros(2, 3, 16, 32),), dynamic_shapes=({0: batch},))
    x = torch.from_numpy(images(bundle, 5))
    torch.testing.assert_close(exported.module()(x), student(x))


def test_weights_are_pieces_of_one_vector_by_one_split(bundle: ModelBundle) -> None:
    module = trainable_module(onnx.load_model_from_string(bundle.graph), bundle.layout)
    assert isinstance(module, torch.fx.GraphModule)
    assert sum(node.target is torch.split for node in module.graph.nodes) == 1
    assert not any("hape" in str(node.target) and node.op == "call_method" for node in module.graph.nodes)


def test_a_graph_that_is_not_free_in_its_batch_is_found(
    bundle: ModelBundle, classes: tuple[str, ...], tmp_path: Path
) -> None:
    """A reshape that mixes the batch with something else has the right result at batch 1 only."""
    model = onnx.load_model_from_string(bundle.graph)
    assert bundle.weights is not None
    head = model.graph.output[0].name
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = "before" if name == head else name
    shapes = {"mixed": [5, 1, 16, 32], "back": [1, 5, 16, 32]}
    for name, shape in shapes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape, np.int64), name))
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1), "add")
    )
    model.graph.node.extend(
        [
            onnx.helper.make_node("Reshape", ["before", "mixed"], ["a"]),
            onnx.helper.make_node("Add", ["a", "add"], ["b"]),
            onnx.helper.make_node("Reshape", ["b", "back"], [head]),
        ]
    )
    broken = ModelBundle(bundle.card, model.SerializeToString(), bundle.weights)
    with pytest.raises(UnknownOpError, match=r"Add node.*any batch"):
        Student.from_bundle(broken)


@pytest.mark.kit
@pytest.mark.parametrize("name", KIT_MODELS)
def test_every_model_of_the_kit_can_be_trained(kit: Path, name: str) -> None:
    """All of them as students, teachers too: outputs against ONNX Runtime, two images at once, and a gradient."""
    classes = tuple(f"class{index}" for index in range(KIT_MODELS[name]))
    request = ImportRequest(role="student", name=name, classes=classes)
    bundle = import_onnx(kit / "models" / f"{name}.onnx", request).bundle
    student = Student.from_bundle(bundle, verify=False)
    x = images(bundle, 2 if bundle.card.input.height < 512 else 1)  # the large ones are slow
    expected = ScoreSession.open(bundle).run(x)
    with torch.inference_mode():
        got = student(torch.from_numpy(x)).numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-3
    if bundle.card.input.width <= 512 and name.startswith("student"):
        scores = student(torch.from_numpy(x[:1]))
        scores.square().mean().backward()
        assert student.weights.grad is not None
        touched = [np.any(gradient != 0) for _, gradient in student.layout.tensors(student.weights.grad.numpy())]
        assert np.mean(touched) > 0.99


@pytest.fixture(scope="module")
def paper_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_paper_student(tmp_path_factory.mktemp("paper") / "paper.onnx")


class TestPaperStudent:
    """DeepLabV3 on MobileNetV2 at output stride 16, as the paper trains it."""

    def request(self, *, fold: bool) -> ImportRequest:
        classes = tuple(f"class{index}" for index in range(19))
        return ImportRequest(role="student", name="paper", classes=classes, fold_batch_norm=fold)

    def test_has_exactly_the_papers_number_of_weights(self, paper_path: Path) -> None:
        report = import_onnx(paper_path, self.request(fold=False))
        assert report.streamed_weights == 2_113_043
        assert report.norm_affine_weights == 33_088
        assert report.bundle.card.output.stride == 16
        kinds = [parameter.kind for parameter in report.bundle.card.parameters]
        assert kinds.count(ParameterKind.NORM_STAT) == 2 * report.kept_batch_norms == 108

    def test_folding_leaves_one_bias_for_scale_and_bias(self, paper_path: Path) -> None:
        report = import_onnx(paper_path, self.request(fold=True))
        assert report.streamed_weights == 2_113_043 - 33_088 // 2
        assert (report.folded_batch_norms, report.kept_batch_norms) == (54, 0)
        assert report.norm_affine_weights == 0

    @pytest.mark.parametrize("fold", [True, False])
    def test_can_be_trained(self, paper_path: Path, fold: bool) -> None:
        student = Student.from_bundle(import_onnx(paper_path, self.request(fold=fold)).bundle)
        x = torch.zeros(2, 3, 64, 128)
        assert student(x).shape == (2, 19, 4, 8)
        scores = student.subset_scores(x)
        assert scores.shape == (2, 19, 64, 128)
        torch.autograd.backward(nnf.cross_entropy(scores, torch.zeros(2, 64, 128, dtype=torch.int64)))
        assert student.weights.grad is not None
        assert bool(torch.isfinite(student.weights.grad).all())


def export_paper_student(path: Path) -> Path:
    """transformers' MobileNetV2 with its DeepLabV3 head; its unused last convolution does not reach the output."""
    import warnings

    from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            config = MobileNetV2Config(output_stride=16)
            config.num_labels = 19
            self.model = MobileNetV2ForSemanticSegmentation(config)
            for name, value in (*self.model.named_parameters(), *self.model.named_buffers()):
                if value.ndim == 1 and value.is_floating_point():  # equal tensors would be merged by the exporter
                    value.data.copy_(torch.rand_like(value) + (0.5 if "weight" in name or "var" in name else 0.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(x).logits
            return logits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits().eval(), (torch.zeros(1, 3, 64, 128),), str(path), opset_version=17, dynamo=False,
            input_names=["input"], output_names=["logits"],
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    return path
