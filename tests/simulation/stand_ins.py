"""Cheap, deterministic stand-ins for the heavy parts: models, teacher, video, training; and the modules' clocks.

Each keeps the state machine around it real. A student is a flat vector of grid integers that nobody runs; a training
phase is a random sparse change; a clip is random bytes, and one that begins with `BAD` cannot be decoded.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

import edge_agent.uplink
import services.gateway.service
import services.labeler.service
import services.trainer.publisher
import services.trainer.service
import services.trainer.session
import services.trainer.worker
from ams.core.card import InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind
from ams.core.layout import Layout
from ams.errors import BackendError, ModelError, VideoError
from ams.learn.phase import PhaseResult
from ams.models.bundle import ModelBundle
from tests.simulation.broker import EPOCH_S
from tests.simulation.loop import PROCESS, VirtualLoop

SIDE = 16
CLASSES = ("road", "car", "sky")
BAD = b"bad clip"

SMALL = (7, 40, 300)
LARGE = (5000, 40_000)
"""Sizes of tensors. A keyframe of the large student, once trained, travels in parts."""


def make_student(sizes: tuple[int, ...]) -> ModelBundle:
    """A student of tensors of these sizes."""
    parameters = tuple(
        Parameter(name=f"t{index}", shape=(size,), kind=ParameterKind.WEIGHT, exponent=-16)
        for index, size in enumerate(sizes)
    )
    layout = Layout(parameters)
    n = np.random.default_rng(7).integers(-1000, 1000, layout.size).astype(np.int32)
    card = ModelCard(
        name="tiny", role="student", classes=CLASSES, input=InputSpec(name="image", height=SIDE, width=SIDE),
        output=OutputSpec(name="scores"), parameters=parameters, weights_digest=layout.digest(n).hex(),
    )  # fmt: skip
    return ModelBundle(card, b"a graph that nobody opens here", layout.to_float(n))


STUDENTS = {False: make_student(SMALL), True: make_student(LARGE)}
TEACHER = ModelBundle(
    ModelCard(
        name="teacher", role="teacher", classes=CLASSES, output=OutputSpec(name="scores"),
        input=InputSpec(name="image", height=SIDE, width=SIDE, dynamic_batch=True),
    ),
    b"a graph that nobody opens here",
)  # fmt: skip


class Store:
    """A model store that holds one student."""

    def __init__(self, bundle: ModelBundle) -> None:
        self._bundle = bundle

    def get(self, model_id: str) -> ModelBundle:
        """The student."""
        if model_id != self._bundle.model_id:
            raise ModelError(f"no model {model_id}")
        return self._bundle


class Shelf:
    """`services.trainer.ownership.StudentShelf`, whose students do not run."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, model_id: str) -> tuple[ModelBundle, Any]:
        """Bundle and module."""
        return self._store.get(model_id), StillStudent()


class StillStudent:
    """A student that sees road everywhere."""

    def load(self, weights: np.ndarray) -> None:
        """Take weights."""

    def predict(self, frames_NHWC: np.ndarray) -> np.ndarray:
        """Road."""
        return np.zeros(frames_NHWC.shape[:3], np.uint8)


class StillTeacher:
    """A teacher that sees road everywhere, and fails as often as it is told to."""

    card = TEACHER.card

    def __init__(self, fails: Callable[[str], bool]) -> None:
        self._fails = fails

    def check(self) -> None:
        """Try a black frame."""
        if self._fails("teacher_broken"):
            raise ModelError("the teacher fails on everything")

    def label(self, frames_NHWC: np.ndarray) -> np.ndarray:
        """Road."""
        if self._fails("teacher_fails"):
            raise ModelError("the teacher fails on this")
        return np.zeros(frames_NHWC.shape[:3], np.uint8)


class Runtime:
    """A device's runtime: nothing but whether it is sound."""

    def __init__(self, fails: Callable[[str], bool]) -> None:
        if fails("backend_fails"):
            raise BackendError("the backend cannot build this")
        self._fails = fails

    def check(self, frame_HWC: np.ndarray) -> None:
        """The canary frame."""
        if self._fails("canary_fails"):
            raise BackendError("scores that are not finite")

    def predict(self, frame_HWC: np.ndarray) -> np.ndarray:
        """A camera frame."""
        if self._fails("runtime_fails"):
            raise BackendError("the backend failed")
        return np.zeros((1, 1), np.uint8)


def decode_clip(payload: bytes, *, codec: str, frames: int, width: int, height: int) -> np.ndarray:
    """As many black frames as promised."""
    if payload.startswith(BAD):
        raise VideoError("this clip is damaged")
    return np.zeros((frames, height, width, 3), np.uint8)


class ModuleTime:
    """The module `time` as one of our modules sees it: the clocks of the process that runs."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        """Seconds since this process's machine was started."""
        return self._loop.time()

    perf_counter = monotonic

    def monotonic_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self._loop.time() * 1e9)

    def time(self) -> float:
        """Unix seconds by this process's clock."""
        process = PROCESS.get()
        return EPOCH_S + self._loop.now_s + (0.0 if process is None else process.wall_offset_s)


def phase_class(rng: random.Random, fails: Callable[[str], bool]) -> type:
    """A class that stands in for `ams.learn.phase.DistillationPhase`."""

    class Phase:
        def __init__(self, student: Any, optimizer: Any, selection: Any, settings: Any) -> None:
            self._steps = settings.steps

        def run(self, start: Any, batches: Any, *, should_stop: Callable[[], bool] = lambda: False) -> PhaseResult:
            if fails("phase_fails"):
                raise ModelError("training diverged")
            if should_stop():
                return PhaseResult(np.zeros(0), np.zeros(0, bool), ())
            draw = np.random.default_rng(rng.getrandbits(32))
            share = 0.0 if fails("phase_learns_nothing") else rng.choice((0.01, 0.05, 1.0))
            mask = draw.random(start.size) < share
            change = draw.integers(-3000, 3000, start.size) * mask
            weights = np.ldexp((start + change).astype(np.float64), -16).astype(np.float32)
            return PhaseResult(weights, mask, (0.5,) * self._steps)

    return Phase


@contextmanager
def installed(loop: VirtualLoop, rng: random.Random, fails: Callable[[str], bool], **replaced: Any) -> Iterator[None]:
    """Put the stand-ins in place; `replaced` are the world's own: `connect` and `take_over`."""
    clock = ModuleTime(loop)
    resize = lambda frames_NHWC, *, width, height: frames_NHWC  # noqa: E731
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            ours = name.partition(".")[0] in ("ams", "services", "edge_agent")
            if ours and getattr(module, "time", None) is time:
                stack.enter_context(mock.patch.object(module, "time", clock))
        jitter = SimpleNamespace(uniform=rng.uniform)
        for target, attribute, value in (
            (services.gateway.service, "random", jitter),
            (services.labeler.service, "random", jitter),
            (services.labeler.service, "decode_clip", decode_clip),
            (services.labeler.service, "resize", resize),
            (services.trainer.session, "decode_clip", decode_clip),
            (services.trainer.session, "resize", resize),
            (services.trainer.session, "DistillationPhase", phase_class(rng, fails)),
            (services.trainer.service, "StudentShelf", Shelf),
            (services.trainer.worker, "take_over", replaced["take_over"]),
            (edge_agent.uplink, "connect", replaced["connect"]),
        ):
            stack.enter_context(mock.patch.object(target, attribute, value))
        yield
