"""Bytes of a patch's body against the order-0 entropy of what it says, by both entropy coders.

The entropy of a tensor's change is its size times the entropy of the histogram of its integers (in steps, zeros
included): what a coder would need that knew each tensor's histogram for nothing, and nothing of order. Updates are
synthetic ones (no order to find), and real ones: phases of the street student on a moving camera, and the keyframe of
all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ams.core.delta import Delta
from ams.core.layout import IntVector, Layout
from ams.core.patch import GAP_ZSTD, HEADER, RANS, Patch
from ams.core.quantiser import Quantiser
from ams.core.selection import CoordinateSelection, FullSelection, GradientGuidedSelection
from ams.core.steps import SteppedDelta
from ams.learn.adam import MaskedAdam
from ams.learn.phase import Batch, DistillationPhase, PhaseSettings
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from benchmarks.updates import synthetic
from worlds.shipped import STUDENT
from worlds.street import StreetWorld

PHASE_S = 10.0
FRAMES = 10
SCRIPT = "dusk 20, rain 40, night 40, fog 40"
WALK_PHASES = 40


@dataclass(frozen=True, eq=False)
class Update:
    """A named change of a student."""

    name: str
    layout: Layout
    delta: Delta


def run(*, quick: bool) -> dict[str, float | int]:
    """Per update: our bytes / entropy, / those of coder 1, and bits; `ratio` is the worst against the entropy."""
    torch.set_num_threads(1)
    result: dict[str, float | int] = {"ratio": 0.0}
    for update in _updates(quick=quick):
        patch = Patch(1, 2, "00" * 32, bytes(32), update.delta)
        ours, baseline = (len(patch.encode(update.layout, coder=coder)) - HEADER.size for coder in (RANS, GAP_ZSTD))
        entropy = entropy_bytes(update)
        result["ratio"] = max(result["ratio"], ours / entropy)
        result |= {
            f"{update.name}: bytes": ours,
            f"{update.name}: / entropy": ours / entropy,
            f"{update.name}: / gap + zstd": ours / baseline,
            f"{update.name}: bits a change": 8 * ours / len(update.delta),
            f"{update.name}: bits a weight": 8 * ours / update.layout.size,
        }
    return result


def entropy_bytes(update: Update) -> float:
    """Order-0 entropy of an update, summed over tensors."""
    change = SteppedDelta.of(update.delta, update.layout)
    total_bits = 0.0
    for slot, count, end in zip(update.layout.slots, change.counts, np.cumsum(change.counts), strict=True):
        size = slot.stop - slot.start
        seen = np.unique(change.quotients[end - count : end], return_counts=True)[1]
        share = np.append(seen, size - count)[: len(seen) + int(size > count)] / size
        total_bits -= size * float((share * np.log2(share)).sum())
    return total_bits / 8


def _updates(*, quick: bool) -> Iterator[Update]:
    weights = 200_000 if quick else 2_100_000
    layout, start, wanted, mask = synthetic(0, weights=weights)
    yield Update("synthetic 0.35", layout, Quantiser(0.35).quantise(start, wanted, mask, layout))
    yield Update("synthetic 1.4", layout, Quantiser(1.4).quantise(start, wanted, mask, layout))
    for name, fraction, step in (("walk 5 %", 0.05, 1.4), ("walk all", 1.0, 2.0)):
        yield Update(f"{name} keyframe", layout, _walk(layout, start, fraction, Quantiser(step)))
    trained = layout.to_float(start) + np.random.default_rng(1).normal(0, 1e-4, layout.size)
    yield Update("trained keyframe", layout, Delta.between(start, layout.to_grid(trained)))
    phases = 2 if quick else 8
    yield from _street("street 5 %", GradientGuidedSelection(0.05), Quantiser(1.4), phases)
    yield from _street("street all", FullSelection(), Quantiser(2.0), phases)


def _walk(layout: Layout, start: IntVector, fraction: float, quantiser: Quantiser) -> Delta:
    """What many random updates of different sizes sum to."""
    rng = np.random.default_rng(1)
    weights = start
    for _ in range(WALK_PHASES):
        mask = rng.random(layout.size) < fraction
        moved = layout.to_float(weights) + rng.normal(0, 1e-3 * rng.uniform(0.3, 2), layout.size) * mask
        weights = quantiser.quantise(weights, moved.astype(np.float32), mask, layout).added_to(weights).astype(np.int32)
    return Delta.between(start, weights)


def _street(name: str, selection: CoordinateSelection, quantiser: Quantiser, phases: int) -> Iterator[Update]:
    """The last of some phases on the street, and the keyframe after it."""
    bundle = ModelBundle.load(STUDENT)
    student = Student.from_bundle(bundle, verify=False)
    settings = PhaseSettings(steps=20, batch=4)
    phase = DistillationPhase(student, MaskedAdam(bundle.layout.size), selection, settings)
    world = StreetWorld(seed=3, script=SCRIPT)
    rng = np.random.default_rng(0)
    weights, delta = bundle.version0, Delta.none()
    for number in range(phases):
        frames = [world.labelled(PHASE_S * number + at) for at in np.linspace(0, PHASE_S, FRAMES, endpoint=False)]
        batches: list[Batch] = []
        for _ in range(settings.steps):
            chosen = [frames[index] for index in rng.integers(0, FRAMES, settings.batch)]
            batches.append((np.stack([frame for frame, _ in chosen]), np.stack([labels for _, labels in chosen])))
        trained = phase.run(weights, batches)
        delta = quantiser.quantise(weights, trained.weights, trained.mask, bundle.layout)
        weights = delta.added_to(weights).astype(np.int32)
    yield Update(name, bundle.layout, delta)
    yield Update(f"{name} keyframe", bundle.layout, Delta.between(bundle.version0, weights))
