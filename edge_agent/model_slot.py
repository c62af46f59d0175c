"""The model that the device runs: exact weights, version, digest and runtime, swapped as one reference.

The inference loop reads `current` once per frame and never waits: a patch is checked, applied, built and tried on a
camera frame beside the running model, and only then takes its place. Whatever fails on the way leaves the old model
running. Knows patches and runtimes; does not know who sends patches or who hears about the outcome.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import numpy as np

from ams.core.layout import IntVector, Layout
from ams.core.patch import Patch
from ams.errors import BackendError, BaseMismatchError, CorruptPatchError, PatchError
from ams.models.bundle import ModelBundle
from ams.video.reader import FrameHWC
from edge_agent.runtime import RuntimeFactory, StudentRuntime

log = logging.getLogger(__name__)

CANARY_SEED = 2


@dataclass(frozen=True, eq=False)
class Running:
    """One version, whole: nobody ever sees the weights of one and the number of another."""

    version: int
    digest: bytes
    weights: IntVector
    runtime: StudentRuntime


@dataclass(frozen=True)
class Applied:
    """What runs now. `changed` is False when the patch was old news; `swap_ms` is the work beside the old model."""

    version: int
    digest: bytes
    changed: bool
    swap_ms: float


@dataclass(frozen=True)
class Refusal:
    """Why a patch was not taken (`reason` as on the wire), and what runs instead."""

    reason: str
    text: str
    running_version: int
    running_digest: bytes


class ModelSlot:
    """Holds the running version and the one before it. `apply` and `roll_back` may be called from any thread."""

    def __init__(self, bundle: ModelBundle, build: RuntimeFactory) -> None:
        """Builds version 0 and tries it. Raises ModelError or BackendError when the model cannot run."""
        self._layout: Layout = bundle.layout
        self._model_id = bundle.model_id
        self._version0 = bundle.version0
        self._build = build
        self._changing = threading.Lock()
        self._previous: Running | None = None
        spec = bundle.card.input
        noise = np.random.default_rng(CANARY_SEED).integers(0, 256, (spec.height, spec.width, 3), np.uint8)
        self.canary_HWC: FrameHWC = noise
        """The frame that a new version is tried on; the inference loop puts the last camera frame here."""
        runtime = build(self._layout.to_float(self._version0))
        runtime.check(self.canary_HWC)
        self._current = Running(0, self._layout.digest(self._version0), self._version0, runtime)

    @property
    def current(self) -> Running:
        """What runs now; one reference, so reading it needs no lock."""
        return self._current

    @property
    def previous(self) -> Running | None:
        """What ran before, for an instant rollback."""
        return self._previous

    def apply(self, data: bytes, *, announced: int | None = None) -> Applied | Refusal:
        """Take a patch in. Heavy: to be called in a thread of its own, never in the inference loop.

        `announced` is the target that the message around the patch names. The digest covers weights and no numbers:
        without a second word for it, one damaged bit would let sound weights run under a version nobody published.
        """
        with self._changing:
            started_s = time.perf_counter()
            try:
                patch = Patch.decode(data, self._layout)
                if announced not in (None, patch.target):
                    raise CorruptPatchError(
                        f"a patch to version {patch.target} came, version {announced} was announced"
                    )
                changed = self._apply(patch)
            except PatchError as error:
                return self._refusal(error.reason, error)
            except CanaryError as error:
                return self._refusal("canary", error)
            except BackendError as error:
                return self._refusal("backend", error)
            except Exception as error:  # a bug or no memory here must not stop the camera: the old model goes on
                log.exception("a patch could not be applied")
                return self._refusal("internal", error)
            running = self._current
            return Applied(running.version, running.digest, changed, (time.perf_counter() - started_s) * 1e3)

    def roll_back(self) -> bool:
        """Let the version before take over again; False when there is none."""
        with self._changing:
            if self._previous is None:
                return False
            self._current, self._previous = self._previous, None
            return True

    def _apply(self, patch: Patch) -> bool:
        running = self._current
        if patch.model_id == self._model_id and self._is_old_news(patch, running):
            return False
        base = (0, self._version0) if patch.is_keyframe else (running.version, running.weights)
        weights = patch.apply(base[1], self._layout, model_id=self._model_id, version=base[0])
        runtime = self._build(self._layout.to_float(weights))
        try:
            runtime.check(self.canary_HWC)
        except BackendError as error:
            raise CanaryError(str(error)) from error
        self._previous = running
        self._current = Running(patch.target, patch.digest, weights, runtime)
        return True

    @staticmethod
    def _is_old_news(patch: Patch, running: Running) -> bool:
        """A patch to a version that runs already, or to one before it: repeated, or overtaken by a cumulative one.

        The same version with another digest means that the server lost what it had sent and counted anew. A keyframe
        mends that; anything else starts from weights that are not these.
        """
        if patch.target != running.version:
            return patch.target < running.version
        if patch.digest == running.digest:
            return True
        if patch.is_keyframe:
            return False
        raise BaseMismatchError(f"version {patch.target} runs here already, with another digest; send a keyframe")

    def _refusal(self, reason: str, error: Exception) -> Refusal:
        running = self._current
        return Refusal(reason, str(error)[:500], running.version, running.digest)


class CanaryError(BackendError):
    """A new version was built but does not give sound scores."""
