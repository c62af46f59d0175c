"""Clips that are told to come back do not lose their place."""

from __future__ import annotations

import pytest

from services.gateway.clip_order import GAP_S, MAX_WAITED_FOR, PATIENCE_S, ClipOrder
from tests.services.gateway.conftest import clip


def test_without_a_refusal_nobody_waits() -> None:
    order = ClipOrder()
    assert order.wait_s(clip(5), 0) is None
    order.admitted(clip(5))
    assert order.wait_s(clip(3), 0) is None


def test_a_later_clip_waits_until_just_after_the_refused_one() -> None:
    order = ClipOrder()
    assert order.come_back(clip(2), 2.0, now_s=10) == 2.0
    assert order.wait_s(clip(3), 10.5) == pytest.approx(1.5 + GAP_S)
    assert order.wait_s(clip(3), 13) == GAP_S, "overdue, but not given up"
    assert order.wait_s(clip(1), 10.5) is None, "an older one goes first"
    assert order.wait_s(clip(2), 12) is None


def test_several_come_back_one_after_the_other() -> None:
    order = ClipOrder()
    order.come_back(clip(1), 2.0, now_s=0)
    for number in (2, 3, 4):
        wait_s = order.wait_s(clip(number), 0.1)
        assert wait_s is not None
        order.come_back(clip(number), wait_s, now_s=0.1)
    dues = [order.wait_s(clip(number), 0.1) for number in (2, 3, 4, 5)]
    assert dues == sorted(dues, key=lambda due: due or 0)
    for number in (1, 2, 3, 4):
        assert order.wait_s(clip(number), 3) is None
        assert order.wait_s(clip(number + 1), 3) is not None
        order.admitted(clip(number))
    assert order.wait_s(clip(5), 3) is None


def test_a_clip_that_does_not_come_is_given_up() -> None:
    order = ClipOrder()
    order.come_back(clip(1), 2.0, now_s=0)
    assert order.wait_s(clip(2), 2 + PATIENCE_S - 0.1) is not None
    assert order.wait_s(clip(2), 2 + PATIENCE_S) is None


def test_a_device_that_drops_its_oldest_clips_is_not_kept_out_for_ever() -> None:
    order = ClipOrder()
    order.come_back(clip(1), 2.0, now_s=0)  # the broker was away, and this one had to go meanwhile
    spool = list(range(2, 14))
    taken, newest = [], 13
    for second in range(1, 120):
        if second % 6 == 0:  # a new clip comes, and the oldest has to go for it
            newest += 1
            spool = [*spool[1:], newest]
        for number in list(spool):
            wait_s = order.wait_s(clip(number), second)
            if wait_s is None:
                order.admitted(clip(number))
                spool.remove(number)
                taken.append(number)
            else:
                order.come_back(clip(number), wait_s, second, behind=True)
        if len(spool) < 12:
            break
    assert taken
    assert second <= 2 + PATIENCE_S + 6


def test_clips_of_another_boot_do_not_wait() -> None:
    order = ClipOrder()
    order.come_back(clip(1), 2.0, now_s=0)
    assert order.wait_s(clip(2).model_copy(update={"boot_id": "next"}), 0) is None


def test_the_memory_is_bounded() -> None:
    order = ClipOrder()
    for number in range(1, MAX_WAITED_FOR + 2):
        order.come_back(clip(number), 2.0, now_s=0)
    assert order.wait_s(clip(2), 0) is None, "the first one is forgotten"
    assert order.wait_s(clip(3), 0) is not None
