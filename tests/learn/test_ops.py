"""Every rule against ONNX Runtime, at batch 1 and at batch 2, and every refusal by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from ams.core.card import Parameter, ParameterKind
from ams.core.layout import Layout
from ams.errors import CardError, UnknownOpError
from ams.learn.graph import trainable_module

NO_WEIGHTS = Layout((Parameter(name="none", shape=(1,), kind=ParameterKind.WEIGHT),))
RNG = np.random.default_rng(0)

MakeModel = Callable[..., onnx.ModelProto]


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def node(op: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, ["x", *inputs], list(outputs), name=f"the_{op.lower()}", **attributes)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def run_torch(model: onnx.ModelProto, x: np.ndarray, **options: Any) -> np.ndarray:
    held = onnx.ModelProto()
    held.CopyFrom(model)
    held.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "none"))
    module = trainable_module(held, NO_WEIGHTS, **options)
    return np.asarray(module(torch.zeros(1), torch.from_numpy(x)).numpy())


def check(model: onnx.ModelProto, *, atol: float = 1e-5) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    dims = [dim.dim_value or 1 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = floats(2, *dims[1:])
    expected = [session.run(None, {"x": x[index : index + 1]})[0] for index in range(2)]
    for on_cpu in (True, False):
        np.testing.assert_allclose(run_torch(model, x[:1], on_cpu=on_cpu), expected[0], atol=atol, rtol=1e-4)
        np.testing.assert_allclose(run_torch(model, x, on_cpu=on_cpu), np.concatenate(expected), atol=atol, rtol=1e-4)


UNARY = [
    "Relu",
    "Sigmoid",
    "Tanh",
    "Exp",
    "Neg",
    "Abs",
    "Erf",
    "HardSwish",
    "Softplus",
    "Softsign",
    "Identity",
    "Dropout",
]


@pytest.mark.parametrize("op", UNARY)
def test_unary(make_model: MakeModel, op: str) -> None:
    check(make_model([node(op)]))


CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "clip6": ([node("Clip", "a", "b")], {"a": number(0), "b": number(6)}),
    "clip_low": ([node("Clip", "a")], {"a": number(-0.3)}),
    "clip_none": ([node("Clip")], {}),
    "leaky": ([node("LeakyRelu", alpha=0.2)], {}),
    "elu": ([node("Elu", alpha=0.7)], {}),
    "hard_sigmoid": ([node("HardSigmoid", alpha=1 / 6, beta=0.5)], {}),
    "hard_sigmoid_own": ([node("HardSigmoid", alpha=0.3, beta=0.4)], {}),
    "prelu_channel": ([node("PRelu", "a")], {"a": floats(4, 1, 1)}),
    "prelu_one": ([node("PRelu", "a")], {"a": floats(1)}),
    "prelu_map": ([node("PRelu", "a")], {"a": floats(4, 6, 8)}),
    "add": ([node("Add", "a")], {"a": floats(4, 1, 1)}),
    "mul_number": ([node("Mul", "a")], {"a": number(0.5)}),
    "div": ([node("Div", "a")], {"a": number(2.0).reshape(1)}),
    "sub_from": ([helper.make_node("Sub", ["a", "x"], ["y"])], {"a": number(1)}),
    "pow": ([node("Pow", "a")], {"a": number(2)}),
    "max": ([node("Max", "a", "b")], {"a": floats(1, 4, 1, 1), "b": number(0.1)}),
    "sum": ([node("Sum", "x")], {}),
    "softmax": ([node("Softmax", axis=1)], {}),
    "log_softmax": ([node("LogSoftmax", axis=-1)], {}),
    "where": (
        [node("Greater", "a", outputs=("c",)), helper.make_node("Where", ["c", "x", "a"], ["y"])],
        {"a": floats(1)},
    ),
    "cast": ([node("Cast", to=1)], {}),
    "conv": ([node("Conv", "w", "b", pads=[1, 1, 1, 1])], {"w": floats(5, 4, 3, 3), "b": floats(5)}),
    "conv_stride": ([node("Conv", "w", strides=[2, 2], pads=[0, 0, 1, 1])], {"w": floats(5, 4, 3, 3)}),
    "conv_group": ([node("Conv", "w", group=2, dilations=[2, 2], pads=[2, 2, 2, 2])], {"w": floats(6, 2, 3, 3)}),
    "conv_depthwise": ([node("Conv", "w", group=4, auto_pad="SAME_UPPER")], {"w": floats(4, 1, 3, 3)}),
    "conv_same_lower": ([node("Conv", "w", strides=[2, 2], auto_pad="SAME_LOWER")], {"w": floats(4, 4, 3, 3)}),
    "conv_valid": ([node("Conv", "w", auto_pad="VALID")], {"w": floats(4, 4, 3, 3)}),
    "deconv": ([node("ConvTranspose", "w", "b", strides=[2, 2])], {"w": floats(4, 3, 2, 2), "b": floats(3)}),
    "deconv_pads": (
        [node("ConvTranspose", "w", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], group=2)],
        {"w": floats(4, 3, 3, 3)},
    ),
    "deconv_uneven": ([node("ConvTranspose", "w", strides=[2, 2], pads=[1, 1, 0, 0])], {"w": floats(4, 3, 3, 3)}),
    "batch_norm": (
        [node("BatchNormalization", "s", "b", "m", "v", epsilon=1e-3, momentum=0.5)],
        {"s": floats(4), "b": floats(4), "m": floats(4), "v": np.abs(floats(4)) + 0.5},
    ),
    "instance_norm": ([node("InstanceNormalization", "s", "b")], {"s": floats(4), "b": floats(4)}),
    "layer_norm": ([node("LayerNormalization", "s", "b", axis=-1)], {"s": floats(8), "b": floats(8)}),
    "average_pool": ([node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {}),
    "average_pool_padding": (
        [node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)],
        {},
    ),
    "average_pool_uneven": ([node("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1])], {}),
    "average_pool_uneven_padding": (
        [node("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1)],
        {},
    ),
    "average_pool_ceil": ([node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}),
    "max_pool": ([node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {}),
    "max_pool_uneven": ([node("MaxPool", kernel_shape=[2, 2], pads=[0, 0, 1, 1])], {}),
    "max_pool_dilated": ([node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2])], {}),
    "global_average": ([node("GlobalAveragePool")], {}),
    "global_max": ([node("GlobalMaxPool")], {}),
    "reduce_mean": ([node("ReduceMean", axes=[2, 3], keepdims=0)], {}),
    "reduce_sum": ([node("ReduceSum", "a")], {"a": ints(1)}),
    "reduce_max": ([node("ReduceMax", axes=[-1])], {}),
    "reshape_batch1": ([node("Reshape", "s")], {"s": ints(1, 2, 2, 6, 8)}),
    "reshape_minus": ([node("Reshape", "s")], {"s": ints(1, -1, 8)}),
    "reshape_zero": ([node("Reshape", "s")], {"s": ints(0, 0, -1)}),
    "flatten": ([node("Flatten")], {}),
    "transpose": ([node("Transpose", perm=[0, 2, 3, 1])], {}),
    "squeeze": (
        [node("GlobalAveragePool", outputs=("g",)), helper.make_node("Squeeze", ["g", "a"], ["y"])],
        {"a": ints(2, 3)},
    ),
    "unsqueeze": ([node("Unsqueeze", "a")], {"a": ints(1, -1)}),
    "concat": ([node("Concat", "x", axis=1)], {}),
    "split": (
        [node("Split", "s", outputs=("a", "b"), axis=1), helper.make_node("Concat", ["b", "a"], ["y"], axis=1)],
        {"s": ints(1, 3)},
    ),
    "split_even": (
        [node("Split", outputs=("a", "b"), axis=3), helper.make_node("Sub", ["b", "a"], ["y"])],
        {},
    ),
    "slice": (
        [node("Slice", "s", "e", "a", "t")],
        {"s": ints(1, -6), "e": ints(9999, -1), "a": ints(1, 3), "t": ints(1, 2)},
    ),
    "slice_batch_whole": ([node("Slice", "s", "e")], {"s": ints(0, 1), "e": ints(9999, 3)}),
    "gather": ([node("Gather", "i", axis=1)], {"i": ints(3, 0, -1)}),
    "gather_one": ([node("Gather", "i", axis=1)], {"i": np.array(2, np.int64)}),
    "expand": (
        [node("GlobalAveragePool", outputs=("g",)), helper.make_node("Expand", ["g", "s"], ["y"])],
        {"s": ints(1, 4, 6, 8)},
    ),
    "pad": ([node("Pad", "p", "v")], {"p": ints(0, 0, 1, 2, 0, 0, 0, 1), "v": number(0.5)}),
    "pad_reflect": ([node("Pad", "p", mode="reflect")], {"p": ints(0, 0, 1, 2, 0, 0, 0, 1)}),
    "pad_edge": ([node("Pad", "p", mode="edge")], {"p": ints(0, 0, 1, 2, 0, 0, 3, 1)}),
    "pad_channels": ([node("Pad", "p")], {"p": ints(0, 1, 0, 0, 0, 2, 0, 0)}),
    "depth_to_space": ([node("DepthToSpace", blocksize=2)], {}),
    "depth_to_space_crd": ([node("DepthToSpace", blocksize=2, mode="CRD")], {}),
    "space_to_depth": ([node("SpaceToDepth", blocksize=2)], {}),
    "matmul_right": ([node("MatMul", "m")], {"m": floats(8, 5)}),
    "matmul_left": ([helper.make_node("MatMul", ["m", "x"], ["y"])], {"m": floats(3, 6)}),
    "gemm": (
        [node("Flatten", outputs=("f",)), helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1)],
        {"w": floats(7, 192) / 10, "b": floats(7)},
    ),
    "gemm_scaled": (
        [node("Flatten", outputs=("f",)), helper.make_node("Gemm", ["f", "w", "b"], ["y"], alpha=0.5, beta=2.0)],
        {"w": floats(192, 7) / 10, "b": floats(1, 7)},
    ),
    "shape_arithmetic": (
        [
            node("Shape", outputs=("s",)),
            helper.make_node("Gather", ["s", "zero"], ["n"]),
            helper.make_node("Unsqueeze", ["n", "zero1"], ["n1"]),
            helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
            node("Reshape", "target"),
        ],
        {"zero": np.array(0, np.int64), "zero1": ints(0), "rest": ints(8, 24)},
    ),
    "shape_of_part": (
        [
            node("Shape", outputs=("s",), start=2),
            helper.make_node("Concat", ["nc", "s"], ["target"], axis=0),
            node("Reshape", "target"),
        ],
        {"nc": ints(-1, 4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rule_agrees_with_onnx_runtime(make_model: MakeModel, case: str) -> None:
    nodes, constants = CASES[case]
    check(make_model(nodes, constants={name: np.asarray(value) for name, value in constants.items()}))


@pytest.mark.parametrize("size", [(12, 16), (9, 13), (3, 4), (7, 3)])
@pytest.mark.parametrize(
    "transform", ["align_corners", "half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric"]
)
def test_resize_linear_to_sizes(make_model: MakeModel, size: tuple[int, int], transform: str) -> None:
    resize = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode="linear", coordinate_transformation_mode=transform
    )
    opset = 19 if transform == "half_pixel_symmetric" else 17
    check(make_model([resize], constants={"sizes": ints(1, 4, *size)}, opset=opset), atol=1e-4)


@pytest.mark.parametrize("scale", [2.0, 0.5, 1.3])
@pytest.mark.parametrize("transform", ["half_pixel", "asymmetric"])
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_resize_nearest_by_scales(make_model: MakeModel, scale: float, transform: str, rounding: str) -> None:
    resize = helper.make_node(
        "Resize", ["x", "", "scales"], ["y"],
        mode="nearest", coordinate_transformation_mode=transform, nearest_mode=rounding,
    )  # fmt: skip
    check(make_model([resize], constants={"scales": np.array([1, 1, scale, scale], np.float32)}))


@pytest.mark.parametrize("scale", [2.0, 1.3])
def test_resize_linear_by_scales(make_model: MakeModel, scale: float) -> None:
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")
    check(make_model([resize], constants={"scales": np.array([1, 1, scale, scale], np.float32)}), atol=1e-4)


@pytest.mark.parametrize("transform", ["half_pixel", "align_corners"])
def test_resize_cubic(make_model: MakeModel, transform: str) -> None:
    resize = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode="cubic", coordinate_transformation_mode=transform
    )
    check(make_model([resize], constants={"sizes": ints(1, 4, 12, 16)}), atol=1e-4)


@pytest.mark.parametrize(("after", "before"), [((3, 4), (6, 8)), ((4, 5), (6, 8)), ((6, 8), (6, 8))])
def test_pooling_matrices_become_one_pooling(
    make_model: MakeModel, after: tuple[int, int], before: tuple[int, int]
) -> None:
    def matrix(rows: int, columns: int) -> np.ndarray:
        return np.stack(
            [
                np.mean(np.eye(columns)[row * columns // rows : -(-(row + 1) * columns // rows)], axis=0)
                for row in range(rows)
            ]
        ).astype(np.float32)

    nodes = [helper.make_node("MatMul", ["l", "x"], ["m"]), helper.make_node("MatMul", ["m", "r"], ["y"])]
    model = make_model(nodes, constants={"l": matrix(after[0], before[0]), "r": matrix(after[1], before[1]).T})
    check(model)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "none"))
    called = [str(item.target) for item in trainable_module(model, NO_WEIGHTS).graph.nodes]
    assert any("adaptive_avg_pool2d" in target for target in called)
    assert not any("matmul" in target for target in called)


def test_channels_picked_before_the_last_resize_are_those_of_the_output(make_model: MakeModel) -> None:
    resize = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear")
    x = floats(2, 4, 6, 8)
    for nodes in ([resize], [resize, helper.make_node("Relu", ["y0"], ["y"])]):
        model = make_model(nodes, constants={"sizes": ints(1, 4, 12, 16)})
        if len(nodes) == 2:
            model.graph.node[0].output[0] = "y0"
        np.testing.assert_allclose(run_torch(model, x, channels=[3, 1]), run_torch(model, x)[:, [3, 1]], atol=1e-6)


REFUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray], str]] = {
    "unknown": ([node("Einsum", equation="nchw->nhwc")], {}, r"Einsum node 'the_einsum'.*no rule"),
    "attribute": ([node("Resize", "", "s", mode="linear", antialias=1)], {"s": np.ones(4, np.float32)}, "antialias"),
    "crop": (
        [node("Resize", "", "s", mode="linear", coordinate_transformation_mode="tf_crop_and_resize")],
        {"s": np.array([1, 1, 2, 2], np.float32)},
        "tf_crop_and_resize",
    ),
    "channels": ([node("Resize", "", "s")], {"s": np.array([1, 2, 2, 2], np.float32)}, "batch or channels"),
    "mean_over_batch": ([node("ReduceMean", axes=[0])], {}, "batch"),
    "softmax_over_batch": ([node("Softmax", axis=0)], {}, "batch"),
    "batch_moved": ([node("Transpose", perm=[1, 0, 2, 3])], {}, "batch"),
    "batch_joined": ([node("Concat", "x", axis=0)], {}, "batch"),
    "batch_sliced": ([node("Gather", "i", axis=0)], {"i": ints(0)}, "batch"),
    "batch_covered": ([node("Unsqueeze", "a")], {"a": ints(0)}, "batch"),
    "training": (
        [node("BatchNormalization", "s", "s", "s", "s", training_mode=1)],
        {"s": np.ones(4, np.float32)},
        "training_mode",
    ),
    "indices": ([node("MaxPool", kernel_shape=[2, 2], outputs=("y", "i"))], {}, "indices"),
    "cast": ([node("Cast", to=11)], {}, "cast"),
    "step": ([node("Slice", "s", "e", "a", "t")], {"s": ints(9), "e": ints(0), "a": ints(2), "t": ints(-1)}, "step"),
    "trans_a": (
        [node("Flatten", outputs=("f",)), helper.make_node("Gemm", ["f", "w"], ["y"], transA=1)],
        {"w": np.ones((1, 3), np.float32)},
        "transA",
    ),
    "pad_mode": ([node("Pad", "p", mode="reflect")], {"p": ints(0, 1, 0, 0, 0, 0, 0, 0)}, "reflect"),
    "cubic_a": (
        [node("Resize", "", "s", mode="cubic", cubic_coeff_a=-0.5)],
        {"s": np.array([1, 1, 2, 2], np.float32)},
        "cubic",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(make_model: MakeModel, case: str) -> None:
    nodes, constants, message = REFUSED[case]
    with pytest.raises(UnknownOpError, match=message) as caught:
        run_torch(make_model(nodes, constants=constants), floats(1, 4, 6, 8))
    assert "xport" in str(caught.value)


def test_an_attribute_that_no_rule_reads_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(UnknownOpError, match="attribute novelty"):
        run_torch(make_model([node("Relu", novelty=1)]), floats(1, 4, 6, 8))


def test_a_foreign_domain_is_refused(make_model: MakeModel) -> None:
    foreign = node("Relu", domain="com.example")
    with pytest.raises(UnknownOpError, match=r"com\.example"):
        run_torch(make_model([foreign], domain="com.example"), floats(1, 4, 6, 8))


def test_a_shape_computed_from_the_image_is_refused(make_model: MakeModel) -> None:
    nodes = [node("Cast", outputs=("s",), to=7), node("Reshape", "s")]
    with pytest.raises(UnknownOpError, match="computed from the image"):
        run_torch(make_model(nodes), floats(1, 4, 6, 8))


def test_a_layout_that_does_not_fit_is_refused(make_model: MakeModel) -> None:
    model = make_model([node("Add", "w")], constants={"w": floats(4, 1, 1)})
    for layout, message in (
        (Layout((Parameter(name="w", shape=(4,), kind=ParameterKind.WEIGHT),)), r"shape \(4,\)"),
        (NO_WEIGHTS, "does not have: none"),
    ):
        with pytest.raises(CardError, match=message):
            trainable_module(model, layout)
