"""Scoring: honest online mIoU of what a device ran, on frames that have just been labelled.

Re-runs the version that was recorded at capture and version 0 on the decoded frames, so adapted and unadapted are
always side by side (docs/architecture.md, invariant 4). A frame whose version is not in the history is unscored.
Knows nothing of training; it only reads the version history.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ams.core import label_map
from ams.core.history import VersionHistory
from ams.core.label_map import LabelMaps
from ams.core.layout import IntVector
from ams.core.messages import Clip
from ams.core.metrics import SlidingMiou, confusion, phi_score
from ams.core.score import ClipScore, FrameScore
from ams.errors import WireError
from ams.learn.student import Student

FramesNHWC = npt.NDArray[np.uint8]


def finite(value: float) -> float | None:
    """None instead of NaN, which JSON does not have."""
    return None if math.isnan(value) else value


class Scorer:
    """Sliding mIoU of one session, adapted and unadapted, and the phi-scores of its frames."""

    def __init__(self, student: Student, history: VersionHistory, *, classes: int, subset: tuple[int, ...]) -> None:
        self._student = student
        self._history = history
        self._classes = classes
        self._subset = subset
        self._adapted = SlidingMiou(subset)
        self._unadapted = SlidingMiou(subset)
        self._previous: npt.NDArray[np.uint8] | None = None
        self._previous_s = -math.inf

    def predict(self, weights: IntVector, frames_NHWC: FramesNHWC) -> LabelMaps:
        """Label maps [N, H, W] of frames at the student's input size, with these grid weights."""
        self._student.load(weights)
        return self._student.predict(frames_NHWC)

    def score(
        self,
        clip: Clip,
        times_s: tuple[float, ...],
        frames_NHWC: FramesNHWC,
        labels_NHW: LabelMaps,
        device_labels: bytes = b"",
    ) -> ClipScore:
        """The score of a clip, all arrays at the student's input size. To be called once per clip, late ones too."""
        adapted_NHW, known = self._predict_as_recorded(clip, frames_NHWC)
        unadapted_NHW = self.predict(self._history.weights_at(0), frames_NHWC)
        late = times_s[0] < self._previous_s
        if late:  # its frames follow one another, but not the last ones scored
            self._previous = None
        self._previous_s = max(self._previous_s, times_s[-1])
        frames, phis = [], []
        for index, stamp in enumerate(clip.frames):
            phis.append(self._phi(labels_NHW[index]))
            before = self._slide(self._unadapted, times_s[index], labels_NHW[index], unadapted_NHW[index])
            after = None
            if known[index]:
                after = self._slide(self._adapted, times_s[index], labels_NHW[index], adapted_NHW[index])
            frames.append(
                FrameScore(seq=stamp.seq, t_s=times_s[index], version=stamp.version, adapted=after, unadapted=before)
            )
        if late:  # nor do the next ones follow these
            self._previous = None
        phi = float(np.mean([p for p in phis if p is not None])) if any(p is not None for p in phis) else None
        return ClipScore(
            clip_id=clip.clip_id,
            frames=tuple(frames),
            unscored=known.count(False),
            agreement=self._agreement(clip, adapted_NHW, known, device_labels),
            phi=phi,
        )

    def _predict_as_recorded(self, clip: Clip, frames_NHWC: FramesNHWC) -> tuple[LabelMaps, list[bool]]:
        """Label maps with the version that each frame names, and which of them could be made."""
        versions = [stamp.version for stamp in clip.frames]
        predicted = np.full(frames_NHWC.shape[:3], 255, np.uint8)
        for version in dict.fromkeys(versions):
            if self._history.knows(version):
                chosen = [index for index, v in enumerate(versions) if v == version]
                predicted[chosen] = self.predict(self._history.weights_at(version), frames_NHWC[chosen])
        return predicted, [self._history.knows(version) for version in versions]

    def _slide(
        self, window: SlidingMiou, t_s: float, labels: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]
    ) -> float | None:
        matrix = confusion(labels, predicted, classes=self._classes, subset=self._subset)
        return finite(window.add(t_s, matrix))

    def _phi(self, labels: npt.NDArray[np.uint8]) -> float | None:
        previous, self._previous = self._previous, labels
        if previous is None:
            return None
        return finite(phi_score(labels, previous, classes=self._classes, subset=self._subset))

    def _agreement(self, clip: Clip, predicted_NHW: LabelMaps, known: list[bool], device_labels: bytes) -> float | None:
        """Share of pixels in which the device's own label map equals ours; None without one to compare."""
        if clip.labels is None or not known[clip.labels.frame]:
            return None
        try:
            # The size is bounded by ours: a few bytes could claim many pixels.
            own = label_map.decode(device_labels, max_pixels=predicted_NHW[0].size)
        except WireError:
            return None
        ours = predicted_NHW[clip.labels.frame]
        if own.shape != (1, *ours.shape):
            return None
        return float(np.mean(own[0] == ours))
