"""The work queue of clips in memory, with the rules of the Redis one: credit, groups of consumers, reclaiming."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ams.broker import keys
from ams.broker.memory_connection import MemoryConnection
from ams.broker.memory_stream import NO_ID, EntryId, MemoryStream, StreamTable, name, parse
from ams.ports import QueuedClip


@dataclass
class Pending:
    """A clip that a consumer has taken."""

    consumer: str
    since_s: float
    deliveries: int


@dataclass(frozen=True)
class DeadLetter:
    """A clip that could not be dealt with, and why."""

    clip: QueuedClip
    reason: str


class MemoryClips:
    """The queues of all teachers, and the credit of each session: clip ids by time of admission."""

    def __init__(self, connection: MemoryConnection) -> None:
        self.connection = connection
        self.credit: dict[str, dict[str, float]] = {}
        self.dead: StreamTable[DeadLetter] = StreamTable(keys.DEAD, connection.now)
        self._queues: dict[str, MemoryClipQueue] = {}
        connection.clears_with(self._clear)

    def __call__(self, teacher: str) -> MemoryClipQueue:
        """The queue of one teacher; the same for everybody who asks."""
        keys.CLIPS(teacher, "0")  # the names that Redis would refuse are refused here too
        return self._queues.setdefault(teacher, MemoryClipQueue(self, teacher))

    def _clear(self) -> None:
        self.credit.clear()
        self.dead.clear()
        for queue in self._queues.values():
            queue.clear()


class MemoryClipQueue:
    """ClipQueue of one teacher."""

    def __init__(self, clips: MemoryClips, teacher: str) -> None:
        self._clips = clips
        self._connection = clips.connection
        self._teacher = teacher
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._stream: MemoryStream[QueuedClip] = MemoryStream()
        self._delivered = NO_ID
        self._pending: dict[EntryId, Pending] = {}

    @property
    def dead(self) -> Sequence[DeadLetter]:
        """The dead letters, oldest first."""
        return tuple(self._clips.dead.of(self._teacher, "0").entries.values())

    async def admit(self, clip: QueuedClip, *, credit: int) -> bool:
        """Reserve credit and queue the clip. False without credit or when the queue is full."""
        await self._connection.reach()
        now_s = self._connection.now()
        waiting = {
            clip_id: since_s
            for clip_id, since_s in self._clips.credit.get(clip.sid, {}).items()
            if since_s >= now_s - keys.CREDIT_MAX_AGE_S
        }
        known = clip.clip_id in waiting
        self._clips.credit[clip.sid] = waiting
        if len(self._stream.entries) >= keys.MAX_QUEUED_CLIPS or (not known and len(waiting) >= credit):
            return False
        waiting[clip.clip_id] = now_s
        self._stream.add(clip, now_s)
        self._connection.wake()
        return True

    async def take(self, consumer: str, *, count: int, wait_s: float) -> Sequence[QueuedClip]:
        """Up to `count` clips that nobody has taken yet, waiting at most `wait_s` for the first."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while True:
            await self._connection.reach()
            found = self._stream.after(self._delivered, max(count, 0))
            for entry_id, _ in found:
                self._delivered = entry_id
                self._pending[entry_id] = Pending(consumer, self._connection.now(), 1)
            if found or count < 1 or not await self._connection.wait_until(deadline_s):
                return [replace(clip, entry_id=name(entry_id), deliveries=1) for entry_id, clip in found]

    async def reclaim(self, consumer: str, *, count: int, idle_s: float) -> Sequence[QueuedClip]:
        """Clips that were taken at least `idle_s` ago and are not done; they are this consumer's from now on."""
        await self._connection.reach()
        now_s = self._connection.now()
        clips: list[QueuedClip] = []
        for entry_id, pending in sorted(self._pending.items()):
            if len(clips) < count and now_s - pending.since_s >= idle_s:
                again = self._pending[entry_id] = Pending(consumer, now_s, pending.deliveries + 1)
                clip = self._stream.entries[entry_id]
                clips.append(replace(clip, entry_id=name(entry_id), deliveries=again.deliveries))
        return clips

    async def done(self, clip: QueuedClip) -> None:
        """Delete the clip and return its credit. Doing so twice changes nothing."""
        await self._connection.reach()
        if clip.entry_id:
            self._pending.pop(parse(clip.entry_id), None)
            self._stream.entries.pop(parse(clip.entry_id), None)
        self._clips.credit.get(clip.sid, {}).pop(clip.clip_id, None)

    async def bury(self, clip: QueuedClip, reason: str) -> None:
        """Move the clip to the dead letters and return its credit."""
        await self._connection.reach()
        self._clips.dead.of(self._teacher, "0").add(DeadLetter(clip, reason), self._connection.now())
        await self.done(clip)

    async def depth(self) -> int:
        """Number of clips that wait or are being worked on."""
        await self._connection.reach()
        return len(self._stream.entries)
