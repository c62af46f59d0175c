"""Accuracy: confusion matrices, mIoU and the phi-score. One definition, used everywhere.

mIoU: confusion matrices are summed over a window of 10 s of stream, each class of the card's subset that occurs in
the window (in labels or predictions) gives an intersection over union, their mean is the frame's mIoU, and a
video's is the mean over its frames (paper section 4.1). Reference labels outside the subset or ignored do not
count. Knows arrays only; time is passed in.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

WINDOW_S = 10.0
KEPT_WINDOWS = 12
"""Frames are kept this many windows back, for those that come late."""

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
    """mIoU over the `window_s` seconds of stream up to a frame, that frame included.

    Frames may come out of order, as clips do after an outage: each is scored with what is known up to its time.
    """

    subset: tuple[int, ...]
    window_s: float = WINDOW_S
    _frames: list[tuple[float, ConfusionMatrix]] = field(default_factory=list)

    def add(self, t_s: float, matrix: ConfusionMatrix) -> float:
        """Add a frame captured at `t_s`; returns the mIoU of the window that ends with it."""
        insort(self._frames, (t_s, matrix), key=lambda frame: frame[0])
        forgotten = bisect_right(self._frames, self._frames[-1][0] - KEPT_WINDOWS * self.window_s, key=lambda f: f[0])
        del self._frames[:forgotten]
        first = bisect_right(self._frames, t_s - self.window_s, key=lambda frame: frame[0])
        last = bisect_right(self._frames, t_s, key=lambda frame: frame[0])
        window = [kept for _, kept in self._frames[first:last]] or [matrix]
        return mean_iou(np.sum(window, axis=0), self.subset)
