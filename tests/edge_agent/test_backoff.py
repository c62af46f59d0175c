"""Waiting between attempts to connect."""

from __future__ import annotations

import random

from edge_agent.backoff import Backoff


def test_waits_grow_to_the_limit_and_start_over() -> None:
    backoff = Backoff(rng=random.Random(1))
    waits = [backoff.next_s() for _ in range(100)]
    assert 0.25 <= waits[0] <= 0.5
    assert all(0.5 * min(30, 0.5 * 2.0**k) <= wait <= min(30, 0.5 * 2.0**k) for k, wait in enumerate(waits))
    assert len(set(waits[10:])) > 50  # jittered
    backoff.reset()
    assert backoff.next_s() <= 0.5


def test_refusal_waits_long_at_once() -> None:
    backoff = Backoff(rng=random.Random(1))
    assert 30 <= backoff.next_s(refused=True) <= 60
    assert backoff.next_s() <= 0.5
