"""What the edge tests share: a tiny student, patches for it, a small video file, and runtimes that fail on demand."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from onnx import TensorProto, helper

from ams.core.card import InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind
from ams.core.grid import grid_exponent, snap
from ams.core.layout import FloatVector, IntVector, Layout
from ams.core.patch import Patch
from ams.errors import BackendError
from ams.models.bundle import ModelBundle

CLASSES = ("road", "car", "sky", "tree", "person")
SUBSET = ("road", "car", "tree", "person")
WIDTH, HEIGHT = 64, 48


def _external(name: str, tensor: FloatVector, offset: int) -> TensorProto:
    """An initializer whose data lie in weights.bin: what a skeleton holds."""
    proto = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=tensor.shape)
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", offset), ("length", tensor.nbytes)):
        proto.external_data.add(key=key, value=str(value))
    return proto


def make_student(*, channels: int = 4, stride: int = 1, subset: tuple[str, ...] | None = SUBSET) -> ModelBundle:
    """Three convolutions from RGB to five classes, with seeded weights on their grids."""
    rng = np.random.default_rng(3)
    shapes = {
        "first.weight": (channels, 3, 3, 3),
        "first.bias": (channels,),
        "second.weight": (channels, channels, 3, 3),
        "second.bias": (channels,),
        "last.weight": (len(CLASSES), channels, 1, 1),
        "last.bias": (len(CLASSES),),
    }
    tensors = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    parameters = tuple(
        Parameter(name=name, shape=tensor.shape, kind=ParameterKind.WEIGHT, exponent=grid_exponent(tensor))
        for name, tensor in tensors.items()
    )
    layout = Layout(parameters)
    n = np.concatenate([snap(tensors[p.name].ravel(), p.exponent) for p in parameters])
    initializers, offset = [], 0
    for name, tensor in tensors.items():
        initializers.append(_external(name, tensor, offset))
        offset += tensor.nbytes
    nodes = [
        helper.make_node(
            "Conv", ["image", "first.weight", "first.bias"], ["a"], pads=[1, 1, 1, 1], strides=[stride, stride]
        ),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second.weight", "second.bias"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "last.weight", "last.bias"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info(
                "scores", TensorProto.FLOAT, [1, len(CLASSES), HEIGHT // stride, WIDTH // stride]
            )
        ],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = ModelCard(
        name="tiny",
        role="student",
        classes=CLASSES,
        subset=subset,
        input=InputSpec(
            name="image", height=HEIGHT, width=WIDTH, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        ),
        output=OutputSpec(name="scores", stride=stride),
        parameters=parameters,
        weights_digest=layout.digest(n).hex(),
    )
    return ModelBundle(card, model.SerializeToString(), layout.to_float(n))


def changed(bundle: ModelBundle, n: IntVector, *, seed: int, share: float = 1.0) -> IntVector:
    """Weights near `n`, a share of them changed by up to an eighth of the grid's headroom."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-(1 << 17), 1 << 17, bundle.layout.size).astype(np.int32)
    return n + values * (rng.random(bundle.layout.size) < share)


def patch_bytes(bundle: ModelBundle, base: tuple[int, IntVector], target: tuple[int, IntVector]) -> bytes:
    """The patch from one (version, weights) to another."""
    return Patch.between(bundle.layout, bundle.model_id, base, target).encode(bundle.layout)


@pytest.fixture(scope="session")
def student() -> ModelBundle:
    return make_student()


@dataclass
class FakeRuntime:
    """A runtime that gives label `label` everywhere, and fails where it is told to."""

    label: int
    sound: bool = True

    def predict(self, frame_HWC: np.ndarray) -> np.ndarray:
        return np.full((HEIGHT, WIDTH), self.label, np.uint8)

    def check(self, frame_HWC: np.ndarray) -> None:
        if not self.sound:
            raise BackendError("scores that are not finite")


def write_video(path: Path, *, count: int, fps: int = 10, width: int = 96, height: int = 64) -> Path:
    """A small file with a moving box; frame k has the brightness 20 + 2 k in its top left corner."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "15", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(count):
            picture = np.full((height, width, 3), 90, np.uint8)
            picture[:16, :16] = min(255, 20 + 2 * index)
            left = (3 * index) % (width - 24)
            picture[30:50, left : left + 24] = (200, 60, 30)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Tiny:
    """The makers above, for tests that need more than one student or video."""

    make_student = staticmethod(make_student)
    changed = staticmethod(changed)
    patch_bytes = staticmethod(patch_bytes)
    write_video = staticmethod(write_video)
    Runtime = FakeRuntime


@pytest.fixture(scope="session")
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds at 10 fps."""
    return write_video(tmp_path_factory.mktemp("video") / "street.mp4", count=80)


@pytest.fixture(scope="session")
def model_dir(student: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    student.save(path)
    return path
