"""Networks for the street of blocks: a teacher that is right under every light, a student that has only seen the day.

The teacher is written down, not trained: a pixel belongs to the class whose nearest prototype colour is nearest,
which is one 1x1 convolution and a maximum. The student is a small convolutional network, trained here for a few
seconds with the same code that the trainer uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ams.core.selection import FullSelection
from ams.learn.adam import MaskedAdam
from ams.learn.phase import Batch, DistillationPhase, PhaseSettings
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.models.onnx_import import ImportRequest, import_onnx
from tests.blocks.street import CLASSES, COLOURS, PALETTE, BlockStreet

OPSET = 17
WIDTHS = (12, 24, 32)
"""Channels of the student's three convolutions."""


def teacher(directory: Path, street: BlockStreet) -> ModelBundle:
    """The teacher for frames of the street's size, through the ordinary import."""
    nodes, initializers, scores = [], [], []
    for light, colours in COLOURS.items():
        prototypes = np.array(colours, np.float32) / 255
        # -|x - c|^2 + |x|^2 = 2 c.x - |c|^2: linear in x, and |x|^2 is the same for every class.
        weight = (2 * prototypes)[:, :, None, None]
        bias = -np.square(prototypes).sum(axis=1)
        initializers += [numpy_helper.from_array(weight, f"w_{light}"), numpy_helper.from_array(bias, f"b_{light}")]
        nodes.append(helper.make_node("Conv", ["input", f"w_{light}", f"b_{light}"], [f"s_{light}"]))
        scores.append(f"s_{light}")
    nodes.append(helper.make_node("Max", scores, ["nearest"]))
    initializers.append(numpy_helper.from_array(np.array(20.0, np.float32), "sharpness"))
    nodes.append(helper.make_node("Mul", ["nearest", "sharpness"], ["logits"]))
    path = directory / "blocks-teacher.onnx"
    _save(path, nodes, initializers, street, batch="N")
    request = ImportRequest(
        role="teacher", name="blocks-teacher", classes=CLASSES, palette=PALETTE, mean=(0, 0, 0), std=(1, 1, 1),
        output_kind="logits", licence="Apache-2.0",
    )  # fmt: skip
    return import_onnx(path, request).bundle


def student(directory: Path, street: BlockStreet, *, steps: int = 120, seed: int = 0) -> ModelBundle:
    """A student for frames of the street's size, trained for `steps` steps on other streets by day."""
    rng = np.random.default_rng(seed)
    nodes, initializers, channels, name = [], [], 3, "input"
    for layer, width in enumerate(WIDTHS):
        weight = rng.normal(0, np.sqrt(2 / (9 * channels)), (width, channels, 3, 3)).astype(np.float32)
        initializers += [
            numpy_helper.from_array(weight, f"conv{layer}.weight"),
            numpy_helper.from_array(np.zeros(width, np.float32), f"conv{layer}.bias"),
        ]
        stride = 2 if layer == 0 else 1
        nodes += [
            helper.make_node(
                "Conv", [name, f"conv{layer}.weight", f"conv{layer}.bias"], [f"c{layer}"],
                kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride],
            ),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]),
        ]  # fmt: skip
        channels, name = width, f"r{layer}"
    weight = rng.normal(0, np.sqrt(1 / channels), (len(CLASSES), channels, 1, 1)).astype(np.float32)
    initializers += [
        numpy_helper.from_array(weight, "head.weight"),
        numpy_helper.from_array(np.zeros(len(CLASSES), np.float32), "head.bias"),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
    ]
    nodes += [
        helper.make_node("Conv", [name, "head.weight", "head.bias"], ["coarse"]),
        helper.make_node("Resize", ["coarse", "", "scales"], ["logits"], mode="linear"),
    ]
    path = directory / "blocks-student.onnx"
    _save(path, nodes, initializers, street, batch=1)
    request = ImportRequest(
        role="student", name="blocks-student", classes=CLASSES, palette=PALETTE, licence="Apache-2.0"
    )
    return _pretrain(import_onnx(path, request).bundle, street, steps=steps, rng=rng)


def _pretrain(bundle: ModelBundle, street: BlockStreet, *, steps: int, rng: np.random.Generator) -> ModelBundle:
    module = Student.from_bundle(bundle)
    phase = DistillationPhase(
        module, MaskedAdam(bundle.layout.size, lr=3e-3), FullSelection(), PhaseSettings(steps=steps, batch=4, lr=3e-3)
    )

    def batches() -> Iterator[Batch]:
        for _ in range(steps):
            days = [
                BlockStreet(street.width, street.height, "day", seed=int(rng.integers(1000, 2000))) for _ in range(4)
            ]
            moments = rng.uniform(0, 60, 4)
            yield (
                np.stack([day.frame(t) for day, t in zip(days, moments, strict=True)]),
                np.stack([day.labels(t) for day, t in zip(days, moments, strict=True)]),
            )

    result = phase.run(bundle.version0, batches())
    version0 = bundle.layout.to_grid(result.weights)
    card = bundle.card.model_copy(update={"weights_digest": bundle.layout.digest(version0).hex()})
    return ModelBundle(card, bundle.graph, bundle.layout.to_float(version0))


def _save(
    path: Path, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto], street: BlockStreet, batch: int | str
) -> None:
    shape = [batch, 3, street.height, street.width]
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(CLASSES), *shape[2:]])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
