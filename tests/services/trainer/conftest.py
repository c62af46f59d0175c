"""A tiny street, a tiny student and labelled clips as the labeler would write them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ams.core import label_map
from ams.core.messages import Clip, DeviceLabels, FrameStamp
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip
from ams.video import encode_clip
from services.trainer.config import TrainerSettings
from services.trainer.session import Session
from tests.blocks import networks
from tests.blocks.street import BlockStreet

STREET = BlockStreet(width=64, height=32, light="dusk", seed=3)
SID = "cam/cam0"

MakeClip = Callable[..., LabelledClip]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return networks.student(tmp_path_factory.mktemp("student"), STREET, steps=60)


@pytest.fixture(scope="session")
def student(bundle: ModelBundle) -> Student:
    return Student.from_bundle(bundle)


@pytest.fixture
def settings(tmp_path: Path) -> TrainerSettings:
    return TrainerSettings(
        broker_url="memory://trainer", models_dir=tmp_path / "models", name="t1", batch=4, steps=12, sweep_real_s=0.05,
        selection="gradient", coordinate_fraction=0.3, step_rms=0.35, learning_rate=3e-3,
    )  # fmt: skip


@pytest.fixture
def session(bundle: ModelBundle, student: Student, settings: TrainerSettings) -> Session:
    return Session(SID, 1, bundle, student, settings)


@pytest.fixture(scope="session")
def make_clip(bundle: ModelBundle) -> MakeClip:
    """Builds the clip of frames first..first+count-1, one a second, captured with `version`, labelled exactly."""

    def build(
        first: int,
        *,
        count: int = 10,
        version: int = 0,
        model_id: str = "",
        boot_id: str = "boot",
        device_labels: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> LabelledClip:
        times = range(first, first + count)
        frames = np.stack([STREET.frame(t) for t in times])
        own = b"" if device_labels is None else label_map.encode(device_labels[None])
        header = Clip(
            stream="cam0",
            clip_id=secrets.token_hex(16),
            model_id=model_id or bundle.model_id,
            width=STREET.width,
            height=STREET.height,
            boot_id=boot_id,
            sent_ns=times[-1] * 10**9,
            frames=tuple(FrameStamp(seq=t * 10, t_ns=t * 10**9, version=version) for t in times),
            labels=DeviceLabels(frame=count - 1, bytes=len(own)) if own else None,
        )
        truth = np.stack([STREET.labels(t) for t in times]) if labels is None else labels
        return LabelledClip(
            sid=SID,
            clip_id=header.clip_id,
            meta=header.model_dump_json().encode(),
            payload=encode_clip(frames, max_bytes=200_000, interval_s=1.0) + own,
            labels=label_map.encode(truth),
            entry_id=f"{first + 1}-0",
        )

    return build
