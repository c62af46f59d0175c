"""Batches across clips: frames of several clips go into one teacher run, and the labels find their way back.

Pure: knows frames and who they belong to (any hashable key), in order of arrival; no time, no teacher, no broker.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from ams.core.label_map import LabelMaps
from ams.core.preprocess import FramesNHWC

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Batch(Generic[Key]):
    """Frames for one run, [N, H, W, 3], and how many consecutive ones belong to which clip."""

    frames_NHWC: FramesNHWC
    shares: tuple[tuple[Key, int], ...]

    @property
    def keys(self) -> tuple[Key, ...]:
        """The clips that take part."""
        return tuple(key for key, _ in self.shares)


@dataclass
class _Clip:
    frames_NHWC: FramesNHWC
    given_out: int = 0
    labels: list[LabelMaps] = field(default_factory=list)


class Batcher(Generic[Key]):
    """Clips whose frames wait for the teacher, first in, first out. All frames have the same size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._clips: dict[Key, _Clip] = {}

    @property
    def frames_waiting(self) -> int:
        """Frames that are in no batch yet."""
        return sum(len(clip.frames_NHWC) - clip.given_out for clip in self._clips.values())

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return self.frames_waiting >= self._size

    def add(self, key: Key, frames_NHWC: FramesNHWC) -> None:
        """Queue a clip's frames, [N, H, W, 3] with N of 1 or more; `key` is unlike that of any clip still here."""
        if key in self._clips or not len(frames_NHWC):
            raise ValueError(f"expected frames of a clip that is not here yet, got {len(frames_NHWC)} of {key!r}")
        self._clips[key] = _Clip(frames_NHWC)

    def next(self) -> Batch[Key] | None:
        """The next batch, full or not; None when no frame waits."""
        pieces: list[FramesNHWC] = []
        shares: list[tuple[Key, int]] = []
        room = self._size
        for key, clip in self._clips.items():
            piece = clip.frames_NHWC[clip.given_out : clip.given_out + room]
            if len(piece):
                pieces.append(piece)
                shares.append((key, len(piece)))
                clip.given_out += len(piece)
                room -= len(piece)
            if not room:
                break
        if not pieces:
            return None
        # One clip's frames need no copy.
        return Batch(pieces[0] if len(pieces) == 1 else np.concatenate(pieces), tuple(shares))

    def finish(self, batch: Batch[Key], labels_NHW: LabelMaps) -> Sequence[tuple[Key, LabelMaps]]:
        """Hand the labels of a batch back, [N, H, W]; returns the clips that have all of theirs now, and lets them go.

        Labels of clips that were dropped meanwhile are ignored.
        """
        if len(labels_NHW) != len(batch.frames_NHWC):
            raise ValueError(f"expected labels of {len(batch.frames_NHWC)} frames, got {len(labels_NHW)}")
        complete: list[tuple[Key, LabelMaps]] = []
        start = 0
        for key, count in batch.shares:
            piece, start = labels_NHW[start : start + count], start + count
            clip = self._clips.get(key)
            if clip is None:
                continue
            clip.labels.append(piece)
            if sum(len(labels) for labels in clip.labels) == len(clip.frames_NHWC):
                del self._clips[key]
                complete.append((key, np.concatenate(clip.labels)))
        return complete

    def drop(self, key: Key) -> FramesNHWC:
        """Let a clip go before it is complete; returns all of its frames."""
        return self._clips.pop(key).frames_NHWC
