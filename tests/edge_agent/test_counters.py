"""Rates between two marks."""

from __future__ import annotations

from edge_agent.counters import Counters, Mark


def test_rates_are_per_stream_second() -> None:
    counters = Counters(frames=10, inferences=8, bytes_up=500, bytes_down=250)
    before = Mark.of(counters, 5.0)
    counters.frames, counters.inferences, counters.bytes_up, counters.bytes_down = 30, 18, 3000, 500
    passed = before.until(Mark.of(counters, 7.0))
    assert (passed.camera_fps, passed.inference_fps) == (10, 5)
    assert (passed.uplink_kbps, passed.downlink_kbps) == (10, 1)


def test_no_time_gives_zero() -> None:
    assert Mark(1.0).until(Mark.of(Counters(frames=3), 1.0)).camera_fps == 0


def test_labels_after_the_cameras_next_frame_are_late() -> None:
    counters = Counters()
    for latency_ms in (10, 100, 101, 250):
        counters.labelled(5_000_000_000, 5_000_000_000 + latency_ms * 1_000_000, period_s=0.1)
    assert (counters.inferences, counters.frames_late) == (4, 2)
    assert counters.label_times.mean_ms == 461 / 4
