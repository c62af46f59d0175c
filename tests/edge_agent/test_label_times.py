"""Camera-to-label times: percentiles of the last frames, the mean of all, labels per second."""

from __future__ import annotations

from edge_agent.label_times import LabelTimes

MS = 1_000_000


def test_before_the_first_frame_all_is_zero() -> None:
    times = LabelTimes()
    assert (times.mean_ms, times.p50_ms, times.p95_ms, times.per_s(10_000 * MS)) == (0, 0, 0, 0)


def test_percentiles_are_of_the_last_frames_and_the_mean_is_of_all() -> None:
    times = LabelTimes(window_frames=101)
    for _ in range(99):
        times.add(0, 1000 * MS)
    for latency_ms in range(101):
        times.add(0, latency_ms * MS)
    assert times.p50_ms == 50
    assert times.p95_ms == 95
    assert times.mean_ms == (99 * 1000 + 50 * 101) / 200


def test_labels_of_the_last_second_are_counted() -> None:
    times = LabelTimes()
    for index in range(50):
        times.add(index * 100 * MS, index * 100 * MS + 20 * MS)
    assert times.per_s(4920 * MS) == 10
    assert times.per_s(6000 * MS) == 0
