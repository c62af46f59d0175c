"""The teacher: frames in, class maps out, through ONNX Runtime on the GPU where there is one.

Knows the teacher's card and its graph. Does not know students, clips or the broker. `label` is heavy and belongs into
a thread of its own; one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from ams.core.label_map import LabelMaps
from ams.core.preprocess import FramesNHWC, normalize
from ams.errors import ModelError
from ams.models.bundle import ModelBundle

Provider = str | tuple[str, dict[str, str]]

# An exhaustive search would run again for every size of batch.
CUDA: Provider = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"})
CPU: Provider = "CPUExecutionProvider"

QUIET = 3
"""ONNX Runtime's log level for errors only."""


def providers() -> Sequence[Provider]:
    """Where to run: CUDA if this build of ONNX Runtime has it, then the CPU."""
    return [CUDA, CPU] if "CUDAExecutionProvider" in onnxruntime.get_available_providers() else [CPU]


class Teacher:
    """A running teacher."""

    def __init__(self, bundle: ModelBundle, threads: int) -> None:
        """Raises ModelError when the bundle is no teacher, or its graph does not do what the card says."""
        self.card = bundle.card
        if self.card.role != "teacher":
            raise ModelError(
                f"model {self.card.name!r} was imported as a {self.card.role}; name a teacher, or import it again "
                "with --role teacher"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = QUIET
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(bundle.graph, options, providers=list(providers()))
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this one
            raise ModelError(f"ONNX Runtime cannot open teacher {self.card.name!r}: {error}") from error
        self.check()

    @property
    def provider(self) -> str:
        """Where it really runs."""
        return str(self._session.get_providers()[0])

    def check(self) -> None:
        """Label a black frame. Raises ModelError when not even that works."""
        spec = self.card.input
        self.label(np.zeros((1, spec.height, spec.width, 3), np.uint8))

    def label(self, frames_NHWC: FramesNHWC) -> LabelMaps:
        """The most likely class of every pixel, [N, H, W] in teacher classes, of RGB frames at the teacher's size.

        A model with a fixed batch runs frame by frame. Raises ModelError when inference fails.
        """
        spec = self.card.input
        step = len(frames_NHWC) if spec.dynamic_batch else 1
        labels_NHW = np.empty((len(frames_NHWC), spec.height, spec.width), np.uint8)
        for start in range(0, len(frames_NHWC), step):
            piece = frames_NHWC[start : start + step]
            labels_NHW[start : start + step] = self._classes(self._scores(piece))
        return labels_NHW

    def _scores(self, frames_NHWC: FramesNHWC) -> npt.NDArray[np.float32]:
        """Raw scores, [N, classes, H/stride, W/stride]."""
        spec, output = self.card.input, self.card.output
        images_NCHW = normalize(frames_NHWC, spec)
        try:
            scores = self._session.run([output.name], {spec.name: images_NCHW})[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this one
            raise ModelError(f"teacher {self.card.name!r} failed: {error}") from error
        expected = (len(frames_NHWC), len(self.card.classes), spec.height // output.stride, spec.width // output.stride)
        if scores.shape != expected:
            raise ModelError(
                f"teacher {self.card.name!r} answers {list(scores.shape)}, its card promises {list(expected)}; "
                "import the model again"
            )
        return np.asarray(scores, np.float32)

    def _classes(self, scores_NCHW: npt.NDArray[np.float32]) -> LabelMaps:
        """Argmax over the classes, at the input's size; coarse scores are interpolated first."""
        size = (self.card.input.width, self.card.input.height)
        return np.stack([_most_likely(scores_CHW, size) for scores_CHW in scores_NCHW])


def _most_likely(scores_CHW: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Argmax of scores at `size` (width, height); of equal scores the lower class wins.

    Class by class with a running maximum, which is faster than `argmax` over the first axis and never holds all
    interpolated scores at once.
    """
    best_HW = _at_size(scores_CHW[0], size).copy()
    labels_HW = np.zeros(best_HW.shape, np.uint8)
    higher_HW = np.empty(best_HW.shape, np.uint8)
    for index, score_HW in enumerate(scores_CHW[1:], start=1):
        plane_HW = _at_size(score_HW, size)
        cv2.compare(plane_HW, best_HW, cv2.CMP_GT, higher_HW)  # 255 where this class is ahead
        cv2.max(plane_HW, best_HW, best_HW)
        np.bitwise_and(higher_HW, np.uint8(index), out=higher_HW)
        np.maximum(labels_HW, higher_HW, out=labels_HW)  # classes come in rising order
    return labels_HW


def _at_size(score_HW: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    if score_HW.shape == size[::-1]:
        return score_HW
    return np.asarray(cv2.resize(score_HW, size, interpolation=cv2.INTER_LINEAR), np.float32)
