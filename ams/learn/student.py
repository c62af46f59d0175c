"""The student under training: a torch module whose weights are one flat vector in the card's order.

Knows the card (subset, output kind, stride, preprocessing) and the module built from the skeleton; checks itself
against ONNX Runtime when it is loaded. Does not know optimisers, phases or patches.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from ams.core.card import IGNORE_LABEL
from ams.core.layout import IntVector
from ams.core.preprocess import FramesNHWC, normalize
from ams.errors import ModelError
from ams.learn.graph import trainable_module
from ams.models.bundle import ModelBundle
from ams.models.session import ScoreSession

TOLERANCE = 1e-3
"""Largest difference to ONNX Runtime, relative to the largest score (to 1 where all scores are smaller)."""

PREDICTION_BATCH = 4
"""Frames at a time in `predict`: bounds the memory, and more is not faster on a CPU."""

VERIFICATION_SEED = 7

LabelsNHW = npt.NDArray[np.uint8]
"""Class indices of the student, 255 where there is none, [N, H, W]."""


class Student(nn.Module):
    """A student. `weights` is the flat vector [P]; `layout` says what lies where."""

    weights: nn.Parameter
    _class_of_position: Tensor

    def __init__(self, bundle: ModelBundle, *, device: str = "cpu") -> None:
        super().__init__()
        if bundle.weights is None:
            raise ModelError(f"{bundle.card.name!r} is a teacher; import it with role='student' to train it")
        self.bundle = bundle
        self.card = bundle.card
        self.layout = bundle.layout
        self.subset = bundle.card.subset_indices
        on_cpu = torch.device(device).type == "cpu"
        skeleton = onnx.load_model_from_string(bundle.graph)
        self._network = trainable_module(skeleton, self.layout, on_cpu=on_cpu)
        self._subset_network = self._network
        if self.subset != tuple(range(len(self.card.classes))):
            self._subset_network = trainable_module(skeleton, self.layout, channels=self.subset, on_cpu=on_cpu)
        self.weights = nn.Parameter(torch.from_numpy(bundle.weights.copy()))
        self.register_buffer("_class_of_position", torch.tensor(self.subset, dtype=torch.uint8), persistent=False)
        self.to(device)

    @classmethod
    def from_bundle(cls, bundle: ModelBundle, *, device: str = "cpu", verify: bool = True) -> Student:
        """A student at version 0, by default verified. Raises UnknownOpError, CardError or ModelError."""
        student = cls(bundle, device=device)
        if verify:
            student.verify()
        return student

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.weights.device

    def load(self, n: IntVector) -> None:
        """Set the weights to those of grid integers, [P]: exactly what a device at that version has."""
        with torch.no_grad():
            self.weights.copy_(torch.from_numpy(self.layout.to_float(n)))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """What the model answers to normalised images: [N, classes, H/stride, W/stride], of the card's kind."""
        scores: Tensor = self._network(self.weights, x_NCHW)
        return scores

    def subset_scores(self, x_NCHW: Tensor) -> Tensor:
        """Scores of the card's subset at the size of the labels, [N, subset, H, W]; bilinear where stride > 1."""
        scores: Tensor = self._subset_network(self.weights, x_NCHW)
        size = (self.card.input.height, self.card.input.width)
        if tuple(scores.shape[2:]) == size:
            return scores
        return nnf.interpolate(scores, size=size, mode="bilinear", align_corners=False)

    def images(self, frames_NHWC: FramesNHWC) -> Tensor:
        """Normalised images of RGB frames, on the student's device: [N, H, W, 3] to [N, 3, H, W]."""
        return torch.from_numpy(normalize(frames_NHWC, self.card.input)).to(self.device)

    def predict(self, frames_NHWC: FramesNHWC) -> LabelsNHW:
        """The class of every pixel of RGB frames, always one of the subset: [N, H, W, 3] to [N, H, W]."""
        labels_NHW = np.full(frames_NHWC.shape[:3], IGNORE_LABEL, np.uint8)
        with torch.inference_mode():
            for start in range(0, len(frames_NHWC), PREDICTION_BATCH):
                part = slice(start, start + PREDICTION_BATCH)
                positions = self.subset_scores(self.images(frames_NHWC[part])).argmax(dim=1)
                labels_NHW[part] = self._class_of_position[positions].cpu().numpy()
        return labels_NHW

    def verify(self) -> None:
        """Compare version 0 with ONNX Runtime on two seeded images. Raises ModelError beyond `TOLERANCE`."""
        spec = self.card.input
        rng = np.random.default_rng(VERIFICATION_SEED)
        frames = rng.integers(0, 256, (2, spec.height, spec.width, 3), np.uint8)
        expected = ScoreSession.open(self.bundle).run(normalize(frames, spec))
        assert self.bundle.weights is not None
        weights = torch.from_numpy(self.bundle.weights).to(self.device)
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            got = self._network(weights, self.images(frames)).cpu().numpy()
        if got.shape != expected.shape:
            raise ModelError(
                f"the trainable form of {self.card.name!r} answers {got.shape} to two images, ONNX Runtime "
                f"{expected.shape}; the graph is not free in its batch: export it with a dynamic batch"
            )
        difference = float(np.abs(got - expected).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ModelError(
                f"the trainable form of {self.card.name!r} differs from ONNX Runtime by {difference:.2g}; "
                "an op has another meaning than the trainer's rule for it: export with opset 17, and report it"
            )
