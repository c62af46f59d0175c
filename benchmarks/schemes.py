"""Schemes: what is sent after a training phase. Ours under rate control, the paper's, and the two ends of the scale.

By name, so that a run can be asked for and kept: `none`; `float16`, all weights trained and sent as float16; `paper-5`,
gradient-guided at gamma 5 % in the paper's encoding; `ours-0.2`, rate control as in the trainer at that share of the
bytes that the paper's encoding takes at 5 %. Bytes include headers and digests: the paper's encoding gets our header.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ams.core import paper_encoding
from ams.core.delta import Delta
from ams.core.layout import IntVector, Layout
from ams.core.patch import HEADER, Patch
from ams.core.selection import CoordinateSelection, FullSelection, GradientGuidedSelection
from ams.learn.phase import PhaseResult
from services.trainer.config import TrainerSettings
from services.trainer.updates import UpdateControl

INTERVAL_S = 10.0
PAPER_BYTES_PER_WEIGHT = 0.05 * 20.5 / 8
"""What the paper's encoding takes at gamma 5 %, per weight of the model: 20.5 bits for each that is updated."""

MODEL_ID = "00" * 32


@dataclass(frozen=True, eq=False)
class Update:
    """What the device has after a phase, [P], and the bytes that brought it there, headers and digests included."""

    weights: IntVector
    bytes: int
    changed: int


class Sender(Protocol):
    """One run of a scheme."""

    def begin(self, now_s: float) -> CoordinateSelection | None:
        """Which coordinates the phase at `now_s` may change; None: there is no phase."""
        ...

    def origin(self, device: IntVector) -> IntVector:
        """Where the phase trains from, given the device's weights."""
        ...

    def send(self, start: IntVector, wanted: PhaseResult) -> Update:
        """The update from the device's weights towards what the phase wants."""
        ...


class Nothing:
    """No customisation."""

    def begin(self, now_s: float) -> CoordinateSelection | None:  # noqa: ARG002
        """None."""
        return None

    def origin(self, device: IntVector) -> IntVector:
        """Never asked."""
        return device

    def send(self, start: IntVector, wanted: PhaseResult) -> Update:  # noqa: ARG002
        """Never asked."""
        raise AssertionError


@dataclass
class Paper:
    """Gradient-guided selection of a fixed fraction; bitmap + gzip -9 + float16. All weights as bare float16 at 1."""

    layout: Layout
    fraction: float

    def begin(self, now_s: float) -> CoordinateSelection | None:  # noqa: ARG002
        """See `Sender`."""
        return FullSelection() if self.fraction >= 1 else GradientGuidedSelection(self.fraction)

    def origin(self, device: IntVector) -> IntVector:
        """The device's weights."""
        return device

    def send(self, start: IntVector, wanted: PhaseResult) -> Update:
        """See `Sender`."""
        rounded = wanted.weights.astype(np.float16).astype(np.float32)
        weights = self.layout.to_grid(np.where(wanted.mask, rounded, self.layout.to_float(start)))
        size = 2 * self.layout.size
        if self.fraction < 1:
            size = len(paper_encoding.encode(wanted.weights, wanted.mask))
        return Update(weights, HEADER.size + size, int(wanted.mask.sum()))


class Ours:
    """The trainer's own update control, patches and all."""

    def __init__(self, layout: Layout, kbps: float) -> None:
        settings = TrainerSettings(broker_url="memory://benchmark", models_dir=Path(), downlink_kbps=kbps)
        self._layout = layout
        self._control = UpdateControl(settings, layout, np.random.default_rng(0))

    def begin(self, now_s: float) -> CoordinateSelection | None:
        """See `Sender`."""
        return self._control.begin(now_s, INTERVAL_S)

    def origin(self, device: IntVector) -> IntVector:
        """See `Sender`."""
        return self._control.origin(device)

    def send(self, start: IntVector, wanted: PhaseResult) -> Update:
        """See `Sender`."""
        delta = self._control.fit(start, wanted, lambda change: len(self._patch(change, bytes(32))))
        weights = delta.added_to(start).astype(np.int32)
        data = self._patch(delta, self._layout.digest(weights))
        self._control.sent(len(data))
        return Update(weights, len(data), len(delta))

    def _patch(self, delta: Delta, digest: bytes) -> bytes:
        return Patch(1, 2, MODEL_ID, digest, delta).encode(self._layout)


def sender(name: str, layout: Layout) -> Sender:
    """One run of the scheme of a name. Raises ValueError for another name."""
    kind, _, number = name.partition("-")
    if name == "none":
        return Nothing()
    if name == "float16":
        return Paper(layout, 1.0)
    if kind == "paper":
        return Paper(layout, float(number) / 100)
    if kind == "ours":
        return Ours(layout, float(number) * PAPER_BYTES_PER_WEIGHT * layout.size / 125 / INTERVAL_S)
    raise ValueError(f"no scheme {name!r}: none, float16, paper-PERCENT or ours-SHARE")
