"""Gating: frames kept out of training, and the decision whether a phase's result is good enough to send.

A phase is judged on frames that it did not train on: every fourth frame of the newest clip, with no training
frame closer than one second; the next phase trains on them. It is published when the mean paired gain in IoU
exceeds a margin. Pure: times and matrices are passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ams.core.metrics import ConfusionMatrix, mean_iou

EVERY = 4
GUARD_S = 1.0
CLOCK_TICK_S = 1e-6
"""Times are nanoseconds turned into floats: two frames one second apart may differ by a hair less."""


@dataclass(frozen=True)
class HoldOut:
    """Indices into the newest clip: frames to judge on, frames to train on, frames to leave out of both."""

    held_out: tuple[int, ...]
    training: tuple[int, ...]
    guarded: tuple[int, ...]


def split(
    times_s: Sequence[float], *, trained_until_s: float = -math.inf, every: int = EVERY, guard_s: float = GUARD_S
) -> HoldOut:
    """Split the newest clip, frames at `times_s` (increasing); older clips end at `trained_until_s`.

    A clip with fewer than `every` frames is held out whole: at a low sampling rate the newest frames are still
    judged on, and wait one phase to be trained on.
    """
    count = len(times_s)
    wanted = range(count) if count < every else range(every - 1, count, every)
    held_out = tuple(index for index in wanted if times_s[index] - trained_until_s >= guard_s - CLOCK_TICK_S)
    training: list[int] = []
    guarded: list[int] = []
    for index in range(count):
        if index in held_out:
            continue
        near = any(abs(times_s[index] - times_s[kept]) < guard_s - CLOCK_TICK_S for kept in held_out)
        (guarded if near else training).append(index)
    return HoldOut(held_out, tuple(training), tuple(guarded))


@dataclass(frozen=True)
class Verdict:
    """Whether to publish, and the mean paired gain (in IoU, -1 to 1) that decided it."""

    publish: bool
    gain: float
    frames: int


@dataclass(frozen=True)
class Gate:
    """Publishes when the gain exceeds `margin` (0.002 is 0.2 mIoU points)."""

    margin: float = 0.002

    def judge(
        self, before: Sequence[ConfusionMatrix], after: Sequence[ConfusionMatrix], subset: tuple[int, ...]
    ) -> Verdict:
        """Compare two models frame by frame: confusion matrices of the same held-out frames, in the same order.

        Without a frame to judge on nothing is published.
        """
        pairs = [(mean_iou(a, subset), mean_iou(b, subset)) for b, a in zip(before, after, strict=True)]
        gains = [new - old for new, old in pairs if not (np.isnan(new) or np.isnan(old))]
        if not gains:
            return Verdict(False, 0.0, 0)
        gain = float(np.mean(gains))
        return Verdict(gain > self.margin, gain, len(gains))
