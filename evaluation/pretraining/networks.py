"""The shipped networks as ONNX graphs: layers written down one by one, weights drawn from a seed.

Plain convolutions with ReLU and a few additions, no normalisation: what a device runs is what is trained, and nothing
needs folding. Both answer at a quarter of the picture's size. Knows shapes; does not train.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from worlds.classes import CLASSES

OPSET = 17
WIDTH, HEIGHT = 256, 144
RESIDUAL_GAIN = 0.5
"""Initial size of what a residual block adds; 1 makes sums grow from block to block."""


class Drawing:
    """A graph under construction. Methods add a layer to what a tensor name stands for and return the new name."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._channels = {"input": 3}

    def conv(self, x: str, name: str, channels: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1,
             gain: float = 1.0, relu: bool = True) -> str:  # fmt: skip
        """A convolution that keeps the size (divided by `stride`), by default with a ReLU behind it."""
        fan_in = self._channels[x] * kernel * kernel
        scale = gain * np.sqrt((2 if relu else 1) / fan_in)
        weight = self._rng.normal(0, scale, (channels, self._channels[x], kernel, kernel))
        self._constant(f"{name}.weight", weight.astype(np.float32))
        self._constant(f"{name}.bias", np.zeros(channels, np.float32))
        pad = dilation * (kernel // 2)
        y = self._node(
            "Conv", [x, f"{name}.weight", f"{name}.bias"], name, channels, kernel_shape=[kernel] * 2, pads=[pad] * 4,
            strides=[stride] * 2, dilations=[dilation] * 2,
        )  # fmt: skip
        return self._node("Relu", [y], f"{name}.relu", channels) if relu else y

    def residual(self, x: str, name: str, *, dilation: int) -> str:
        """x plus a convolution of it."""
        y = self.conv(x, name, self._channels[x], dilation=dilation, gain=RESIDUAL_GAIN)
        return self._node("Add", [x, y], f"{name}.sum", self._channels[x])

    def join(self, x: str, y: str, name: str) -> str:
        """Channels of both."""
        return self._node("Concat", [x, y], name, self._channels[x] + self._channels[y], axis=1)

    def enlarge(self, x: str, name: str, factor: int = 2) -> str:
        """Bilinear."""
        self._constant(f"{name}.scales", np.array([1, 1, factor, factor], np.float32))
        return self._node(
            "Resize", [x, "", f"{name}.scales"], name, self._channels[x], mode="linear",
            coordinate_transformation_mode="half_pixel",
        )  # fmt: skip

    def save(self, path: Path, output: str, *, stride: int, batch: int | str) -> Path:
        """Write the graph whose answer is `output`; returns the path."""
        graph = helper.make_graph(
            [*self._nodes, helper.make_node("Identity", [output], ["logits"])],
            path.stem,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])],
            [helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, [batch, self._channels[output], HEIGHT // stride, WIDTH // stride]
            )],
            self._initializers,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        return path

    def _constant(self, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self._initializers.append(numpy_helper.from_array(value, name))

    def _node(self, op: str, inputs: list[str], name: str, channels: int, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self._channels[name] = channels
        return name


def draw_student(path: Path, seed: int) -> Path:
    """The student: 0.15 M weights, 0.13 G multiplications a picture."""
    d = Drawing(seed)
    half = d.conv("input", "half", 16, stride=2)
    quarter = d.conv(half, "quarter", 32, stride=2)
    x = d.conv(quarter, "eighth", 64, stride=2)
    for index, dilation in enumerate((1, 2, 4)):
        x = d.residual(x, f"block{index}", dilation=dilation)
    x = d.enlarge(d.conv(x, "squeeze", 32, kernel=1), "up")
    x = d.conv(d.join(x, quarter, "skip"), "fuse", 32)
    x = d.conv(x, "classes", len(CLASSES), kernel=1, relu=False)
    return d.save(path, x, stride=4, batch=1)


def draw_teacher(path: Path, seed: int) -> Path:
    """The teacher: 0.9 M weights, four times the student's work."""
    d = Drawing(seed)
    half = d.conv("input", "half", 24, stride=2)
    quarter = d.conv(half, "quarter", 48, stride=2)
    eighth = d.conv(quarter, "eighth", 96, stride=2)
    for index, dilation in enumerate((1, 2, 4)):
        eighth = d.residual(eighth, f"block{index}", dilation=dilation)
    x = d.conv(eighth, "sixteenth", 128, stride=2)
    x = d.residual(x, "context", dilation=2)
    x = d.conv(d.join(d.enlarge(x, "up8"), eighth, "skip8"), "fuse8", 96)
    x = d.enlarge(d.conv(x, "squeeze", 48, kernel=1), "up4")
    x = d.conv(d.join(x, quarter, "skip4"), "fuse4", 48)
    x = d.residual(x, "refine", dilation=1)
    x = d.conv(x, "classes", len(CLASSES), kernel=1, relu=False)
    return d.save(path, x, stride=4, batch="N")
