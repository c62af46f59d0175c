"""Labelled pictures of the street worlds: what the shipped networks learn from and are judged on.

Sites are numbered: those that are learned from, those that are judged on and those that the demo shows never meet.
Knows worlds and seeds; does not know networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worlds.street import StreetWorld

TRAINING_SITES = range(100_000, 1_000_000)
JUDGING_SITES = range(10_000, 20_000)
"""The demo's sites are below 10,000."""

FRAMES_PER_SITE = 3
DAY = ("day",)
ALL = ("day", "dusk", "rain", "night", "fog", "overcast", "day")
"""Clear days are common."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """`frames_NHWC` RGB with the exact `labels_NHW`."""

    frames_NHWC: npt.NDArray[np.uint8]
    labels_NHW: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.frames_NHWC)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Some of them, half of them mirrored."""
        chosen = rng.integers(0, len(self), size)
        frames, labels = self.frames_NHWC[chosen].copy(), self.labels_NHW[chosen].copy()
        for index in np.flatnonzero(rng.random(size) < 0.5):
            frames[index], labels[index] = frames[index, :, ::-1].copy(), labels[index, :, ::-1].copy()
        return frames, labels


def take_pictures(
    count: int, conditions: Sequence[str], sites: range, *, seed: int, note: Callable[[int], None] = lambda _: None
) -> Pictures:
    """`count` pictures of different sites; `note` hears how many there are. The same for the same arguments."""
    rng = np.random.default_rng(seed)
    frames: list[npt.NDArray[np.uint8]] = []
    labels: list[npt.NDArray[np.uint8]] = []
    while len(frames) < count:
        site = int(rng.integers(sites.start, sites.stop))
        condition = conditions[(len(frames) // FRAMES_PER_SITE) % len(conditions)]
        camera = "moving" if rng.random() < 0.6 else "fixed"
        world = StreetWorld(
            seed=site, camera="moving" if camera == "moving" else "fixed", script=f"{condition} 3600", daily=True
        )
        for t_s in rng.uniform(0, 3000, min(FRAMES_PER_SITE, count - len(frames))):
            frame, label = world.labelled(float(t_s))
            frames.append(frame)
            labels.append(label)
        note(len(frames))
    return Pictures(np.stack(frames), np.stack(labels))
