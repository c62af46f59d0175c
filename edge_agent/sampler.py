"""Which camera frames are sent, and when a clip is complete.

Pure: capture times are passed in, in stream nanoseconds. The first frame of a stream is taken at once; after that
two samples are never closer than 1 / rate. Rates may be changed at any time, from another thread, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from ams.core.messages import MAX_FRAMES_PER_CLIP
from ams.video.reader import FrameHWC
from edge_agent.runtime import LabelsHW


@dataclass(frozen=True, eq=False)
class Sample:
    """One sampled frame: number among the samples, capture time, version that ran on it, picture [H, W, 3]."""

    seq: int
    t_ns: int
    version: int
    image: FrameHWC


@dataclass(frozen=True, eq=False)
class SampledClip:
    """Frames to be sent together, and the device's own label map of the last one. `span_s` is what it covers."""

    samples: tuple[Sample, ...]
    labels: LabelsHW
    span_s: float


@dataclass(frozen=True)
class _Plan:
    spacing_ns: int
    interval_ns: int
    max_frames: int


class Sampler:
    """Takes samples and gathers them into clips. To be used by one thread; `set_rates` by any."""

    def __init__(self, *, sampling_hz: float, clip_interval_s: float, max_frames: int = MAX_FRAMES_PER_CLIP) -> None:
        self.set_rates(sampling_hz=sampling_hz, clip_interval_s=clip_interval_s, max_frames=max_frames)
        self._samples: list[Sample] = []
        self._labels_HW: LabelsHW | None = None
        self._last_ns: int | None = None
        self._taken = 0

    def set_rates(self, *, sampling_hz: float, clip_interval_s: float, max_frames: int) -> None:
        """Sample and close clips at these rates from the next frame on."""
        self._plan = _Plan(round(1e9 / sampling_hz), round(clip_interval_s * 1e9), max_frames)

    def is_due(self, t_ns: int) -> bool:
        """Whether the frame captured at `t_ns` is to be sampled."""
        return self._last_ns is None or t_ns - self._last_ns >= self._plan.spacing_ns

    def add(self, t_ns: int, version: int, image_HWC: FrameHWC, labels_HW: LabelsHW) -> None:
        """Take the frame captured at `t_ns`, which must be due; `version` ran on it and gave `labels_HW`."""
        self._samples.append(Sample(self._taken, t_ns, version, image_HWC))
        self._labels_HW = labels_HW
        self._last_ns = t_ns
        self._taken += 1

    def close_if_complete(self, t_ns: int) -> SampledClip | None:
        """The clip gathered so far, if `t_ns` lies beyond its interval or it is full; to be asked before `add`."""
        if not self._samples:
            return None
        plan = self._plan
        if len(self._samples) < plan.max_frames and t_ns - self._samples[0].t_ns < plan.interval_ns:
            return None
        return self._close(t_ns)

    def flush(self) -> SampledClip | None:
        """What has been gathered, complete or not: the stream ends."""
        return self._close(self._samples[-1].t_ns + self._plan.spacing_ns) if self._samples else None

    def _close(self, end_ns: int) -> SampledClip:
        assert self._labels_HW is not None
        clip = SampledClip(tuple(self._samples), self._labels_HW, (end_ns - self._samples[0].t_ns) / 1e9)
        self._samples = []
        return clip
