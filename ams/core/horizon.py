"""The replay horizon: the labelled clips of the last minutes, encoded, and the draw of training batches from it.

Clips older than `span_s` behind the newest frame leave, and so do the oldest when the bytes exceed their bound
(paper: T_horizon = 240 s). Times are stream seconds of capture. Knows which frames are held out of training; does
not know how to decode and does not train.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ams.core.gating import HoldOut, split

SPAN_S = 240.0
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class HorizonClip:
    """One labelled clip: capture times [frames], its Clip header as JSON, its payload and the coded label maps."""

    clip_id: str
    times_s: tuple[float, ...]
    meta: bytes
    payload: bytes
    labels: bytes
    entry_id: str = ""

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        return len(self.meta) + len(self.payload) + len(self.labels)


@dataclass(frozen=True)
class FrameRef:
    """Frame `index` of a clip."""

    clip: HorizonClip
    index: int


class Horizon:
    """Labelled clips in order of capture; at least the newest one is always kept."""

    def __init__(self, *, span_s: float = SPAN_S, max_bytes: int = MAX_BYTES) -> None:
        self._span_s = span_s
        self._max_bytes = max_bytes
        self._clips: deque[HorizonClip] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._clips)

    @property
    def newest(self) -> HorizonClip | None:
        """The clip with the latest frames."""
        return self._clips[-1] if self._clips else None

    @property
    def oldest(self) -> HorizonClip | None:
        """The clip that leaves next; the durable log may be trimmed up to it."""
        return self._clips[0] if self._clips else None

    def add(self, clip: HorizonClip) -> bool:
        """Take a clip in; False for a repetition or one older than what is held (a late repetition too)."""
        if self._clips and clip.times_s[0] <= self._clips[-1].times_s[-1]:
            return False
        self._clips.append(clip)
        self.bytes += clip.size_bytes
        horizon_start_s = clip.times_s[-1] - self._span_s
        while len(self._clips) > 1 and (self._clips[0].times_s[-1] < horizon_start_s or self.bytes > self._max_bytes):
            self.bytes -= self._clips.popleft().size_bytes
        return True

    def hold_out(self) -> HoldOut:
        """How the newest clip is split between judging and training (`ams.core.gating`)."""
        if not self._clips:
            return HoldOut((), (), ())
        before = self._clips[-2].times_s[-1] if len(self._clips) > 1 else -np.inf
        return split(self._clips[-1].times_s, trained_until_s=before)

    def held_out(self) -> list[FrameRef]:
        """The frames to judge the next phase on."""
        return [FrameRef(self._clips[-1], index) for index in self.hold_out().held_out] if self._clips else []

    def trainable(self) -> list[FrameRef]:
        """The frames that the next phase may train on, oldest first."""
        if not self._clips:
            return []
        older = [FrameRef(clip, i) for clip in list(self._clips)[:-1] for i in range(len(clip.times_s))]
        return older + [FrameRef(self._clips[-1], index) for index in self.hold_out().training]

    def draw(self, rng: np.random.Generator, *, steps: int, batch: int) -> list[list[FrameRef]]:
        """`steps` batches of frames, drawn uniformly with replacement over the whole horizon (as the paper's code)."""
        frames = self.trainable()
        if not frames:
            return []
        picks = rng.integers(0, len(frames), size=(steps, batch))
        return [[frames[index] for index in row] for row in picks]
