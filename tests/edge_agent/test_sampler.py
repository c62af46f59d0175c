"""Sampling: spacing, clips, changing rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sampler import SampledClip, Sampler

S = 1_000_000_000


def play(sampler: Sampler, times_ns: list[int]) -> list[SampledClip]:
    """Offer frames as the agent does; the label map of each holds the number of its frame."""
    clips = []
    for number, t_ns in enumerate(times_ns):
        clip = sampler.close_if_complete(t_ns)
        if clip is not None:
            clips.append(clip)
        if sampler.is_due(t_ns):
            labels = np.full((2, 2), number % 256, np.uint8)
            sampler.add(t_ns, version=number, image_HWC=np.zeros((2, 2, 3), np.uint8), labels_HW=labels)
    return clips


def times(clip: SampledClip) -> list[float]:
    return [sample.t_ns / S for sample in clip.samples]


def camera(fps: int, seconds: float) -> list[int]:
    return [round(k * S / fps) for k in range(int(fps * seconds))]


def test_one_hertz_from_ten_fps_is_exactly_one_second() -> None:
    sampler = Sampler(sampling_hz=1, clip_interval_s=10)
    (clip,) = play(sampler, camera(10, 10.5))
    assert times(clip) == [float(k) for k in range(10)]
    assert [sample.seq for sample in clip.samples] == list(range(10))
    assert [sample.version for sample in clip.samples] == list(range(0, 100, 10))


def test_first_frame_is_taken_at_once() -> None:
    sampler = Sampler(sampling_hz=0.1, clip_interval_s=10)
    assert sampler.is_due(123)


def test_clips_follow_without_a_gap() -> None:
    clips = play(Sampler(sampling_hz=1, clip_interval_s=3), camera(10, 9.5))
    assert [times(clip) for clip in clips] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert all(clip.span_s == pytest.approx(3) for clip in clips)


def test_full_clip_is_closed_early() -> None:
    clips = play(Sampler(sampling_hz=10, clip_interval_s=60, max_frames=4), camera(10, 1))
    assert [len(clip.samples) for clip in clips] == [4, 4]


def test_interval_below_the_spacing_gives_clips_of_one_frame() -> None:
    clips = play(Sampler(sampling_hz=0.5, clip_interval_s=1), camera(10, 6.5))
    assert [times(clip) for clip in clips] == [[0], [2], [4]]


def test_rate_can_change_in_the_middle() -> None:
    sampler = Sampler(sampling_hz=1, clip_interval_s=100)
    frames = camera(10, 6)
    play(sampler, frames[:25])
    sampler.set_rates(sampling_hz=5, clip_interval_s=100, max_frames=64)
    play(sampler, frames[25:31])
    sampler.set_rates(sampling_hz=0.5, clip_interval_s=100, max_frames=64)
    play(sampler, frames[31:])
    clip = sampler.flush()
    assert clip is not None
    assert times(clip) == pytest.approx([0, 1, 2, 2.5, 2.7, 2.9, 4.9])


def test_flush_gives_the_rest_once() -> None:
    sampler = Sampler(sampling_hz=1, clip_interval_s=10)
    assert sampler.flush() is None
    play(sampler, camera(10, 2.5))
    clip = sampler.flush()
    assert clip is not None
    assert times(clip) == [0, 1, 2]
    assert clip.span_s == pytest.approx(3)
    assert sampler.flush() is None


def test_labels_are_those_of_the_last_frame() -> None:
    (clip,) = play(Sampler(sampling_hz=1, clip_interval_s=3), camera(10, 3.5))
    assert np.all(clip.labels == 20)


@given(
    gaps_ms=st.lists(st.integers(1, 400), min_size=1, max_size=200),
    hz=st.floats(0.5, 30),
    interval_s=st.floats(0.1, 5),
    max_frames=st.integers(1, 64),
)
def test_spacing_and_bounds_hold_for_any_camera(
    gaps_ms: list[int], hz: float, interval_s: float, max_frames: int
) -> None:
    frames = list(np.cumsum(gaps_ms) * 1_000_000)
    sampler = Sampler(sampling_hz=hz, clip_interval_s=interval_s, max_frames=max_frames)
    clips = play(sampler, [int(t) for t in frames])
    rest = sampler.flush()
    samples = [sample for clip in [*clips, *([rest] if rest else [])] for sample in clip.samples]
    assert samples[0].t_ns == frames[0]
    assert [sample.seq for sample in samples] == list(range(len(samples)))
    spacing = np.diff([sample.t_ns for sample in samples])
    assert np.all(spacing >= round(1e9 / hz))
    assert all(1 <= len(clip.samples) <= max_frames for clip in clips)
    assert all(clip.samples[-1].t_ns - clip.samples[0].t_ns < interval_s * 1e9 + 1 for clip in clips)
