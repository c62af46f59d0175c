"""A teacher that tells red, green and blue apart, students of various sizes, clips of plain colours."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ams.broker.memory import new_memory
from ams.core import label_map
from ams.core.card import InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind
from ams.core.label_map import LabelMaps
from ams.core.layout import Layout
from ams.core.messages import Clip, DeviceLabels, FrameStamp
from ams.core.preprocess import FramesNHWC
from ams.models.bundle import ModelBundle
from ams.models.store import DirectoryStore
from ams.ports import Broker, ClipQueue, LabelledClip, QueuedClip
from ams.video import encode_clip
from services.labeler.config import LabelerSettings
from services.labeler.metrics import LabelerMetrics
from services.labeler.service import LabelerService
from services.labeler.teacher import Teacher

WIDTH, HEIGHT = 64, 32
SID = "cam/cam0"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
TEACHER_CLASSES = ("red", "green", "blue")
DEADLINE_S = 10.0


def teacher_bundle(*, dynamic: bool = True, stride: int = 1, scores: int = 3) -> ModelBundle:
    """Scores are the colour channels, averaged over `stride` pixels."""
    batch: int | str = "N" if dynamic else 1
    weight = np.zeros((scores, 3, stride, stride), np.float32)
    for channel in range(3):
        weight[channel, channel] = 1 / stride**2
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["scores"], strides=[stride, stride])],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info(
                "scores", TensorProto.FLOAT, [batch, scores, HEIGHT // stride, WIDTH // stride]
            )
        ],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    card = ModelCard(
        name="colours",
        role="teacher",
        classes=TEACHER_CLASSES,
        input=InputSpec(name="image", height=HEIGHT, width=WIDTH, dynamic_batch=dynamic),
        output=OutputSpec(name="scores", stride=stride),
    )
    return ModelBundle(card, model.SerializeToString())


def student_bundle(
    classes: tuple[str, ...] = ("blue", "red"), *, width: int = WIDTH, height: int = HEIGHT, name: str = "student"
) -> ModelBundle:
    parameter = Parameter(name="w", shape=(2,), kind=ParameterKind.WEIGHT, exponent=-10)
    weights = np.zeros(2, np.float32)
    card = ModelCard(
        name=name,
        role="student",
        classes=classes,
        input=InputSpec(name="image", height=height, width=width),
        output=OutputSpec(name="scores"),
        parameters=(parameter,),
        weights_digest=Layout((parameter,)).digest(np.zeros(2, np.int32)).hex(),
    )
    return ModelBundle(card, b"a graph that nobody opens here", weights)


def plain(*names: str, width: int = WIDTH, height: int = HEIGHT) -> FramesNHWC:
    """One frame per colour name, [N, H, W, 3]."""
    return np.stack([np.full((height, width, 3), COLOURS.get(name, (255, 255, 255)), np.uint8) for name in names])


@dataclass
class Bench:
    """A labeler with everything around it."""

    broker: Broker
    store: DirectoryStore
    teacher: ModelBundle
    student: ModelBundle
    settings: LabelerSettings
    metrics: LabelerMetrics = field(default_factory=LabelerMetrics)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def queue(self) -> ClipQueue:
        return self.broker.clips(self.teacher.model_id)

    def clip(
        self, *names: str, sid: str = SID, model_id: str = "", width: int = WIDTH, height: int = HEIGHT,
        claimed: tuple[int, int] | None = None, own: bytes = b"", cut: int | None = None, codec: str = "h264",
    ) -> QueuedClip:  # fmt: skip
        """A clip of plain frames, as a gateway queues it; options make it wrong in one way each."""
        header = Clip(
            stream="cam0",
            clip_id=f"{next(self.numbers):032x}",
            model_id=model_id or self.student.model_id,
            codec=codec,
            width=(claimed or (width, height))[0],
            height=(claimed or (width, height))[1],
            boot_id="boot",
            sent_ns=10**9 * len(names),
            frames=tuple(FrameStamp(seq=n, t_ns=10**9 * n, version=0) for n in range(len(names))),
            labels=DeviceLabels(frame=0, bytes=len(own)) if own else None,
        )
        video = encode_clip(plain(*names, width=width, height=height), max_bytes=200_000, interval_s=1.0)
        return QueuedClip(sid, header.clip_id, header.model_dump_json().encode(), video[:cut] + own)

    async def admit(self, *clips: QueuedClip) -> None:
        for clip in clips:
            assert await self.queue.admit(clip, credit=64)

    async def labelled(self, count: int, sid: str = SID) -> list[LabelledClip]:
        """What the labeler has appended, once there is as much."""
        found: list[LabelledClip] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < count:
                found = list(await self.broker.labelled.read(sid))
                await asyncio.sleep(0.002)
        return found

    async def until(self, done: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not done():
                await asyncio.sleep(0.002)

    async def drained(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.queue.depth():
                await asyncio.sleep(0.002)

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def service(self, teacher: Teacher, **changes: object) -> LabelerService:
        settings = self.settings.model_copy(update=changes)
        return LabelerService(self.broker, self.store, teacher, self.queue, settings, self.metrics)

    @asynccontextmanager
    async def running(self, teacher: Teacher | None = None, **changes: object) -> AsyncIterator[asyncio.Task[None]]:
        """A labeler at work; leaving asks it to stop and waits until it has."""
        service = self.service(teacher or Teacher(self.teacher, 1), **changes)
        task = asyncio.create_task(service.run())
        try:
            yield task
        finally:
            service.stop()
            async with asyncio.timeout(DEADLINE_S):
                await task


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("services.labeler.service.TAKE_WAIT_S", 0.02)  # a labeler stops within this time
    store = DirectoryStore(tmp_path)
    teacher, student = teacher_bundle(), student_bundle()
    store.put(teacher)
    store.put(student)
    settings = LabelerSettings(
        broker_url="memory://labeler", models_dir=tmp_path, teacher="colours", name="l1", batch_wait_s=0.01,
        reclaim_idle_s=30, stop_s=2,
    )  # fmt: skip
    return Bench(new_memory(), store, teacher, student, settings)


def labels_of(clip: LabelledClip) -> LabelMaps:
    return label_map.decode(clip.labels)
