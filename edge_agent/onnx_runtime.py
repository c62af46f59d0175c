"""ONNX Runtime as a student's backend: a session built from the weightless skeleton and a flat vector of weights.

Weights go in as external initializers when the session is built, never afterwards: at full optimisation ONNX
Runtime re-lays convolution weights, so changing a buffer under a live session is silently half-applied, and weights
as inputs double the time of every inference. A rebuild takes about 8 ms for 2 M weights on one x86 core.
"""

from __future__ import annotations

import numpy as np
import onnxruntime

from ams.core.card import ModelCard
from ams.core.layout import FloatVector, Layout
from ams.core.preprocess import normalize
from ams.errors import BackendError
from ams.video import resize
from ams.video.reader import FrameHWC
from edge_agent.runtime import LabelPicker, LabelsHW, ScoresCHW

PREFERRED_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def providers_for(choice: str) -> list[str]:
    """ONNX Runtime's providers for a setting of auto, cuda or cpu, the CPU always last.

    Raises BackendError when CUDA is demanded and this ONNX Runtime has none.
    """
    available = onnxruntime.get_available_providers()
    if choice == "cpu":
        return ["CPUExecutionProvider"]
    if choice == "cuda" and "CUDAExecutionProvider" not in available:
        raise BackendError(
            "provider 'cuda' is wanted, but this ONNX Runtime has none; "
            "pip uninstall onnxruntime, pip install onnxruntime-gpu, or choose 'auto'"
        )
    return [name for name in PREFERRED_PROVIDERS if name in available]


class OnnxRuntimeStudent:
    """One version of a student as an ONNX Runtime session."""

    def __init__(
        self,
        card: ModelCard,
        graph: bytes,
        layout: Layout,
        weights: FloatVector,
        *,
        threads: int = 1,
        providers: list[str] | None = None,
    ) -> None:
        """Raises BackendError when ONNX Runtime cannot build the session."""
        self._card = card
        self._picker = LabelPicker(card)
        # ONNX Runtime may read these buffers for as long as the session lives.
        self._tensors = [(name, np.ascontiguousarray(tensor)) for name, tensor in layout.tensors(weights)]
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning workers would steal the core that builds the next session.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for _, tensor in self._tensors]
            options.add_external_initializers([name for name, _ in self._tensors], self._values)
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=providers or ["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no base class but Exception
            raise BackendError(f"ONNX Runtime cannot build {card.name!r}: {error}") from error
        inputs = {value.name for value in self._session.get_inputs()}
        outputs = {value.name for value in self._session.get_outputs()}
        if card.input.name not in inputs or card.output.name not in outputs:
            raise BackendError(
                f"the card of {card.name!r} names input {card.input.name!r} and output {card.output.name!r}, the graph "
                f"has {', '.join(sorted(inputs))} and {', '.join(sorted(outputs))}; import the model again"
            )

    def predict(self, frame_HWC: FrameHWC) -> LabelsHW:
        """See `StudentRuntime.predict`."""
        return self._picker.pick(self._run(frame_HWC))

    def check(self, frame_HWC: FrameHWC) -> None:
        """See `StudentRuntime.check`."""
        scores_CHW = self._run(frame_HWC)
        if not np.all(np.isfinite(scores_CHW)):
            raise BackendError(f"{self._card.name!r} gives scores that are not finite on a camera frame")
        self._picker.pick(scores_CHW)

    def _run(self, frame_HWC: FrameHWC) -> ScoresCHW:
        spec = self._card.input
        frames_NHWC = resize(frame_HWC[None], width=spec.width, height=spec.height)
        images_NCHW = normalize(frames_NHWC, spec)
        try:
            (scores_NCHW,) = self._session.run([self._card.output.name], {spec.name: images_NCHW})
        except Exception as error:  # ONNX Runtime's errors have no base class but Exception
            raise BackendError(f"ONNX Runtime cannot run {self._card.name!r}: {error}") from error
        scores_CHW: ScoresCHW = np.asarray(scores_NCHW, np.float32)[0]
        return scores_CHW
