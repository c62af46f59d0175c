"""A stream in memory with the rules of a Redis Stream: growing ids, a last id that survives trims, bounds, expiry.

Knows ids and time as it is told. Does not know what the entries are, and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

from ams.broker.keys import KeyKind
from ams.errors import BrokerError

EntryId: TypeAlias = tuple[int, int]
Item = TypeVar("Item")

NO_ID: EntryId = (0, 0)


class MemoryStream(Generic[Item]):
    """Entries in order of their ids."""

    def __init__(self, maxlen: int | None = None) -> None:
        self.entries: dict[EntryId, Item] = {}
        self.last_id = NO_ID
        self.written_s = 0.0
        self._maxlen = maxlen

    def add(self, item: Item, now_s: float) -> EntryId:
        """Append with the time in milliseconds as id; when the clock stands or goes back, the last id counts on."""
        time_id = (int(now_s * 1000), 0)
        return self.add_as(time_id if time_id > self.last_id else (self.last_id[0], self.last_id[1] + 1), item, now_s)

    def add_as(self, entry_id: EntryId, item: Item, now_s: float) -> EntryId:
        """Append with a given id, which must be above every id before it."""
        if entry_id <= self.last_id:
            raise BrokerError(f"id {name(entry_id)} is equal or smaller than the newest, {name(self.last_id)}")
        self.entries[entry_id] = item
        self.last_id = entry_id
        self.written_s = now_s
        while self._maxlen is not None and len(self.entries) > self._maxlen:
            del self.entries[next(iter(self.entries))]
        return entry_id

    def after(self, entry_id: EntryId, count: int) -> list[tuple[EntryId, Item]]:
        """Up to `count` entries with ids above `entry_id`, oldest first."""
        return list(islice((entry for entry in self.entries.items() if entry[0] > entry_id), count))

    def trim(self, before: EntryId) -> None:
        """Drop all entries with ids below `before`."""
        for entry_id in [known for known in self.entries if known < before]:
            del self.entries[entry_id]


class StreamTable(Generic[Item]):
    """All streams of one row of the key table, by session; each goes when nobody wrote for the row's lifetime."""

    def __init__(self, kind: KeyKind, now: Callable[[], float]) -> None:
        self._kind = kind
        self._now = now
        self._streams: dict[str, MemoryStream[Item]] = {}

    def of(self, *parts: str) -> MemoryStream[Item]:
        """The stream for these names, empty when there is none."""
        key = self._kind(*parts)
        stream = self._streams.get(key.name)
        if stream is None or (key.ttl_s is not None and self._now() >= stream.written_s + key.ttl_s):
            stream = self._streams[key.name] = MemoryStream(key.maxlen)
        return stream

    def clear(self) -> None:
        """Drop all streams."""
        self._streams.clear()


def name(entry_id: EntryId) -> str:
    """An id as text."""
    return f"{entry_id[0]}-{entry_id[1]}"


def parse(entry_id: str) -> EntryId:
    """An id from text; the empty string is before all. Raises BrokerError for anything else."""
    if not entry_id:
        return NO_ID
    time_part, _, count_part = entry_id.partition("-")
    if not time_part.isdecimal() or not (count_part or "0").isdecimal():
        raise BrokerError(f"entry id is {entry_id!r}, expected <number>-<number> as append returned it")
    return int(time_part), int(count_part or "0")
