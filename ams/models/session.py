"""An ONNX Runtime session from a bundle in memory: skeleton bytes and weights, without a file and without onnx.

ONNX Runtime must be given every streamed tensor as an external initializer; their memory is shared, not copied, so
it has to live as long as the session.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from ams.core.layout import FloatVector
from ams.core.preprocess import ImagesNCHW
from ams.errors import ModelError
from ams.models.bundle import ModelBundle


@dataclass(frozen=True)
class ScoreSession:
    """A running model on the CPU. `run` takes one batch of normalised images and gives the raw scores."""

    bundle: ModelBundle
    session: onnxruntime.InferenceSession
    weights: FloatVector | None

    @classmethod
    def open(cls, bundle: ModelBundle, weights: FloatVector | None = None, *, threads: int = 1) -> ScoreSession:
        """A session with these weights, [P]; without them, with those of version 0. Raises ModelError."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        held = bundle.weights if weights is None else weights
        try:
            if held is not None:
                held = np.ascontiguousarray(held)
                names, tensors = zip(*bundle.layout.tensors(held), strict=True)
                values = [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in tensors]
                options.add_external_initializers(list(names), values)
            session = onnxruntime.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this one
            raise ModelError(f"ONNX Runtime cannot open model {bundle.card.name!r}: {error}") from error
        return cls(bundle, session, held)

    def run(self, images_NCHW: ImagesNCHW) -> npt.NDArray[np.float32]:
        """Raw scores [N, classes, height/stride, width/stride]; a model with a fixed batch runs image by image."""
        name = self.bundle.card.input.name
        size = len(images_NCHW) if self.bundle.card.input.dynamic_batch else 1
        batches = [images_NCHW[start : start + size] for start in range(0, len(images_NCHW), size)]
        return np.concatenate([self.session.run(None, {name: batch})[0] for batch in batches])
