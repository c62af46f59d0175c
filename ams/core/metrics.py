"""Accuracy: confusion matrices, mIoU and the phi-score. One definition, used everywhere.

mIoU: confusion matrices are summed over a window of 10 s of stream, each class of the card's subset that occurs in
the window (in labels or predictions) gives an intersection over union, their mean is the frame's mIoU, and a
video's is the mean over its frames (paper section 4.1). Reference labels outside the subset or ignored do not
count. Knows arrays only; time is passed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

WINDOW_S = 10.0

ConfusionMatrix = npt.NDArray[np.int64]
"""Pixel counts, [classes of the reference, classes predicted]."""


def confusion(
    reference: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], *, classes: int, subset: tuple[int, ...]
) -> ConfusionMatrix:
    """Counts of (reference, predicted) over two label maps of one shape; reference outside `subset` is left out.

    A prediction outside the classes (say 255) counts as wrong: it lands in the extra last column.
    """
    if reference.shape != predicted.shape:
        raise ValueError(f"label maps differ in shape: {reference.shape} and {predicted.shape}")
    counted = np.zeros(256, bool)
    counted[list(subset)] = True
    keep = counted[reference]
    columns = classes + 1
    pairs = reference[keep].astype(np.int64) * columns + np.minimum(predicted[keep], classes)
    return np.bincount(pairs, minlength=classes * columns).reshape(classes, columns)


def mean_iou(matrix: ConfusionMatrix, subset: tuple[int, ...]) -> float:
    """Mean IoU over the subset's classes that occur at all; NaN when none does."""
    index = np.asarray(subset)
    hits = matrix[index, index].astype(np.float64)
    union = matrix[index].sum(axis=1) + matrix[:, index].sum(axis=0) - matrix[index, index]
    present = union > 0
    return float(np.mean(hits[present] / union[present])) if present.any() else float("nan")


def phi_score(
    current: npt.NDArray[np.uint8], previous: npt.NDArray[np.uint8], *, classes: int, subset: tuple[int, ...]
) -> float:
    """Likeness of the teacher's label maps of two sampled frames in a row: their mIoU, high for a static scene.

    As in the paper's released code; its text uses the task loss instead (section 3.2).
    """
    return mean_iou(confusion(previous, current, classes=classes, subset=subset), subset)


@dataclass
class SlidingMiou:
    """mIoU over the last `window_s` seconds of stream; frames are added in order of capture."""

    subset: tuple[int, ...]
    window_s: float = WINDOW_S
    _frames: deque[tuple[float, ConfusionMatrix]] = field(default_factory=deque)
    _total: ConfusionMatrix | None = None

    def add(self, t_s: float, matrix: ConfusionMatrix) -> float:
        """Add a frame captured at `t_s`; returns the window's mIoU with it."""
        self._frames.append((t_s, matrix))
        self._total = matrix.copy() if self._total is None else self._total + matrix
        while self._frames[0][0] <= t_s - self.window_s:
            self._total = self._total - self._frames.popleft()[1]
        return mean_iou(self._total, self.subset)
