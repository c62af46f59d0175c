"""What the agent says of itself at its end."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.counters import Counters, Mark
from edge_agent.model_slot import Running
from edge_agent.totals import totals


def test_late_and_dropped_frames_are_a_share_of_all(tiny: type) -> None:
    counters = Counters(frames=40, frames_dropped=6, bytes_up=2500)
    for latency_ms in (20, 20, 20, 120):
        counters.labelled(0, latency_ms * 1_000_000, period_s=0.1)
    running = Running(3, b"\xab" * 32, np.zeros(1, np.int32), tiny.Runtime(0))
    said = totals(counters, Mark(10.0), Mark.of(counters, 14.0), running)
    assert (said["frames_late"], said["frames_dropped"]) == (1, 6)
    assert said["late_share"] == pytest.approx(7 / 40)
    assert (said["latency_mean_ms"], said["latency_p50_ms"], said["latency_p95_ms"]) == (45, 20, 105)
    assert (said["stream_s"], said["camera_fps"], said["inference_fps"], said["uplink_kbps"]) == (4, 10, 1, 5)
    assert (said["version"], said["digest"]) == (3, "ab" * 32)


def test_a_run_without_frames_has_no_late_ones(tiny: type) -> None:
    running = Running(0, b"", np.zeros(1, np.int32), tiny.Runtime(0))
    assert totals(Counters(), Mark(1.0), Mark(1.0), running)["late_share"] == 0
