"""The logs of a session in memory, with the ids, bounds and fencing of the Redis ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ams.broker import keys
from ams.broker.memory_connection import MemoryConnection
from ams.broker.memory_stream import StreamTable, name, parse
from ams.broker.patch_ids import next_patch_id
from ams.ports import LabelledClip, PatchEntry, ScoreEntry, UpstreamEvent


class MemoryLabelLog:
    """LabelLog."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection
        self._streams: StreamTable[LabelledClip] = StreamTable(keys.LABELLED, connection.now)
        connection.clears_with(self._streams.clear)

    async def append(self, clip: LabelledClip) -> str:
        """Add a clip; returns its entry id."""
        await self._connection.reach()
        return name(self._streams.of(clip.sid).add(clip, self._connection.now()))

    async def read(self, sid: str, *, after: str = "", count: int = 64) -> Sequence[LabelledClip]:
        """Clips after an entry id, without waiting."""
        await self._connection.reach()
        found = self._streams.of(sid).after(parse(after), count)
        return [replace(clip, entry_id=name(entry_id)) for entry_id, clip in found]

    async def trim(self, sid: str, *, before: str) -> None:
        """Drop all entries older than `before`."""
        await self._connection.reach()
        self._streams.of(sid).trim(parse(before))


class MemoryPatchLog:
    """PatchLog."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection
        self._streams: StreamTable[PatchEntry] = StreamTable(keys.PATCHES, connection.now)
        connection.clears_with(self._streams.clear)

    def last_fence(self, sid: str) -> int:
        """The highest fence that has written here, 0 for none."""
        return self._streams.of(sid).last_id[0]

    async def append(self, sid: str, entry: PatchEntry) -> str:
        """Add an entry. Raises FencedError when this fence is over, or when it was taken over twice."""
        await self._connection.reach()
        stream = self._streams.of(sid)
        entry_id = next_patch_id(stream.last_id, sid, entry)
        stream.add_as(parse(entry_id), entry, self._connection.now())
        return entry_id

    async def read(self, sid: str, *, after: str = "", count: int = 256) -> Sequence[PatchEntry]:
        """Entries after an entry id, without waiting."""
        await self._connection.reach()
        found = self._streams.of(sid).after(parse(after), count)
        return [replace(entry, entry_id=name(entry_id)) for entry_id, entry in found]

    async def trim(self, sid: str, *, before: str) -> None:
        """Drop all entries older than `before`; the log still refuses their ids."""
        await self._connection.reach()
        self._streams.of(sid).trim(parse(before))


class MemoryUpstream:
    """Upstream."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection
        self._streams: StreamTable[UpstreamEvent] = StreamTable(keys.UP, connection.now)
        connection.clears_with(self._streams.clear)

    async def post(self, sid: str, event: UpstreamEvent) -> None:
        """Add an event."""
        await self._connection.reach()
        self._streams.of(sid).add(event, self._connection.now())

    async def read(self, sid: str, *, after: str = "", count: int = 256) -> Sequence[UpstreamEvent]:
        """Events after an entry id, without waiting."""
        await self._connection.reach()
        found = self._streams.of(sid).after(parse(after), count)
        return [replace(event, entry_id=name(entry_id)) for entry_id, event in found]


class MemoryScoreLog:
    """ScoreLog."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection
        self._streams: StreamTable[ScoreEntry] = StreamTable(keys.SCORES, connection.now)
        connection.clears_with(self._streams.clear)

    async def append(self, sid: str, kind: str, body: bytes) -> None:
        """Add a line."""
        await self._connection.reach()
        self._streams.of(sid).add(ScoreEntry(kind, body), self._connection.now())

    async def read(self, sid: str, *, after: str = "", count: int = 1024) -> Sequence[ScoreEntry]:
        """Lines after an entry id, without waiting."""
        await self._connection.reach()
        found = self._streams.of(sid).after(parse(after), count)
        return [replace(entry, entry_id=name(entry_id)) for entry_id, entry in found]
