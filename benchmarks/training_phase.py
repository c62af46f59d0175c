"""Training steps a second: our phase on the module built from ONNX, against a bare torch loop on the original module.

The student is the paper's, DeepLabV3 on MobileNetV2 at output stride 16, from transformers. The bare loop is what one
would write by hand: forward, upsample, cross-entropy, backward, torch.optim.Adam; batch norm with frozen statistics
on both sides. Rounds of both alternate, so that a busy machine slows both. One thread.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ams.core.selection import GradientGuidedSelection
from ams.learn.adam import MaskedAdam
from ams.learn.phase import DistillationPhase, PhaseSettings
from ams.learn.student import Student
from ams.models.onnx_import import ImportRequest, import_onnx

CLASSES = tuple(f"class{index}" for index in range(19))
BATCH = 4


class PaperStudent(nn.Module):
    """[N, 3, H, W] images to [N, classes, H/16, W/16] logits."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

        torch.manual_seed(0)
        config = MobileNetV2Config(output_stride=16)
        config.num_labels = classes
        self.model = MobileNetV2ForSemanticSegmentation(config)
        self.eval()

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits: Tensor = self.model(images_NCHW).logits
        return logits


def run(*, quick: bool) -> dict[str, float | int]:
    """`ratio` is steps a second, ours / the bare loop's."""
    torch.set_num_threads(1)
    height, width = (128, 256) if quick else (256, 512)
    steps, rounds = (2, 3) if quick else (4, 5)
    bare = PaperStudent()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "student.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                bare, (torch.zeros(1, 3, height, width),), str(path), opset_version=17, dynamo=False,
                input_names=["input"], output_names=["logits"],
            )  # fmt: skip
        bundle = import_onnx(path, ImportRequest(role="student", name="paper", classes=CLASSES)).bundle
    rng = np.random.default_rng(0)
    frames_NHWC = rng.integers(0, 256, (BATCH, height, width, 3), np.uint8)
    labels_NHW = rng.integers(0, len(CLASSES), (BATCH, height, width), np.uint8)
    student = Student.from_bundle(bundle)
    phase = DistillationPhase(
        student, MaskedAdam(bundle.layout.size), GradientGuidedSelection(0.05), PhaseSettings(steps=steps, batch=BATCH)
    )
    images_NCHW = student.images(frames_NHWC)
    targets_NHW = torch.from_numpy(labels_NHW).long()
    optimizer = torch.optim.Adam(bare.parameters(), lr=1e-3)

    def ours() -> None:
        phase.run(bundle.version0, [(frames_NHWC, labels_NHW)] * steps)

    def plain() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            logits = functional.interpolate(bare(images_NCHW), (height, width), mode="bilinear")
            functional.cross_entropy(logits, targets_NHW).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(rounds + 1):  # the first round warms up
        for name, work in (("ours", ours), ("plain", plain)):
            started = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - started) / steps)
    ours_s, plain_s = median(times["ours"][1:]), median(times["plain"][1:])
    return {"ratio": plain_s / ours_s, "ours_s_per_step": ours_s, "plain_s_per_step": plain_s, "batch": BATCH}
