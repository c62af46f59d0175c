"""The table of keys: names, hash tags, and that no two rows can mean the same key."""

from __future__ import annotations

import pytest

from ams.broker import keys
from ams.errors import BrokerError


def test_names() -> None:
    assert keys.CLIPS("large", "0").name == "ams:clips:{large:0}"
    assert keys.DEAD("large", "0").name == "ams:dead:{large:0}"
    assert keys.UP("pi/front").name == "ams:{pi/front}:up"
    assert keys.BELL("trainer-1").name == "ams:bell:trainer-1"
    assert keys.SESSIONS().name == "ams:sessions"


def test_backslashes_and_marks_in_names_stay_as_they_are() -> None:
    assert keys.UP(r"a\1<sid>").name == r"ams:{a\1<sid>}:up"


@pytest.mark.parametrize("name", ["{", "a}b"])
def test_braces_are_refused(name: str) -> None:
    with pytest.raises(BrokerError, match="braces"):
        keys.UP(name)


def test_each_key_belongs_to_one_row() -> None:
    for kind in keys.TABLE:
        name = kind(*(["pi/front", "0"][: kind.pattern.count("<")])).name
        assert [row.pattern for row in keys.TABLE if row.matches(name)] == [kind.pattern]
        assert keys.kind_of(name) is kind
    assert keys.kind_of("celery") is None
    assert keys.kind_of("ams:{pi/front}:other") is None


def test_every_row_says_its_bound() -> None:
    for kind in keys.TABLE:
        assert kind.bound
        assert kind.holds


def test_shards_are_stable_and_spread() -> None:
    assert {keys.shard_of(f"d{n}/x", 1) for n in range(50)} == {"0"}
    assert {keys.shard_of(f"d{n}/x", 4) for n in range(50)} == {"0", "1", "2", "3"}
    assert keys.shard_of("pi/front", 4) == "3", "all processes and versions must agree"
