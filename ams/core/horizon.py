"""The replay horizon: the labelled clips of the last minutes, encoded, and the draw of training batches from it.

Clips older than `span_s` behind the newest frame leave, and so do the oldest when the bytes exceed their bound
(paper: T_horizon = 240 s). Times are stream seconds of capture. Knows which frames are held out of training; does
not know how to decode and does not train.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from ams.core.gating import HoldOut, split

SPAN_S = 240.0
MAX_BYTES = 4 * 1024 * 1024
REMEMBERED_CLIPS = 1024
"""Clip ids by which repetitions are known, held or not."""


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


def entry_order(entry_id: str) -> tuple[int, ...]:
    """Key that orders entry ids of a stream, `<milliseconds>-<n>`."""
    return tuple(int(part) for part in entry_id.split("-"))


class Horizon:
    """Labelled clips in order of capture; at least the newest one is always kept."""

    def __init__(self, *, span_s: float = SPAN_S, max_bytes: int = MAX_BYTES) -> None:
        self._span_s = span_s
        self._max_bytes = max_bytes
        self._clips: list[HorizonClip] = []
        self._seen: OrderedDict[str, None] = OrderedDict()
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
        """Take a clip in, at its place in time: after an outage clips may come in any order.

        False for a repetition, for one that overlaps another and for one older than the horizon.
        """
        place = bisect_left(self._clips, clip.times_s[0], key=lambda held: held.times_s[0])
        before = self._clips[place - 1] if place else None
        after = self._clips[place] if place < len(self._clips) else None
        if clip.clip_id in self._seen or (before and before.times_s[-1] >= clip.times_s[0]):
            return False
        if after and (after.times_s[0] <= clip.times_s[-1] or clip.times_s[-1] < self._start_s):
            return False
        self._remember(clip.clip_id)
        self._clips.insert(place, clip)
        self.bytes += clip.size_bytes
        while len(self._clips) > 1 and (self._clips[0].times_s[-1] < self._start_s or self.bytes > self._max_bytes):
            self.bytes -= self._clips.pop(0).size_bytes
        return True

    @property
    def _start_s(self) -> float:
        return self._clips[-1].times_s[-1] - self._span_s

    def _remember(self, clip_id: str) -> None:
        self._seen[clip_id] = None
        while len(self._seen) > REMEMBERED_CLIPS:
            self._seen.popitem(last=False)

    def has_seen(self, clip_id: str) -> bool:
        """Whether this clip was taken in before, held still or not."""
        return clip_id in self._seen

    @property
    def first_entry_id(self) -> str:
        """The oldest entry of the durable log that is still needed; after an outage not the oldest clip's."""
        held = [clip.entry_id for clip in self._clips if clip.entry_id]
        return min(held, key=entry_order) if held else ""

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
        older = [FrameRef(clip, i) for clip in self._clips[:-1] for i in range(len(clip.times_s))]
        return older + [FrameRef(self._clips[-1], index) for index in self.hold_out().training]

    def draw(self, rng: np.random.Generator, *, steps: int, batch: int) -> list[list[FrameRef]]:
        """`steps` batches of frames, drawn uniformly with replacement over the whole horizon (as the paper's code)."""
        frames = self.trainable()
        if not frames:
            return []
        picks = rng.integers(0, len(frames), size=(steps, batch))
        return [[frames[index] for index in row] for row in picks]
