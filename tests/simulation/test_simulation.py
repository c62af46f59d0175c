"""Some hundred seeds hold, a seed is the same story every time, and a bug made on purpose is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.chaos import FAILURES, Chaos
from tests.simulation.mutations import MUTATIONS
from tests.simulation.run import Outcome, run_seed

REPOSITORY = Path(__file__).resolve().parents[2]
SEEDS = 160
AT_ONCE = 20
TAIL = 40

CAUGHT_FROM = {
    "digest_not_checked": 7,
    "clip_acknowledged_before_it_is_durable": 2,
    "fence_forgotten": 6,
    "clip_done_before_it_is_labelled": 12,
    "everything_sent_at_once": 5,
    "repeated_clips_scored_again": 1,
    "device_ahead_not_rebased": 30,
    "announced_target_not_compared": 0,
    "cancellation_swallowed": 24,
    "lost_versions_not_noticed": 15,
    "ids_given_out_again_not_noticed": 44,
}
"""Where to begin looking: the first seed that found each bug when this was written."""

LOOKED_AT = 25
"""Seeds from there on, of which one must find it still."""


def story(outcome: Outcome) -> str:
    """What went wrong, how to see it again, and what came before it."""
    again = f"python -m tests.simulation --seed {outcome.seed} --trace"
    return "\n".join([f"{outcome.violations[0]}\n{again}", *outcome.lines[-TAIL:]])


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    return Counter()


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_what_must_hold_holds(first: int, seen: Counter[str]) -> None:
    for seed in range(first, first + AT_ONCE):
        outcome = run_seed(seed)
        seen.update(outcome.faults)
        if not outcome.ok:
            pytest.fail(story(outcome), pytrace=False)


def test_every_kind_of_fault_was_suffered(seen: Counter[str]) -> None:
    if not seen:  # this test was asked for alone
        for seed in range(SEEDS):
            seen.update(run_seed(seed).faults)
    kinds = {name.removeprefix("_fault_") for name in dir(Chaos) if name.startswith("_fault_")}
    rare = {"teacher_broken"}
    assert (kinds | set(FAILURES) | {"corrupt_patch", "http_error"}) - rare <= seen.keys()


def test_a_seed_is_the_same_story_twice() -> None:
    first, second = run_seed(3), run_seed(3)
    assert first.lines == second.lines
    assert first.digest == second.digest
    assert len(first.lines) > 100
    assert run_seed(4).digest != first.digest


def test_a_seed_is_the_same_story_on_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "3"], cwd=REPOSITORY, capture_output=True, text=True,
        timeout=120, env={**os.environ, "PYTHONHASHSEED": "17"}, check=True,
    )  # fmt: skip
    assert run_seed(3).digest in done.stdout


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_bug_made_on_purpose_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch.setattr)
    start = CAUGHT_FROM[name]
    assert any(not run_seed(seed).ok for seed in range(start, start + LOOKED_AT)), f"{name} passed unseen"
