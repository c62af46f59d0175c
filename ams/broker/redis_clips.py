"""The work queue of clips on Redis: one stream per shard, one consumer group of labelers, credit per session.

An entry is deleted when its clip is done, so a stream's length is the queue's depth, and a clip that was admitted is
never trimmed away: a full queue refuses new ones instead.

Crashes: admission reserves credit, then writes the clip; done deletes the clip, then returns the credit. In between,
a credit may be held for nothing until CREDIT_MAX_AGE_S has passed, but no clip is lost. A consumer that died is
found by the idle time of what it took. That includes clips that the caller itself took under the same name before it
was restarted, so `idle_s` must be longer than the slowest batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from ams.broker import keys
from ams.broker.redis_connection import MAX_BLOCK_S, Command, RedisConnection, refused_with
from ams.broker.redis_stream import Fields, Found, adding, entries, expiring, text
from ams.errors import BrokerError
from ams.ports import QueuedClip

GROUP = "labelers"

FORGET_CONSUMER_AFTER_S = 24 * 3600.0
"""A consumer with nothing pending that was silent for so long is a process that ended; its record is dropped."""

SWEEP_CONSUMERS_EVERY_S = 3600.0


class RedisClipQueue:
    """ClipQueue of one teacher."""

    def __init__(self, connection: RedisConnection, teacher: str, shards: int = 1) -> None:
        self._redis = connection
        self._teacher = teacher
        self._shards = shards
        self._first_shard = 0
        self._next_sweep_s = time.monotonic() + SWEEP_CONSUMERS_EVERY_S

    def _queue(self, sid: str) -> str:
        return keys.CLIPS(self._teacher, keys.shard_of(sid, self._shards)).name

    def _queues(self) -> list[str]:
        return [keys.CLIPS(self._teacher, str(shard)).name for shard in range(self._shards)]

    async def admit(self, clip: QueuedClip, *, credit: int) -> bool:
        """Reserve credit, then write. False, with nothing written, without credit or when the queue is full.

        A clip that already has credit keeps it and is written again: its first writer may have died before the
        second step. Readers drop the repetition.
        """
        now_s = time.time()
        queue, ledger = self._queue(clip.sid), keys.CREDIT(clip.sid)
        # Not atomic, so that two slots may take part: whoever adds counts itself, and never too few.
        added, waiting, _, depth = await self._redis.batch(
            ("ZADD", ledger.name, now_s, clip.clip_id),
            ("ZCARD", ledger.name),
            expiring(ledger),
            ("XLEN", queue),
            atomic=False,
        )
        if added and waiting > credit:
            _, waiting = await self._redis.batch(
                ("ZREMRANGEBYSCORE", ledger.name, "-inf", f"({now_s - keys.CREDIT_MAX_AGE_S}"),
                ("ZCARD", ledger.name),
            )
        if depth >= keys.MAX_QUEUED_CLIPS or (added and waiting > credit):
            if added:
                await self._return_credit(clip)
            return False
        await self._redis.call(
            "XADD", queue, "*", "sid", clip.sid, "clip", clip.clip_id, "meta", clip.meta, "payload", clip.payload
        )
        return True

    async def take(self, consumer: str, *, count: int, wait_s: float) -> Sequence[QueuedClip]:
        """Up to `count` clips that nobody has taken yet, waiting at most `wait_s` for the first."""
        if count < 1:
            return []
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while True:
            left_s = deadline_s - asyncio.get_running_loop().time()
            # Redis takes COUNT per stream: so many streams, and so much of each, that the sum is not above `count`.
            queues = self._rotated()[:count]
            block: tuple[str | int, ...] = ()
            if left_s > 0:
                block = ("BLOCK", max(1, int(min(left_s, MAX_BLOCK_S) * 1000)))  # 0 would mean for ever
            command = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count // len(queues), *block)
            try:
                reply = await (self._redis.block if block else self._redis.call)(
                    *command, "STREAMS", *queues, *(">" for _ in queues)
                )
            except BrokerError as error:
                await self._begin_again(error)
                continue
            clips = [_clip(entry_id, fields) for _, found in reply or () for entry_id, fields in entries(found)]
            if clips or not block:
                return clips

    async def reclaim(self, consumer: str, *, count: int, idle_s: float) -> Sequence[QueuedClip]:
        """Clips that were taken at least `idle_s` ago and are not done; they are this consumer's from now on."""
        if time.monotonic() >= self._next_sweep_s:
            self._next_sweep_s = time.monotonic() + SWEEP_CONSUMERS_EVERY_S
            await self.forget_consumers(idle_s=FORGET_CONSUMER_AFTER_S)
        clips: list[QueuedClip] = []
        for queue in self._rotated():
            if len(clips) < count:
                clips += await self._reclaim_from(queue, consumer, count - len(clips), int(idle_s * 1000))
        return clips

    async def _reclaim_from(self, queue: str, consumer: str, count: int, idle_ms: int) -> list[QueuedClip]:
        claimed: dict[str, Found] = {}
        trimmed = False
        cursor = "0-0"
        while len(claimed) < count:
            try:
                reply = await self._redis.call(
                    "XAUTOCLAIM", queue, GROUP, consumer, idle_ms, cursor, "COUNT", count - len(claimed)
                )
            except BrokerError as error:
                await self._begin_again(error)
                return []
            claimed |= dict(entries(reply[1]))
            trimmed |= any(entry is None or entry[1] is None for entry in reply[1])
            cursor = str(reply[0], "ascii")
            if cursor == "0-0":
                break
        if trimmed:
            await self._acknowledge_trimmed(queue, consumer)
        if not claimed:
            return []
        pending = await self._redis.batch(
            *(("XPENDING", queue, GROUP, entry_id, entry_id, 1) for entry_id in claimed), atomic=False
        )
        return [
            _clip(entry_id, fields, deliveries=int(found[0][3]))
            for (entry_id, fields), found in zip(claimed.items(), pending, strict=True)
            if found
        ]

    async def _acknowledge_trimmed(self, queue: str, consumer: str) -> None:
        """Clear what this consumer holds of entries that are gone. Redis 7 does so itself, 6.2 hands out nil."""
        held = [entry[0] for entry in await self._redis.call("XPENDING", queue, GROUP, "-", "+", 1000, consumer)]
        if not held:
            return
        found = await self._redis.batch(*(("XRANGE", queue, held_id, held_id) for held_id in held), atomic=False)
        gone = [held_id for held_id, entry in zip(held, found, strict=True) if not entry]
        if gone:
            await self._redis.call("XACK", queue, GROUP, *gone)

    async def done(self, clip: QueuedClip) -> None:
        """Delete the clip, then return its credit. Doing so twice changes nothing."""
        queue = self._queue(clip.sid)
        # Deleted before it is acknowledged: cut apart in between, the pending rest is cleared by reclaim, while an
        # acknowledged entry that was not deleted would count in the queue's depth for ever.
        commands: list[Command] = []
        if clip.entry_id:
            commands = [("XDEL", queue, clip.entry_id), ("XACK", queue, GROUP, clip.entry_id)]
        await self._redis.batch(*commands, ("ZREM", keys.CREDIT(clip.sid).name, clip.clip_id), atomic=False)

    async def bury(self, clip: QueuedClip, reason: str) -> None:
        """Write the clip to the dead letters and delete it from the queue in one step, then return its credit."""
        queue = self._queue(clip.sid)
        dead = keys.DEAD(self._teacher, keys.shard_of(clip.sid, self._shards))
        fields: Fields = {
            "sid": clip.sid,
            "clip": clip.clip_id,
            "meta": clip.meta,
            "payload": clip.payload,
            "entry": clip.entry_id,
            "deliveries": clip.deliveries,
            "reason": reason,
        }
        commands = adding(dead, fields)
        if clip.entry_id:
            commands += [("XDEL", queue, clip.entry_id), ("XACK", queue, GROUP, clip.entry_id)]
        await self._redis.batch(*commands)
        await self._return_credit(clip)

    async def depth(self) -> int:
        """Number of clips that wait or are being worked on."""
        lengths = await self._redis.batch(*(("XLEN", queue) for queue in self._queues()), atomic=False)
        return sum(int(length) for length in lengths)

    async def forget_consumers(self, *, idle_s: float) -> int:
        """Drop the records of consumers that hold nothing and were silent for `idle_s`; returns how many."""
        forgotten = 0
        for queue in self._queues():
            try:
                reply = await self._redis.call("XINFO", "CONSUMERS", queue, GROUP)
            except BrokerError as error:
                await self._begin_again(error)
                continue
            for flat in reply:
                consumer: dict[bytes, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
                if consumer[b"pending"] == 0 and consumer[b"idle"] >= idle_s * 1000:
                    await self._redis.call("XGROUP", "DELCONSUMER", queue, GROUP, consumer[b"name"])
                    forgotten += 1
        return forgotten

    async def _return_credit(self, clip: QueuedClip) -> None:
        await self._redis.call("ZREM", keys.CREDIT(clip.sid).name, clip.clip_id)

    def _rotated(self) -> list[str]:
        """All queues, beginning with another one each time: no shard waits behind the others."""
        queues = self._queues()
        self._first_shard = (self._first_shard + 1) % len(queues)
        return queues[self._first_shard :] + queues[: self._first_shard]

    async def _begin_again(self, error: BrokerError) -> None:
        """Create the group if that is what was missing (a new queue, or a Redis that came back empty)."""
        missing = ("NOGROUP", "UNBLOCKED", "no such key")
        if not any(refused_with(error, text) for text in missing):
            raise error
        for queue in self._queues():
            try:
                # From 0, not from $: clips admitted before there was a group are to be worked on as well.
                await self._redis.call("XGROUP", "CREATE", queue, GROUP, "0", "MKSTREAM")
            except BrokerError as refusal:
                if not refused_with(refusal, "BUSYGROUP"):
                    raise


def _clip(entry_id: str, fields: Found, deliveries: int = 1) -> QueuedClip:
    return QueuedClip(
        sid=text(fields, b"sid"),
        clip_id=text(fields, b"clip"),
        meta=fields.get(b"meta", b""),
        payload=fields.get(b"payload", b""),
        entry_id=entry_id,
        deliveries=deliveries,
    )
