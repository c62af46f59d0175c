"""The logs of a session on Redis: labelled clips, patches, scores, and what the device tells its owner.

Fencing needs no script. An entry of the patch log has the id `<fence>-<n>`; Redis refuses an id that is not above
the highest one the stream ever had, trimmed or not. So once a new owner has written its takeover entry, whatever the
old owner still sends is refused by Redis itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ams.broker import keys
from ams.broker.patch_ids import next_patch_id
from ams.broker.redis_connection import RedisConnection, refused_with
from ams.broker.redis_stream import Fields, Found, adding, append, read, text, trim
from ams.errors import BrokerError, FencedError
from ams.ports import LabelledClip, PatchEntry, ScoreEntry, UpstreamEvent

APPEND_ATTEMPTS = 8
"""Times that an owner looks for a free id; it only competes with itself."""


class RedisLabelLog:
    """LabelLog. An entry's id is the server's time, so order is the order of appending."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def append(self, clip: LabelledClip) -> str:
        """Add a clip; returns its entry id."""
        fields: Fields = {
            "clip": clip.clip_id,
            "meta": clip.meta,
            "payload": clip.payload,
            "labels": clip.labels,
            "confidence": clip.confidence,
            "error": clip.error,
        }
        return await append(self._redis, keys.LABELLED(clip.sid), fields)

    async def read(self, sid: str, *, after: str = "", count: int = 64) -> Sequence[LabelledClip]:
        """Clips after an entry id, without waiting."""
        return [
            LabelledClip(
                sid=sid,
                clip_id=text(fields, b"clip"),
                meta=fields.get(b"meta", b""),
                payload=fields.get(b"payload", b""),
                labels=fields.get(b"labels", b""),
                confidence=fields.get(b"confidence", b""),
                error=text(fields, b"error"),
                entry_id=entry_id,
            )
            for entry_id, fields in await read(self._redis, keys.LABELLED(sid), after, count)
        ]

    async def trim(self, sid: str, *, before: str) -> None:
        """Drop all entries older than `before`."""
        await trim(self._redis, keys.LABELLED(sid), before)


class RedisPatchLog:
    """PatchLog. `n` is 1 for the first entry of a fence and one more for each entry after it."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def append(self, sid: str, entry: PatchEntry) -> str:
        """Add an entry. Raises FencedError when this fence is over, or when it was taken over twice.

        The next id is looked up and then claimed; Redis refuses it if somebody else wrote in between.
        """
        key = keys.PATCHES(sid)
        fields: Fields = {
            "kind": entry.kind,
            "base": entry.base,
            "version": entry.version,
            "digest": entry.digest,
            "patch": entry.patch,
        }
        for _ in range(APPEND_ATTEMPTS):
            entry_id = next_patch_id(await last_patch_id(self._redis, sid), sid, entry)
            try:
                await self._redis.batch(*adding(key, fields, entry_id))
            except BrokerError as error:
                if not refused_with(error, "equal or smaller"):
                    raise
            else:
                return entry_id
        raise FencedError(f"the patch log of {sid} refused {APPEND_ATTEMPTS} ids in a row: let the session go")

    async def read(self, sid: str, *, after: str = "", count: int = 256) -> Sequence[PatchEntry]:
        """Entries after an entry id, without waiting."""
        return [
            _patch(entry_id, fields) for entry_id, fields in await read(self._redis, keys.PATCHES(sid), after, count)
        ]

    async def trim(self, sid: str, *, before: str) -> None:
        """Drop all entries older than `before`; the log still refuses their ids."""
        await trim(self._redis, keys.PATCHES(sid), before)


class RedisUpstream:
    """Upstream: bounded, the oldest events go first."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def post(self, sid: str, event: UpstreamEvent) -> None:
        """Add an event."""
        await append(self._redis, keys.UP(sid), {"kind": event.kind, "body": event.body})

    async def read(self, sid: str, *, after: str = "", count: int = 256) -> Sequence[UpstreamEvent]:
        """Events after an entry id, without waiting."""
        return [
            UpstreamEvent(text(fields, b"kind"), fields.get(b"body", b""), entry_id)
            for entry_id, fields in await read(self._redis, keys.UP(sid), after, count)
        ]


class RedisScoreLog:
    """ScoreLog: bounded, the oldest lines go first."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def append(self, sid: str, kind: str, body: bytes) -> None:
        """Add a line."""
        await append(self._redis, keys.SCORES(sid), {"kind": kind, "body": body})

    async def read(self, sid: str, *, after: str = "", count: int = 1024) -> Sequence[ScoreEntry]:
        """Lines after an entry id, without waiting."""
        return [
            ScoreEntry(text(fields, b"kind"), fields.get(b"body", b""), entry_id)
            for entry_id, fields in await read(self._redis, keys.SCORES(sid), after, count)
        ]


async def last_patch_id(connection: RedisConnection, sid: str) -> tuple[int, int]:
    """Fence and n of the newest entry that a patch log ever had; (0, 0) for none. Trims do not change it."""
    try:
        flat = await connection.call("XINFO", "STREAM", keys.PATCHES(sid).name)
    except BrokerError as error:
        if refused_with(error, "no such key"):
            return 0, 0
        raise
    last = dict(zip(flat[::2], flat[1::2], strict=True))[b"last-generated-id"]
    fence, n = last.split(b"-")
    return int(fence), int(n)


def _patch(entry_id: str, fields: Found) -> PatchEntry:
    kinds: dict[str, Literal["takeover", "patch", "keyframe"]] = {
        "takeover": "takeover",
        "patch": "patch",
        "keyframe": "keyframe",
    }
    kind, base, version = (text(fields, name) for name in (b"kind", b"base", b"version"))
    if kind not in kinds or not base.isdecimal() or not version.isdecimal():
        raise BrokerError(
            f"patch log entry {entry_id} says kind {kind!r}, base {base!r}, version {version!r}; expected "
            f"{', '.join(kinds)} and two numbers: was it written by a newer AMS? Update this process"
        )
    return PatchEntry(
        kind=kinds[kind],
        fence=int(entry_id.partition("-")[0]),
        base=int(base),
        version=int(version),
        digest=text(fields, b"digest"),
        patch=fields.get(b"patch", b""),
        entry_id=entry_id,
    )
