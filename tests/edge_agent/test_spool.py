"""The spool: bounds, acknowledgements, waiting, reconnects."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.messages import Clip, FrameStamp
from edge_agent.spool import ACK_DEADLINE_S, Spool, SpooledClip


def clip(number: int, size: int = 100) -> SpooledClip:
    header = Clip(
        stream="cam0",
        clip_id=f"{number:032x}",
        model_id="0" * 64,
        width=64,
        height=48,
        boot_id="boot",
        sent_ns=0,
        frames=(FrameStamp(seq=number, t_ns=number, version=0),),
    )
    return SpooledClip(header, bytes(size))


def held(spool: Spool) -> list[int]:
    numbers = []
    while (found := spool.next_due(math.inf)) is not None:
        numbers.append(int(found.clip_id, 16))
        spool.remove(found.clip_id)
    return numbers


def test_clips_go_oldest_first_and_stay_until_acknowledged() -> None:
    spool = Spool(max_clips=4, max_bytes=1000)
    for number in range(3):
        assert spool.put(clip(number)) == 0
    first = spool.next_due(0)
    assert first is not None
    spool.mark_sent(first.clip_id, 0)
    assert spool.in_flight(0) == 1
    second = spool.next_due(0)
    assert second is not None
    assert (first.clip_id, second.clip_id) == (clip(0).clip_id, clip(1).clip_id)
    assert len(spool) == 3
    assert spool.remove(first.clip_id)
    assert not spool.remove(first.clip_id)
    assert len(spool) == 2
    assert spool.in_flight(0) == 0


def test_oldest_waiting_clip_is_dropped_when_the_spool_is_full() -> None:
    spool = Spool(max_clips=3, max_bytes=1000)
    for number in range(3):
        spool.put(clip(number))
    spool.mark_sent(clip(0).clip_id, 0)
    assert spool.put(clip(3)) == 1
    assert held(spool) == [0, 2, 3]  # 0 is on its way, so 1 had to go


def test_oldest_is_dropped_even_on_its_way_when_nothing_else_waits() -> None:
    spool = Spool(max_clips=2, max_bytes=1000)
    for number in range(2):
        spool.put(clip(number))
        spool.mark_sent(clip(number).clip_id, 0)
    assert spool.put(clip(2)) == 1
    assert held(spool) == [1, 2]


def test_bytes_are_bounded_too() -> None:
    spool = Spool(max_clips=100, max_bytes=250)
    assert [spool.put(clip(number)) for number in range(4)] == [0, 0, 1, 1]
    assert spool.bytes_held == 200
    assert spool.put(clip(9, size=251)) == 1
    assert held(spool) == [2, 3]


def test_postponed_clip_waits_and_lets_others_pass() -> None:
    spool = Spool(max_clips=4, max_bytes=1000)
    spool.put(clip(0))
    spool.put(clip(1))
    spool.mark_sent(clip(0).clip_id, 10)
    spool.postpone(clip(0).clip_id, 10, 5)
    assert spool.due_in_s(12) == 3
    found = spool.next_due(12)
    assert found is not None
    assert found.clip_id == clip(1).clip_id
    found = spool.next_due(15)
    assert found is not None
    assert found.clip_id == clip(0).clip_id


def test_lost_connection_brings_back_what_was_on_its_way_but_not_what_was_postponed() -> None:
    spool = Spool(max_clips=4, max_bytes=1000)
    spool.put(clip(0))
    spool.put(clip(1))
    spool.postpone(clip(0).clip_id, 0, 100)
    spool.mark_sent(clip(1).clip_id, 0)
    assert spool.next_due(1) is None
    spool.connection_lost()
    found = spool.next_due(1)
    assert found is not None
    assert found.clip_id == clip(1).clip_id
    assert spool.due_in_s(1) == 99


def test_clip_without_an_answer_is_sent_again() -> None:
    spool = Spool(max_clips=4, max_bytes=1000)
    spool.put(clip(0))
    spool.mark_sent(clip(0).clip_id, 0)
    assert spool.next_due(ACK_DEADLINE_S - 1) is None
    assert spool.next_due(ACK_DEADLINE_S) is not None
    assert spool.in_flight(ACK_DEADLINE_S) == 0


def test_unknown_clips_are_old_news() -> None:
    spool = Spool(max_clips=1, max_bytes=1000)
    spool.mark_sent("f" * 32, 0)
    spool.postpone("f" * 32, 0, 1)
    assert not spool.remove("f" * 32)
    assert spool.due_in_s(0) == math.inf


@given(sizes=st.lists(st.integers(1, 120), max_size=60), sent=st.sets(st.integers(0, 60)))
def test_bounds_hold_whatever_comes(sizes: list[int], sent: set[int]) -> None:
    spool = Spool(max_clips=5, max_bytes=300)
    dropped = 0
    for number, size in enumerate(sizes):
        dropped += spool.put(clip(number, size))
        if number in sent:
            spool.mark_sent(clip(number).clip_id, 0)
        assert len(spool) <= 5
        assert spool.bytes_held <= 300
    assert dropped + len(spool) == len(sizes)
    if sizes:
        assert held(spool)[-1] == len(sizes) - 1  # the newest is never the one to go


@pytest.mark.parametrize("limit", [1, 3])
def test_spool_never_holds_more_clips_than_allowed(limit: int) -> None:
    spool = Spool(max_clips=limit, max_bytes=10_000)
    assert sum(spool.put(clip(number)) for number in range(10)) == 10 - limit
