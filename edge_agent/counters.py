"""What the agent counts: totals since its start, and the rates between two reports.

Each counter has one writing thread; anybody may read. Pure: times are passed in, in stream seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.label_times import LabelTimes


@dataclass
class Counters:
    """Totals since the start. Bytes are WebSocket payloads, all messages included.

    A frame is late when its labels were ready more than one frame period after its capture: at the camera's next
    frame they were not there yet.
    """

    frames: int = 0
    frames_dropped: int = 0
    frames_late: int = 0
    inferences: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    clips_acknowledged: int = 0
    clips_dropped: int = 0
    patches_applied: int = 0
    patches_refused: int = 0
    digest_mismatches: int = 0
    swap_ms: float = 0.0
    label_times: LabelTimes = field(default_factory=LabelTimes)

    def labelled(self, captured_ns: int, ready_ns: int, *, period_s: float) -> None:
        """Count one inference: captured and ready at these stream times, by a camera of this frame period."""
        self.inferences += 1
        self.label_times.add(captured_ns, ready_ns)
        if ready_ns - captured_ns > period_s * 1e9:
            self.frames_late += 1


@dataclass(frozen=True)
class Throughput:
    """What happened per stream second; kbps are 1000 bit."""

    camera_fps: float
    inference_fps: float
    uplink_kbps: float
    downlink_kbps: float


@dataclass(frozen=True)
class Mark:
    """Counters at one moment, to take differences from."""

    at_s: float
    frames: int = 0
    inferences: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    @classmethod
    def of(cls, counters: Counters, at_s: float) -> Mark:
        """The counters as they stand at `at_s`."""
        return cls(at_s, counters.frames, counters.inferences, counters.bytes_up, counters.bytes_down)

    def until(self, later: Mark) -> Throughput:
        """What happened per second between this mark and a later one; zero when no time has passed."""
        seconds = later.at_s - self.at_s
        per_s = 1 / seconds if seconds > 0 else 0.0
        return Throughput(
            camera_fps=(later.frames - self.frames) * per_s,
            inference_fps=(later.inferences - self.inferences) * per_s,
            uplink_kbps=(later.bytes_up - self.bytes_up) * per_s / 125,
            downlink_kbps=(later.bytes_down - self.bytes_down) * per_s / 125,
        )
