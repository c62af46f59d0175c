"""The uplink's bucket: the budget holds in the long run, savings are bounded, an overshoot is paid back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ams.core.bitrate import MIN_CLIP_BYTES, BitrateBudget
from tests.core.students import PROPERTY


def test_the_first_clip_gets_what_its_seconds_are_worth() -> None:
    assert BitrateBudget(200).grant_bytes(1000.0, 10.0) == 250_000


def test_what_is_not_spent_is_saved_for_thirty_seconds() -> None:
    budget = BitrateBudget(200)
    budget.grant_bytes(0.0, 10.0)
    budget.spend(50_000)
    assert budget.grant_bytes(10.0, 10.0) == 450_000
    assert budget.grant_bytes(1000.0, 10.0) == 750_000  # 30 s of 25,000 bytes, however long the silence


def test_an_overshoot_is_paid_back_by_the_next() -> None:
    budget = BitrateBudget(200)
    granted = budget.grant_bytes(0.0, 10.0)
    budget.spend(granted + 100_000)
    assert budget.grant_bytes(10.0, 10.0) == 150_000


def test_a_clip_never_gets_less_than_a_frame_needs() -> None:
    budget = BitrateBudget(200)
    budget.grant_bytes(0.0, 10.0)
    budget.spend(10_000_000)
    assert budget.grant_bytes(10.0, 10.0) == MIN_CLIP_BYTES


def test_a_clip_of_a_long_interval_may_use_all_of_it() -> None:
    budget = BitrateBudget(80)
    budget.grant_bytes(0.0, 60.0)
    budget.spend(600_000)
    assert budget.grant_bytes(60.0, 60.0) == 600_000


@PROPERTY
@given(st.floats(50, 5000), st.lists(st.tuples(st.floats(1, 60), st.floats(0, 1)), min_size=1, max_size=40))
def test_over_any_stretch_the_budget_and_one_burst_are_never_exceeded(
    kbps: float, clips: list[tuple[float, float]]
) -> None:
    budget, now_s, spent, longest_s = BitrateBudget(kbps), 0.0, 0, clips[0][0]
    for clip_s, used in clips:
        now_s += clip_s
        longest_s = max(longest_s, clip_s)
        clip_bytes = int(budget.grant_bytes(now_s, clip_s) * used)
        budget.spend(clip_bytes)
        spent += clip_bytes
    assert spent <= (now_s + max(30.0, longest_s)) * kbps * 125 + MIN_CLIP_BYTES
