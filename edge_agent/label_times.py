"""How long after their capture the labels of the last frames were ready, and how often labels came.

Pure: times are passed in, in stream nanoseconds. One thread adds; anybody may read, and may see a frame too many or
too few, never anything else.
"""

from __future__ import annotations

import numpy as np

WINDOW_FRAMES = 512
"""Frames that percentiles are taken over: 17 s at 30 frames per second, so they say how it is, not how it was."""


class LabelTimes:
    """Camera-to-label times, the mean of all and the percentiles of the last `window_frames`."""

    def __init__(self, *, window_frames: int = WINDOW_FRAMES) -> None:
        self._count = 0
        self._sum_ms = 0.0
        self._latest_ms = np.zeros(window_frames)
        self._ready_ns = np.zeros(window_frames, np.int64)

    def add(self, captured_ns: int, ready_ns: int) -> None:
        """The labels of the frame captured at `captured_ns` were ready at `ready_ns`."""
        place = self._count % len(self._latest_ms)
        latency_ms = (ready_ns - captured_ns) / 1e6
        self._latest_ms[place] = latency_ms
        self._ready_ns[place] = ready_ns
        self._sum_ms += latency_ms
        self._count += 1

    @property
    def mean_ms(self) -> float:
        """Over all frames; zero before the first."""
        return self._sum_ms / self._count if self._count else 0.0

    @property
    def p50_ms(self) -> float:
        """The median of the last frames; zero before the first."""
        return self._percentile_ms(50)

    @property
    def p95_ms(self) -> float:
        """What 95 of 100 of the last frames did not exceed; zero before the first."""
        return self._percentile_ms(95)

    def per_s(self, now_ns: int) -> int:
        """Frames labelled in the stream second before `now_ns`, as far as the window reaches."""
        ready_ns = self._ready_ns[: self._count]
        return int(np.count_nonzero((ready_ns > now_ns - 1_000_000_000) & (ready_ns <= now_ns)))

    def _percentile_ms(self, percent: float) -> float:
        latest_ms = self._latest_ms[: self._count]
        return float(np.percentile(latest_ms, percent)) if latest_ms.size else 0.0
