"""A small ONNX file of the kind that exporters write: everything that an import has to tidy up is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ams.models.onnx_import import ImportRequest

SIZE = (16, 32)
CLASSES = ("road", "person", "sky")

MakeOnnx = Callable[..., Path]


def tensor(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def norm(rng: np.random.Generator, name: str, channels: int) -> list[onnx.TensorProto]:
    values = {
        "scale": rng.uniform(0.5, 1.5, channels),
        "bias": rng.normal(size=channels),
        "mean": rng.normal(size=channels),
        "var": rng.uniform(0.5, 2.0, channels),
    }
    return [tensor(f"{name}.{part}", value) for part, value in values.items()]


def norm_node(name: str, source: str, target: str, **attributes: Any) -> onnx.NodeProto:
    inputs = [source, *(f"{name}.{part}" for part in ("scale", "bias", "mean", "var"))]
    return helper.make_node("BatchNormalization", inputs, [target], name=name, **attributes)


@pytest.fixture
def make_onnx(tmp_path: Path) -> MakeOnnx:
    """Writes the file and returns its path; options change one thing each."""

    def make(
        *,
        seed: int = 0,
        batch: int | str = 1,
        elem_type: int = TensorProto.FLOAT,
        softmax: bool = False,
        shared_output: bool = False,
        producer: str = "somebody",
        extra_nodes: tuple[onnx.NodeProto, ...] = (),
        training_mode: int = 0,
        opset: int = 17,
    ) -> Path:
        rng = np.random.default_rng(seed)
        weights = [
            tensor("conv1.weight", rng.normal(size=(4, 3, 3, 3)) / 5),
            tensor("conv1.bias", rng.normal(size=4)),
            *norm(rng, "bn1", 4),
            tensor("depthwise.weight", rng.normal(size=(4, 1, 3, 3)) / 3),
            *norm(rng, "bn2", 4),
            tensor("up.weight", rng.normal(size=(4, 3, 2, 2)) / 2),
            *norm(rng, "bn3", 6),
            *norm(rng, "bn4", 10),
            tensor("slope", rng.uniform(0.1, 0.4, (10, 1, 1))),
            tensor("head.weight", rng.normal(size=(3, 10, 1, 1)) / 3),
            tensor("head.bias", rng.normal(size=3)),
            tensor("dead.weight", rng.normal(size=(5, 4, 1, 1))),
            tensor("unused", rng.normal(size=3)),
            tensor("columns", np.eye(32)),
        ]
        nodes = [
            helper.make_node(
                "Conv", ["image", "conv1.weight", "conv1.bias"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]
            ),
            norm_node("bn1", "c1", "n1", epsilon=1e-3),
            helper.make_node("Relu", ["n1"], ["r1"], doc_string="a remark"),
            helper.make_node("Identity", ["depthwise.weight"], ["depthwise.copy"]),
            helper.make_node("Conv", ["r1", "depthwise.copy"], ["c2"], pads=[1, 1, 1, 1], group=4),
            norm_node("bn2", "c2", "n2"),
            helper.make_node("ConvTranspose", ["r1", "up.weight"], ["c3"], strides=[2, 2], group=2),
            norm_node("bn3", "c3", "n3"),
            helper.make_node("Constant", [], ["scales"], value=tensor("", np.array([1, 1, 2, 2]))),
            helper.make_node("Resize", ["n2", "", "scales"], ["u2"], mode="linear"),
            helper.make_node("Concat", ["n3", "u2"], ["cat"], axis=1),
            norm_node("bn4", "cat", "n4", training_mode=training_mode),
            helper.make_node("PRelu", ["n4", "slope"], ["p4"]),
            helper.make_node("MatMul", ["p4", "columns"], ["m4"]),
            helper.make_node("Conv", ["m4", "head.weight", "head.bias"], ["head"]),
            helper.make_node("Conv", ["r1", "dead.weight"], ["nowhere"]),
            helper.make_node("Softmax", ["head"], ["scores"], axis=1)
            if softmax
            else helper.make_node("Identity", ["head"], ["scores"]),
            *extra_nodes,
        ]
        outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3, *SIZE])]
        if shared_output:
            outputs.append(helper.make_tensor_value_info("n2", TensorProto.FLOAT, [batch, 4, 8, 16]))
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("image", elem_type, [batch, 3, *SIZE])], outputs, weights
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], producer_name=producer, ir_version=8
        )
        path = tmp_path / f"model-{producer}.onnx"
        onnx.save(model, path)
        return path

    return make


@pytest.fixture
def request_student() -> ImportRequest:
    return ImportRequest(role="student", name="tiny", classes=CLASSES)
