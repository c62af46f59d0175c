"""Moments: labelled frames as the three networks see them, ready to be looked at.

The frame as the server got it, the teacher's labels from the log, and what two students say: version 0, and the exact
version that the device ran when it captured the frame, rebuilt from the patch log and run as the device runs it. Heavy;
belongs into a thread. Bounded: the newest `KEPT` moments.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ams.core import label_map
from ams.core.history import VersionHistory
from ams.core.layout import FloatVector
from ams.core.messages import Clip
from ams.core.metrics import confusion, mean_iou
from ams.core.patch import Patch
from ams.core.score import ClipScore
from ams.errors import AmsError, PatchError, WireError
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip, PatchEntry
from ams.video import decode_clip, resize
from edge_agent.onnx_runtime import OnnxRuntimeStudent

log = logging.getLogger(__name__)

KEPT = 128
JPEG_QUALITY = 88
PICTURES = ("camera.jpg", "unadapted.png", "adapted.png", "teacher.png")

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame: capture time in stream seconds of the server, version that ran, mIoU of this frame alone (0 to 1,
    None where undefined), and the encoded pictures by name."""

    id: str
    t_s: float
    version: int
    adapted: float | None
    unadapted: float | None
    pictures: dict[str, bytes]


class MomentMaker:
    """Makes moments of one student's clips. To be used by one thread at a time."""

    def __init__(self, student: ModelBundle) -> None:
        self._student = student
        self._history = VersionHistory(student.layout, student.model_id, student.version0)
        self._subset = student.card.subset_indices
        self._bgra = _colours(student)
        self._running: OrderedDict[int, OnnxRuntimeStudent] = OrderedDict()

    def replay(self, entries: Sequence[PatchEntry]) -> None:
        """Take note of entries of the patch log, in order."""
        for entry in entries:
            if entry.kind == "takeover":
                continue
            try:
                self._history.replay(Patch.decode(entry.patch, self._student.layout))
            except PatchError as error:
                log.warning("entry %s of the patch log cannot be shown: %s", entry.entry_id, error)

    def make(self, labelled: LabelledClip, score: ClipScore) -> list[Moment]:
        """The moments of a labelled clip and its score. Raises AmsError for a clip that cannot be used."""
        clip = Clip.model_validate_json(labelled.meta)
        video, _ = clip.parts_of(labelled.payload)
        spec = self._student.card.input
        frames_NHWC = resize(
            decode_clip(video, codec=clip.codec, frames=len(clip.frames), width=clip.width, height=clip.height),
            width=spec.width, height=spec.height,
        )  # fmt: skip
        labels_NHW = label_map.decode(labelled.labels, max_pixels=frames_NHWC[..., 0].size)
        if labels_NHW.shape != frames_NHWC.shape[:3] or len(score.frames) != len(frames_NHWC):
            raise WireError(
                f"label maps of shape {labels_NHW.shape} and {len(score.frames)} scores for {len(frames_NHWC)} frames"
            )
        return [
            self._moment(f"{score.clip_id}-{index}", frame.t_s, frame.version, frames_NHWC[index], labels_NHW[index])
            for index, frame in enumerate(score.frames)
        ]

    def _moment(self, name: str, t_s: float, version: int, frame_HWC: Labels, teacher_HW: Labels) -> Moment:
        unadapted = self._run(0).predict(frame_HWC)
        adapted = self._run(version).predict(frame_HWC) if self._history.knows(version) else None
        bgr = np.ascontiguousarray(frame_HWC[..., ::-1])
        pictures = {
            "camera.jpg": _encoded(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]),
            "unadapted.png": self._painted(unadapted),
            "teacher.png": self._painted(teacher_HW),
        }
        if adapted is not None:
            pictures["adapted.png"] = self._painted(adapted)
        return Moment(
            name, t_s, version,
            None if adapted is None else self._miou(teacher_HW, adapted), self._miou(teacher_HW, unadapted), pictures,
        )  # fmt: skip

    def _run(self, version: int) -> OnnxRuntimeStudent:
        """The student at a version; the last few are kept built."""
        if version not in self._running:
            weights: FloatVector = self._student.layout.to_float(self._history.weights_at(version))
            self._running[version] = OnnxRuntimeStudent(
                self._student.card, self._student.graph, self._student.layout, weights
            )
            while len(self._running) > 3:
                del self._running[next(v for v in self._running if v != 0)]
        return self._running[version]

    def _miou(self, teacher_HW: Labels, predicted_HW: Labels) -> float | None:
        matrix = confusion(teacher_HW, predicted_HW, classes=len(self._student.card.classes), subset=self._subset)
        value = mean_iou(matrix, self._subset)
        return None if np.isnan(value) else value

    def _painted(self, labels_HW: Labels) -> bytes:
        return _encoded(".png", self._bgra[labels_HW], [cv2.IMWRITE_PNG_COMPRESSION, 1])


class MomentReel:
    """Plays moments in order, as far apart as they were captured, as they arrive in clips. Pure: `now_s` is passed in.

    A clip's first frame is shown when the clip arrives; a clip that arrives early waits for the one before to end, but
    the reel never falls more than `LAG_S` behind.
    """

    LAG_S = 30.0

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Moment]] = deque()
        self._kept: OrderedDict[str, Moment] = OrderedDict()
        self._last_at_s = float("-inf")
        self.current: Moment | None = None

    def add(self, moments: Sequence[Moment], now_s: float) -> None:
        """Take the moments of one clip, in order of capture."""
        if not moments:
            return
        start_s = min(max(now_s, self._last_at_s + 0.2), now_s + self.LAG_S)
        while self._waiting and self._waiting[-1][0] >= start_s:
            self._waiting.pop()  # too far behind: it makes room
        for moment in moments:
            self._last_at_s = start_s + moment.t_s - moments[0].t_s
            self._waiting.append((self._last_at_s, moment))
            self._kept[moment.id] = moment
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def advance(self, now_s: float) -> Moment | None:
        """The moment to be looked at now; None before the first."""
        while self._waiting and self._waiting[0][0] <= now_s:
            self.current = self._waiting.popleft()[1]
        return self.current

    def find(self, name: str) -> Moment | None:
        """A moment by its id, as long as it is kept."""
        return self._kept.get(name)


def _colours(student: ModelBundle) -> npt.NDArray[np.uint8]:
    """BGRA by label; labels that are no class are transparent."""
    card = student.card
    palette = card.palette or tuple((37 * k % 256, 91 * k % 256, 151 * k % 256) for k in range(len(card.classes)))
    table = np.zeros((256, 4), np.uint8)
    table[: len(palette), 2::-1] = palette
    table[: len(palette), 3] = 255
    return table


def _encoded(kind: str, picture: npt.NDArray[np.uint8], options: list[int]) -> bytes:
    done, data = cv2.imencode(kind, picture, options)
    if not done:
        raise AmsError(f"OpenCV cannot write {kind} pictures")
    return data.tobytes()
