"""The replay horizon: bounded in seconds and bytes, and never training on what it judges with."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ams.core.horizon import Horizon, HorizonClip
from tests.core.students import PROPERTY


def clip(start_s: float, frames: int = 10, *, gap_s: float = 1.0, size: int = 100) -> HorizonClip:
    times_s = tuple(start_s + gap_s * index for index in range(frames))
    return HorizonClip(f"{start_s}", times_s, b"", bytes(size - 10), bytes(10))


def filled(*starts_s: float, **bounds: float) -> Horizon:
    horizon = Horizon(**bounds)  # type: ignore[arg-type]
    for start_s in starts_s:
        assert horizon.add(clip(start_s))
    return horizon


def test_clips_leave_when_their_last_frame_is_older_than_the_span() -> None:
    horizon = filled(*range(0, 300, 10), span_s=100)
    assert horizon.newest is not None
    assert horizon.newest.times_s[0] == 290
    assert horizon.oldest is not None
    assert horizon.oldest.times_s == clip(190).times_s
    assert horizon.bytes == 100 * len(horizon)


def test_the_oldest_leave_when_the_bytes_are_too_many() -> None:
    horizon = filled(*range(0, 100, 10), max_bytes=350)
    assert len(horizon) == 3
    assert horizon.bytes == 300


def test_the_newest_is_kept_whatever_its_size() -> None:
    horizon = filled(0, 10, max_bytes=150)
    horizon.add(clip(20, size=10_000))
    assert len(horizon) == 1
    assert horizon.bytes == 10_000


def test_repetitions_and_late_clips_are_refused() -> None:
    horizon = filled(0, 10)
    assert not horizon.add(clip(10))
    assert not horizon.add(clip(5))
    assert not horizon.add(clip(19))  # begins where the newest ends
    assert len(horizon) == 2
    assert horizon.bytes == 200


@PROPERTY
@given(
    st.lists(st.tuples(st.floats(-20, 200), st.integers(1, 12), st.integers(20, 400)), max_size=30),
    st.integers(100, 2000),
    st.floats(1, 300),
)
def test_bounds_hold_for_any_arrival(arrivals: list[tuple[float, int, int]], max_bytes: int, span_s: float) -> None:
    horizon = Horizon(span_s=span_s, max_bytes=max_bytes)
    end_s = 0.0
    for gap_s, frames, size in arrivals:
        arrived = clip(end_s + gap_s, frames, size=size)
        if horizon.add(arrived):
            end_s = arrived.times_s[-1]
        assert len(horizon) <= 1 or horizon.bytes <= max_bytes
        if horizon.oldest is not None:
            assert horizon.oldest.times_s[-1] >= end_s - span_s


def test_what_judges_is_never_drawn_and_is_trained_on_in_the_next_phase() -> None:
    horizon = filled(0, 10)
    judged = {(ref.clip.clip_id, ref.index) for ref in horizon.held_out()}
    assert judged == {("10", 3), ("10", 7)}
    rng = np.random.default_rng(0)
    drawn = {(ref.clip.clip_id, ref.index) for row in horizon.draw(rng, steps=200, batch=8) for ref in row}
    assert not drawn & judged
    assert len(drawn) == 18
    horizon.add(clip(20))
    assert judged <= {(ref.clip.clip_id, ref.index) for ref in horizon.trainable()}


def test_frames_right_after_the_last_clip_do_not_judge() -> None:
    horizon = filled(0)
    horizon.add(clip(9.5, 3))
    assert [ref.index for ref in horizon.held_out()] == [1, 2]


def test_draws_are_uniform_with_replacement_and_repeat_with_their_seed() -> None:
    horizon = filled(0, 10)
    first = horizon.draw(np.random.default_rng(7), steps=5, batch=8)
    again = horizon.draw(np.random.default_rng(7), steps=5, batch=8)
    assert [len(row) for row in first] == [8] * 5
    assert first == again


def test_an_empty_horizon_has_nothing_to_give() -> None:
    horizon = Horizon()
    assert horizon.newest is None
    assert horizon.oldest is None
    assert horizon.held_out() == []
    assert horizon.trainable() == []
    assert horizon.hold_out().held_out == ()
    assert horizon.draw(np.random.default_rng(0), steps=2, batch=2) == []


def test_a_single_short_clip_judges_and_waits_to_be_trained_on() -> None:
    horizon = Horizon()
    horizon.add(clip(0, 3))
    assert len(horizon.held_out()) == 3
    assert horizon.draw(np.random.default_rng(0), steps=2, batch=2) == []


@given(st.permutations(range(0, 100, 10)))
def test_the_order_of_arrival_does_not_matter(starts_s: list[int]) -> None:
    horizon = filled(*starts_s)
    assert [held.times_s[0] for held in horizon._clips] == sorted(starts_s)
    assert horizon.newest is not None
    assert horizon.newest.times_s[0] == 90
    assert not any(horizon.add(clip(start_s)) for start_s in starts_s), "repetitions, in whatever order"


def test_a_clip_that_left_the_horizon_does_not_come_back() -> None:
    horizon = filled(0, 10, 200, span_s=100)
    assert not horizon.add(clip(0)), "a repetition"
    assert not horizon.add(clip(50)), "older than the horizon"


def test_clips_that_overlap_in_time_are_refused() -> None:
    horizon = filled(0, 20)
    other = HorizonClip("other", (5.0, 15.0), b"", b"v", b"l")
    assert not horizon.add(other)
    assert not horizon.add(HorizonClip("across", (15.0, 25.0), b"", b"v", b"l"))
