"""Which patches bring a device to the newest version, and when only the owner can help."""

from __future__ import annotations

from itertools import count

import pytest

from ams.core.catch_up import CatchUp, LogEntry, catch_up

_ids = count(1)


def patch(base: int, version: int, size: int = 30, digest: str = "") -> LogEntry:
    kind = "patch" if base else "keyframe"
    return LogEntry(kind, base, version, f"1-{next(_ids)}", digest or f"d{version}", size)  # type: ignore[arg-type]


def takeover(version: int) -> LogEntry:
    return LogEntry("takeover", version, version, f"2-{next(_ids)}")


def chain(first: int, last: int) -> list[LogEntry]:
    """Entries first -> first + 1 -> ... -> last."""
    return [patch(version, version + 1) for version in range(first, last)]


def ways(plan: CatchUp) -> list[tuple[int, int]]:
    return [(entry.base, entry.version) for entry in plan.send]


def test_an_empty_log_and_a_new_device_have_nothing_to_say() -> None:
    assert catch_up([], version=0) == CatchUp()


def test_a_device_on_the_newest_version_gets_nothing() -> None:
    assert catch_up(chain(0, 5), version=5, digest="d5") == CatchUp()


def test_a_new_device_gets_the_whole_chain_in_order() -> None:
    assert ways(catch_up(chain(0, 3), version=0)) == [(0, 1), (1, 2), (2, 3)]


def test_a_device_in_the_middle_gets_the_rest() -> None:
    assert ways(catch_up(chain(0, 5), version=3, digest="d3")) == [(3, 4), (4, 5)]


def test_takeovers_are_not_patches() -> None:
    log = [*chain(0, 2), takeover(2), *chain(2, 3)]
    assert ways(catch_up(log, version=1)) == [(1, 2), (2, 3)]


def test_a_takeover_tells_the_newest_version_of_a_log_that_is_otherwise_empty() -> None:
    assert catch_up([takeover(4)], version=4) == CatchUp()
    assert catch_up([takeover(4)], version=3) == CatchUp(need="gap")
    assert catch_up([takeover(4)], version=5) == CatchUp(need="ahead")


def test_a_trimmed_log_begins_with_a_keyframe() -> None:
    log = [patch(0, 64, size=2000), *chain(64, 66)]
    assert ways(catch_up(log, version=0)) == [(0, 64), (64, 65), (65, 66)]
    assert ways(catch_up(log, version=17)) == [(0, 64), (64, 65), (65, 66)]
    assert ways(catch_up(log, version=65)) == [(65, 66)]


def test_a_keyframe_bridges_a_gap() -> None:
    log = [*chain(0, 3), *chain(5, 8), patch(0, 8, size=2000)]
    assert ways(catch_up(log, version=2)) == [(0, 8)]


def test_a_gap_without_a_keyframe_needs_the_owner() -> None:
    log = [*chain(0, 3), *chain(5, 8)]
    assert catch_up(log, version=2) == CatchUp(need="gap")
    assert ways(catch_up(log, version=6)) == [(6, 7), (7, 8)]


def test_half_a_way_is_not_sent() -> None:
    assert catch_up([*chain(0, 3), *chain(5, 8)], version=0).send == ()


def test_a_device_ahead_of_the_log_needs_the_owner() -> None:
    assert catch_up(chain(0, 3), version=4) == CatchUp(need="ahead")
    assert catch_up([], version=1) == CatchUp(need="ahead")


def test_the_keyframe_that_a_device_ahead_is_given_brings_it_back() -> None:
    log = [*chain(0, 3), patch(0, 5, size=2000)]
    assert ways(catch_up(log, version=4, digest="lost")) == [(0, 5)]


def test_a_cumulative_patch_is_taken_when_it_is_smaller() -> None:
    log = [*chain(0, 6), patch(2, 6, size=50)]
    assert ways(catch_up(log, version=2)) == [(2, 6)]
    assert ways(catch_up(log, version=1)) == [(1, 2), (2, 6)]
    assert ways(catch_up(log, version=4)) == [(4, 5), (5, 6)]


def test_a_cumulative_patch_is_not_taken_when_it_is_larger() -> None:
    log = [*chain(0, 2), patch(0, 2, size=2000)]
    assert ways(catch_up(log, version=0)) == [(0, 1), (1, 2)]


def test_a_keyframe_is_taken_when_the_chain_is_larger() -> None:
    log = [*chain(0, 64), patch(0, 64, size=500)]
    assert ways(catch_up(log, version=3)) == [(0, 64)]
    assert ways(catch_up(log, version=63)) == [(63, 64)]


def test_with_equal_bytes_fewer_patches_win() -> None:
    log = [patch(1, 2, size=10), patch(2, 3, size=10), patch(1, 3, size=20)]
    assert ways(catch_up(log, version=1)) == [(1, 3)]


def test_a_rollback_comes_with_its_cumulative_patch() -> None:
    # Version 5 was refused by a device that runs 4: 6 has the content of 4, and 4 -> 6 changes nothing.
    log = [*chain(0, 5), patch(5, 6), patch(4, 6, size=1)]
    assert ways(catch_up(log, version=4)) == [(4, 6)]


def test_other_weights_under_the_same_number_are_never_patched() -> None:
    log = chain(0, 5)
    assert catch_up(log, version=3, digest="other") == CatchUp(need="diverged")


def test_a_keyframe_mends_other_weights() -> None:
    log = [*chain(0, 4), patch(0, 5, size=2000), *chain(5, 6)]
    assert ways(catch_up(log, version=3, digest="other")) == [(0, 5), (5, 6)]


def test_a_keyframe_to_the_very_version_mends_other_weights() -> None:
    log = [*chain(0, 3), patch(0, 3, size=2000)]
    assert ways(catch_up(log, version=3, digest="other")) == [(0, 3)]
    assert catch_up(log, version=3, digest="d3") == CatchUp()


def test_an_unknown_digest_is_believed() -> None:
    assert ways(catch_up(chain(0, 3), version=2)) == [(2, 3)]
    assert ways(catch_up([patch(2, 3)], version=2, digest="anything")) == [(2, 3)]


def test_a_keyframe_behind_the_device_is_of_no_use() -> None:
    assert catch_up([patch(0, 3), patch(7, 8)], version=5) == CatchUp(need="gap")


def test_of_two_contents_of_one_version_the_later_one_counts() -> None:
    log = [*chain(0, 2), patch(2, 3, digest="old"), patch(0, 3, size=2000, digest="new"), patch(3, 4)]
    assert ways(catch_up(log, version=2)) == [(0, 3), (3, 4)]
    assert ways(catch_up(log, version=3, digest="old")) == [(0, 3), (3, 4)]
    assert ways(catch_up(log, version=3, digest="new")) == [(3, 4)]


def test_an_entry_that_leads_nowhere_is_ignored() -> None:
    log = [*chain(0, 2), patch(2, 2), patch(5, 1)]
    assert ways(catch_up(log, version=1)) == [(1, 2)]


@pytest.mark.parametrize("running", range(65))
def test_every_version_of_a_full_log_finds_a_way(running: int) -> None:
    log = [*chain(0, 64), takeover(64), patch(0, 64, size=900)]
    plan = catch_up(log, version=running, digest=f"d{running}")
    assert not plan.need
    at = running
    for entry in plan.send:
        assert entry.base in (0, at)
        assert entry.version > at
        at = entry.version
    assert at == 64
