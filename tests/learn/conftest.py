"""Small networks for the learner: a hand-written torch module, exported to ONNX as a person would export it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as nnf
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ams.models.bundle import ModelBundle
from ams.models.onnx_import import ImportRequest, import_onnx

HEIGHT, WIDTH, CLASSES = 16, 32, 5

torch.set_num_threads(1)


class HandWritten(nn.Module):
    """What real exports hold: grouped and dilated convolutions, a norm that cannot be folded, PReLU, shuffles."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.BatchNorm2d(19)
        self.act = nn.PReLU(19)
        self.gate = nn.Linear(19, 19)
        self.up = nn.ConvTranspose2d(18, 6, 2, stride=2)
        self.head = nn.Conv2d(6, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        stem = nnf.relu6(self.stem(x))
        small = nnf.avg_pool2d(x, 3, stride=2, padding=1)
        joined = torch.cat([self.grouped(stem), self.depthwise(stem), small], dim=1)
        y = self.act(self.norm(joined))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3)))).view(-1, 19, 1, 1)
        y = y[:, :18]
        batch, channels, height, width = y.shape
        y = y.view(batch, 3, 6, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        y = self.up(nnf.max_pool2d(y, 2))
        return nnf.interpolate(self.head(y), scale_factor=2, mode="bilinear", align_corners=True)


def export(module: nn.Module, path: Path, size: tuple[int, int], **options: object) -> Path:
    """Export at batch 1 with fixed shapes, so every reshape has a constant 1 in front."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (torch.zeros(1, 3, *size),), str(path), opset_version=17, dynamo=False,
            input_names=["input"], output_names=["scores"], **options,  # type: ignore[arg-type]
        )  # fmt: skip
    return path


@pytest.fixture
def hand_written() -> HandWritten:
    torch.manual_seed(0)
    module = HandWritten()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        assert module.norm.running_mean is not None
        assert module.norm.running_var is not None
        module.norm.running_mean.normal_()
        module.norm.running_var.uniform_(0.5, 2.0)
    return module.eval()


@pytest.fixture
def classes() -> tuple[str, ...]:
    return tuple(f"class{index}" for index in range(CLASSES))


@pytest.fixture
def bundle(hand_written: HandWritten, classes: tuple[str, ...], tmp_path: Path) -> ModelBundle:
    path = export(hand_written, tmp_path / "hand.onnx", (HEIGHT, WIDTH))
    return import_onnx(path, ImportRequest(role="student", name="hand", classes=classes)).bundle


@pytest.fixture
def import_module(tmp_path: Path) -> Callable[[nn.Module, tuple[str, ...]], ModelBundle]:
    """Exports a torch module and imports it as a student with these classes."""

    def make(module: nn.Module, names: tuple[str, ...]) -> ModelBundle:
        path = export(module, tmp_path / "module.onnx", (HEIGHT, WIDTH))
        return import_onnx(path, ImportRequest(role="student", name="module", classes=names)).bundle

    return make


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (4, HEIGHT, WIDTH, 3), np.uint8)


MakeModel = Callable[..., onnx.ModelProto]


@pytest.fixture
def make_model() -> MakeModel:
    """An ONNX model of a few nodes from `x` [1, C, H, W] to `y`."""

    def make(
        nodes: Sequence[onnx.NodeProto],
        *,
        shape: Sequence[int | str] = (1, 4, 6, 8),
        constants: dict[str, np.ndarray] | None = None,
        opset: int = 17,
        output: Sequence[int | str | None] | None = None,
        domain: str = "",
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            list(nodes),
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
            [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
        )
        imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        return helper.make_model(graph, opset_imports=imports, ir_version=8)

    return make
