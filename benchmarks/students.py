"""The students that updates are measured on: the one that ships, the kit's, and the paper's with its 2.1 M weights.

The paper's student has no pretrained weights to be had offline: it is pretrained shortly here, on clear days of the
street worlds, batch norm and all, then imported with batch norm folded. Kept in build/students.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch.nn import functional

from ams.models.bundle import ModelBundle
from ams.models.onnx_import import IMAGENET_MEAN, IMAGENET_STD, ImportRequest, import_onnx
from benchmarks.training_phase import PaperStudent
from evaluation.pretraining.pictures import DAY, TRAINING_SITES, take_pictures
from worlds.classes import CLASSES, PALETTE
from worlds.shipped import STUDENT

CACHE = Path("build/students")
WIDTH, HEIGHT = 256, 144
STEPS, BATCH, LR = 450, 8, 2e-3
PICTURES = 1200


def shipped() -> ModelBundle:
    """The student of the street worlds, 0.16 M weights."""
    return ModelBundle.load(STUDENT)


def paper() -> ModelBundle:
    """DeepLabV3 on MobileNetV2 at stride 16, 2.1 M weights, pretrained the first time (some minutes)."""
    directory = CACHE / f"paper-{STEPS}-{PICTURES}"
    if not directory.is_dir():
        _pretrain().save(directory)
    return ModelBundle.load(directory)


def _pretrain() -> ModelBundle:
    seen = take_pictures(PICTURES, DAY, TRAINING_SITES, seed=5)
    rng = np.random.default_rng(5)
    module = PaperStudent(classes=len(CLASSES))
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=STEPS)
    request = ImportRequest(
        role="student", name="paper-student", classes=CLASSES, palette=PALETTE, output_kind="logits",
        class_map={name: name for name in CLASSES},
    )  # fmt: skip
    console = Console(stderr=True)
    for _ in track(range(STEPS), "pretraining the paper's student", console=console):
        frames, labels = seen.batch(rng, BATCH)
        images = torch.from_numpy(_normalised(frames))
        scores = functional.interpolate(module(images), (HEIGHT, WIDTH), mode="bilinear")
        loss = functional.cross_entropy(scores, torch.from_numpy(labels).long())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    module.eval()
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(scratch) / "paper.onnx"
        torch.onnx.export(
            module, (torch.zeros(1, 3, HEIGHT, WIDTH),), str(path), opset_version=17, dynamo=False,
            input_names=["input"], output_names=["logits"],
        )  # fmt: skip
        return import_onnx(path, request).bundle


def _normalised(frames_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    images = (frames_NHWC.astype(np.float32) / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))


def kit(directory: Path) -> ModelBundle:
    """The kit's student, imported as `make real-video` imports it. Raises ModelError without the kit."""
    from ams.models.store import DirectoryStore
    from evaluation.real_video import import_models

    with tempfile.TemporaryDirectory() as scratch:
        store = DirectoryStore(Path(scratch))
        _, student = import_models(directory, store)
        return store.get(student)
