"""What runs a student: the Protocol that every backend keeps, and the step from class scores to a label map.

Knows cards and arrays; does not know versions or patches (`model_slot`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ams.core.card import ModelCard
from ams.core.layout import FloatVector
from ams.errors import BackendError
from ams.video.reader import FrameHWC

LabelsHW = npt.NDArray[np.uint8]
"""Class per pixel, [H, W], at the card's input size."""

ScoresCHW = npt.NDArray[np.float32]
"""Logits or probabilities per class, [classes, H / stride, W / stride]."""


class StudentRuntime(Protocol):
    """One student with one set of weights, ready to run. Used by one thread at a time."""

    def predict(self, frame_HWC: FrameHWC) -> LabelsHW:
        """The label map of a frame of any size. Raises BackendError when the backend fails."""
        ...

    def check(self, frame_HWC: FrameHWC) -> None:
        """Run once before anybody relies on it. Raises BackendError when a score is not finite."""
        ...


RuntimeFactory = Callable[[FloatVector], StudentRuntime]
"""Builds a runtime from a flat vector of weights, [P]. Raises BackendError."""


class LabelPicker:
    """Argmax over the card's class subset; scores of a larger stride are first interpolated to full size.

    Class by class with a running maximum: 1.0 ms where `argmax` over the first axis takes 8.5 (20 classes,
    512x256, one x86 core). On equal scores the lower class index wins.
    """

    def __init__(self, card: ModelCard) -> None:
        self._classes = sorted(card.subset_indices)
        self._expected = (len(card.classes), card.input.height // card.output.stride)
        self._shape = (card.input.height, card.input.width)
        self._best = np.empty(self._shape, np.float32)
        self._plane = np.empty(self._shape, np.float32)
        self._higher = np.empty(self._shape, np.uint8)

    def pick(self, scores_CHW: ScoresCHW) -> LabelsHW:
        """The label map, [H, W]. Raises BackendError for scores that the card does not announce."""
        if scores_CHW.ndim != 3 or len(scores_CHW) != self._expected[0]:
            raise BackendError(
                f"expected scores of {self._expected[0]} classes, [classes, H, W], the model gave "
                f"{list(scores_CHW.shape)}; the card does not fit the graph, import the model again"
            )
        np.copyto(self._best, self._full_size(scores_CHW[self._classes[0]]))
        labels_HW = np.full(self._shape, self._classes[0], np.uint8)
        for index in self._classes[1:]:
            plane_HW = self._full_size(scores_CHW[index])
            cv2.compare(plane_HW, self._best, cv2.CMP_GT, self._higher)
            cv2.max(plane_HW, self._best, self._best)
            # Classes come in rising order, so where this one is higher its index is the larger, too.
            np.bitwise_and(self._higher, np.uint8(index), out=self._higher)
            np.maximum(labels_HW, self._higher, out=labels_HW)
        return labels_HW

    def _full_size(self, scores_HW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if scores_HW.shape == self._shape:
            return scores_HW
        height, width = self._shape
        cv2.resize(scores_HW, (width, height), dst=self._plane, interpolation=cv2.INTER_LINEAR)
        return self._plane
