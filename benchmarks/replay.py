"""A replay: the closed loop of training phases and updates over a trace, with a scheme that decides what is sent.

Phase after phase starts from exactly the weights that the device has, as in the trainer; the scheme turns what training
wants into what the device gets and the bytes that it takes. mIoU is the one definition (10-s windows, mean over
frames), on frames not yet trained on, with the version that the device has by then. Nothing is gated: all schemes send
every phase, as the paper does. Virtual time; knows no sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ams.core.layout import IntVector
from ams.core.metrics import SlidingMiou, confusion
from ams.learn.adam import MaskedAdam
from ams.learn.phase import Batch, DistillationPhase, PhaseSettings
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from benchmarks.schemes import INTERVAL_S, sender
from benchmarks.trace import Trace

HORIZON_S = 240.0
DELAY_S = 3.0
"""From the newest frame of a phase to the first one with its update: labels, training and transfer."""


@dataclass(frozen=True)
class Replayed:
    """One run: mIoU 0 to 1, bytes and changed weights of each update."""

    scheme: str
    trace: str
    seed: int
    miou: float
    bytes: tuple[int, ...]
    changed: tuple[int, ...]

    @property
    def kbps(self) -> float:
        """Mean downlink in kbit/s."""
        return float(np.mean(self.bytes)) / 125 / INTERVAL_S if self.bytes else 0.0


def replay(
    trace: Trace, bundle: ModelBundle, scheme: str, *, seed: int, steps: int = 20, batch: int = 8, lr: float = 1e-3
) -> Replayed:
    """Run a scheme over a trace. Deterministic for a seed and a number of threads."""
    rng = np.random.default_rng([seed, 1])
    student = Student.from_bundle(bundle, verify=False)
    layout, subset, classes = bundle.layout, bundle.card.subset_indices, len(bundle.card.classes)
    sending = sender(scheme, layout)
    optimizer = MaskedAdam(layout.size, lr=lr)
    device: IntVector = bundle.version0
    window = SlidingMiou(subset)
    scores: list[float] = []
    sizes: list[int] = []
    changed: list[int] = []
    now_s, judged = INTERVAL_S, 0
    while judged < len(trace):
        # The device runs what it has until the next update arrives.
        until_s = now_s + DELAY_S if now_s + INTERVAL_S + DELAY_S <= trace.times_s[-1] else float("inf")
        chosen = np.flatnonzero((trace.times_s < until_s) & (np.arange(len(trace)) >= judged))
        student.load(device)
        for index, predicted in zip(chosen, student.predict(trace.frames_NHWC[chosen]), strict=True):
            matrix = confusion(trace.labels_NHW[index], predicted, classes=classes, subset=subset)
            scores.append(window.add(float(trace.times_s[index]), matrix))
        judged += len(chosen)
        selection = None if judged == len(trace) else sending.begin(now_s)
        if selection is None:
            now_s += INTERVAL_S
            continue
        held = np.flatnonzero((trace.times_s < now_s) & (trace.times_s >= now_s - HORIZON_S))
        phase = DistillationPhase(student, optimizer, selection, PhaseSettings(steps=steps, batch=batch, lr=lr))
        wanted = phase.run(sending.origin(device), _batches(trace, held, rng, steps, batch))
        update = sending.send(device, wanted)
        device = update.weights
        sizes.append(update.bytes)
        changed.append(update.changed)
        now_s += INTERVAL_S
    return Replayed(scheme, trace.name, seed, float(np.nanmean(scores)), tuple(sizes), tuple(changed))


def _batches(
    trace: Trace, held: np.ndarray[tuple[int], np.dtype[np.int64]], rng: np.random.Generator, steps: int, batch: int
) -> Iterator[Batch]:
    for _ in range(steps):
        drawn = rng.choice(held, batch)
        yield trace.frames_NHWC[drawn], trace.labels_NHW[drawn]
