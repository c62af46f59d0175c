"""The labeler's shell: takes clips of many sessions, has their frames labelled together, writes the result.

Three stages with short queues between them, so that decoding and writing go on beside the teacher: open (take, decode,
resize), label (batches across clips), write (map, code, append, acknowledge). A full queue stops the stage before it.

Writes first and acknowledges second: a labeler that dies leaves its clips to the next one, and a clip that is labelled
twice is dropped by its owner. A clip that cannot be used is reported in its session's log and to its device, and the
stream goes on; one that the teacher fails on is left for another try, and buried after several.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from ams.core import label_map
from ams.core.label_map import LabelMaps
from ams.core.messages import Clip
from ams.core.preprocess import FramesNHWC
from ams.errors import AmsError, BrokerUnavailableError, ModelError, VideoError
from ams.models.store import DirectoryStore
from ams.ports import Broker, ClipQueue, LabelledClip, QueuedClip
from ams.video import decode_clip, resize
from services.labeler.batcher import Batch, Batcher
from services.labeler.config import LabelerSettings
from services.labeler.metrics import LabelerMetrics
from services.labeler.students import Student, StudentShelf
from services.labeler.teacher import Teacher

log = logging.getLogger(__name__)
T = TypeVar("T")

CLIPS_AT_ONCE = 2
"""Clips per read of the queue, and clips that may wait between two stages: few, since other labelers are idle."""

TAKE_WAIT_S = 1.0
LOOK_EVERY_S = 5.0
"""How often the queue's depth is read, and left clips are looked for at least."""

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 5.0
KEPT_CLIPS = 1024
"""Clips remembered as labelled, so that one that comes again is acknowledged and not labelled."""

MAX_TEXT = 500


@dataclass(frozen=True, eq=False)
class Job:
    """A clip with its frames at the teacher's size, [N, H, W, 3], and its student."""

    clip: QueuedClip
    frames_NHWC: FramesNHWC
    student: Student


class LabelerService:
    """One labeler process. `run` returns after `stop`, or raises AmsError: a broken teacher, a broker that refuses."""

    def __init__(
        self,
        broker: Broker,
        store: DirectoryStore,
        teacher: Teacher,
        queue: ClipQueue,
        settings: LabelerSettings,
        metrics: LabelerMetrics,
    ) -> None:
        self._broker = broker
        self._teacher = teacher
        self._students = StudentShelf(store, teacher.card)
        self._queue = queue
        self._settings = settings
        self._metrics = metrics
        self._stopping = asyncio.Event()
        self._opened: asyncio.Queue[Job | None] = asyncio.Queue(CLIPS_AT_ONCE)
        self._labelled: asyncio.Queue[tuple[Job, LabelMaps] | None] = asyncio.Queue(CLIPS_AT_ONCE)
        self._in_hand: set[str] = set()  # entry ids
        self._came_again: Counter[str] = Counter()  # by entry id: deliveries to us while it was in our hands
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._look_s = 0.0

    def stop(self) -> None:
        """Ask `run` to finish the clips in hand and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Label clips until `stop`; what is not finished `stop_s` later is left to other labelers."""
        broken: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                stages = [tasks.create_task(stage) for stage in (self._open_clips(), self._label(), self._write())]
                await self._stopping.wait()
                _, late = await asyncio.wait(stages, timeout=self._settings.stop_s)
                for stage in late:
                    stage.cancel()
        except* AmsError as group:
            broken += group.exceptions
        if broken:
            raise broken[0]

    # -- open --------------------------------------------------------------------------------------------------

    async def _open_clips(self) -> None:
        wait_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                clips = await self._next_clips()
            except BrokerUnavailableError as error:
                self._broker_away(error)
                wait_s = await self._back_off(wait_s)
                continue
            wait_s = FIRST_RETRY_S
            for clip in clips:
                await self._open(clip)
        await self._opened.put(None)

    async def _next_clips(self) -> Sequence[QueuedClip]:
        """New clips, or such that a labeler took and did not finish."""
        name, now_s = self._settings.name, time.monotonic()
        if now_s >= self._look_s:
            self._look_s = now_s + min(self._settings.reclaim_idle_s / 2, LOOK_EVERY_S)
            self._metrics.queue_depth.set(await self._queue.depth())
            left = await self._queue.reclaim(name, count=CLIPS_AT_ONCE, idle_s=self._settings.reclaim_idle_s)
            # Where the teacher is slow, what we hold ourselves is among them; such a delivery is no try.
            self._came_again.update(clip.entry_id for clip in left if clip.entry_id in self._in_hand)
            left = [clip for clip in left if clip.entry_id not in self._in_hand]
            if left:
                return [replace(c, deliveries=c.deliveries - self._came_again[c.entry_id]) for c in left]
        return await self._queue.take(name, count=CLIPS_AT_ONCE, wait_s=min(TAKE_WAIT_S, self._settings.reclaim_idle_s))

    async def _open(self, clip: QueuedClip) -> None:
        if (clip.sid, clip.clip_id) in self._known:
            self._metrics.clips.labels("repeated").inc()
            await self._patiently(lambda: self._queue.done(clip))
            return
        if clip.deliveries > self._settings.max_deliveries:
            await self._bury(clip, f"no labeler could finish it in {clip.deliveries - 1} tries")
            return
        try:
            job = await asyncio.to_thread(self._decode, clip)
        except (AmsError, ValidationError) as error:
            if isinstance(error, VideoError):
                self._metrics.decode_errors.inc()
            self._metrics.clips.labels("unusable").inc()
            await self._report(clip, _one_line(error))
            await self._patiently(lambda: self._queue.done(clip))
            return
        self._in_hand.add(clip.entry_id)
        await self._opened.put(job)

    def _decode(self, clip: QueuedClip) -> Job:
        """Frames and student of a clip. Raises AmsError or ValidationError for one that cannot be used."""
        header = Clip.model_validate_json(clip.meta)
        student = self._students.get(header.model_id)
        pixels = len(header.frames) * header.height * header.width
        if pixels > self._settings.max_clip_pixels:
            raise VideoError(f"clip of {pixels} pixels, the labeler takes {self._settings.max_clip_pixels}: send less")
        video_bytes = len(clip.payload) - (header.labels.bytes if header.labels else 0)
        if video_bytes <= 0:
            raise VideoError(f"clip of {len(clip.payload)} bytes is no longer than the label map that it announces")
        frames_NHWC = decode_clip(
            clip.payload[:video_bytes],
            codec=header.codec,
            frames=len(header.frames),
            width=header.width,
            height=header.height,
        )
        spec = self._teacher.card.input
        return Job(clip, resize(frames_NHWC, width=spec.width, height=spec.height), student)

    # -- label -------------------------------------------------------------------------------------------------

    async def _label(self) -> None:
        batcher: Batcher[Job] = Batcher(self._settings.batch)
        more = True
        while more or batcher.frames_waiting:
            if more:
                more = await self._fill(batcher)
            batch = batcher.next()
            if batch is not None:
                await self._run_batch(batcher, batch)
        await self._labelled.put(None)

    async def _fill(self, batcher: Batcher[Job]) -> bool:
        """Wait for a clip if there is none, then a moment for a full batch. False when no more clips will come."""
        deadline_s: float | None = None
        while not batcher.full:
            if deadline_s is None and batcher.frames_waiting:
                deadline_s = asyncio.get_running_loop().time() + self._settings.batch_wait_s
            try:
                async with asyncio.timeout_at(deadline_s):
                    job = await self._opened.get()
            except TimeoutError:
                break
            if job is None:
                return False
            batcher.add(job, job.frames_NHWC)
        return True

    async def _run_batch(self, batcher: Batcher[Job], batch: Batch[Job]) -> None:
        try:
            labels_NHW = await asyncio.to_thread(self._timed, batch.frames_NHWC)
        except ModelError as error:
            log.error("a batch of %d clips failed, they are tried one by one: %s", len(batch.shares), error)
            for job in batch.keys:
                await self._label_alone(job, batcher.drop(job))
            return
        for job, done_NHW in batcher.finish(batch, labels_NHW):
            await self._labelled.put((job, done_NHW))

    async def _label_alone(self, job: Job, frames_NHWC: FramesNHWC) -> None:
        """Find out whether it is this clip that the teacher fails on, or the teacher that fails on everything."""
        size = self._settings.batch
        pieces = [frames_NHWC[start : start + size] for start in range(0, len(frames_NHWC), size)]
        try:
            labels = [await asyncio.to_thread(self._timed, piece) for piece in pieces]
        except ModelError as error:
            await asyncio.to_thread(self._teacher.check)
            await self._leave(job.clip, str(error))
        else:
            await self._labelled.put((job, np.concatenate(labels)))

    def _timed(self, frames_NHWC: FramesNHWC) -> LabelMaps:
        self._metrics.batch_frames.observe(len(frames_NHWC))
        with self._metrics.teacher_seconds.time():
            return self._teacher.label(frames_NHWC)

    async def _leave(self, clip: QueuedClip, reason: str) -> None:
        """Leave a clip undone, so that it is taken again later; bury it when that was its last try."""
        self._in_hand.discard(clip.entry_id)
        if clip.deliveries >= self._settings.max_deliveries:
            await self._bury(clip, reason)
            return
        self._metrics.clips.labels("failed").inc()
        log.error("%s: clip %s is left for try %d: %s", clip.sid, clip.clip_id, clip.deliveries + 1, reason)

    # -- write -------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while (item := await self._labelled.get()) is not None:
            job, labels_NHW = item
            clip = job.clip
            coded = await asyncio.to_thread(lambda j=job, n=labels_NHW: label_map.encode(j.student.labels(n)))  # type: ignore[misc]
            result = LabelledClip(clip.sid, clip.clip_id, clip.meta, clip.payload, coded)
            await self._patiently(lambda r=result: self._broker.labelled.append(r))  # type: ignore[misc]
            self._remember(clip)
            await self._patiently(lambda c=clip: self._queue.done(c))  # type: ignore[misc]
            await self._patiently(lambda c=clip: self._ring_owner(c.sid))  # type: ignore[misc]
            self._in_hand.discard(clip.entry_id)
            self._came_again.pop(clip.entry_id, None)
            self._metrics.clips.labels("labelled").inc()
            self._metrics.frames.inc(len(labels_NHW))

    async def _bury(self, clip: QueuedClip, reason: str) -> None:
        self._metrics.clips.labels("buried").inc()
        await self._report(clip, reason)
        await self._patiently(lambda: self._queue.bury(clip, reason[:MAX_TEXT]))
        self._came_again.pop(clip.entry_id, None)

    async def _report(self, clip: QueuedClip, reason: str) -> None:
        """Say in the session's log and to the device that a clip could not be used."""
        log.warning("%s: clip %s cannot be used: %s", clip.sid, clip.clip_id, reason)
        spoilt = LabelledClip(clip.sid, clip.clip_id, clip.meta, b"", b"", error=reason[:MAX_TEXT])
        text = f"clip {clip.clip_id[:8]} cannot be used: {reason}"[:MAX_TEXT]
        notice = json.dumps({"code": "clip", "text": text, "clip_id": clip.clip_id})
        await self._patiently(lambda: self._broker.labelled.append(spoilt))
        self._remember(clip)
        await self._patiently(lambda: self._broker.directory.update(clip.sid, {"notice": notice}))
        await self._patiently(lambda: self._ring_gateway(clip.sid))
        await self._patiently(lambda: self._ring_owner(clip.sid))

    def _remember(self, clip: QueuedClip) -> None:
        self._known[clip.sid, clip.clip_id] = None
        if len(self._known) > KEPT_CLIPS:
            self._known.popitem(last=False)

    async def _ring_owner(self, sid: str) -> None:
        owner = await self._broker.leases.owner(sid)
        if owner is not None:
            await self._broker.bell.ring(owner, sid)

    async def _ring_gateway(self, sid: str) -> None:
        gateway = (await self._broker.directory.state(sid)).get("gateway")
        if gateway:
            await self._broker.bell.ring(gateway, sid)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something on the broker, again and again while it is away; after `stop`, `run` gives up for us."""
        wait_s = FIRST_RETRY_S
        while True:
            try:
                return await work()
            except BrokerUnavailableError as error:
                self._broker_away(error)
            wait_s = await self._back_off(wait_s)

    async def _back_off(self, wait_s: float) -> float:
        """Wait, with jitter; returns how long to wait the next time."""
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
        return min(2 * wait_s, LONGEST_RETRY_S)

    def _broker_away(self, error: BrokerUnavailableError) -> None:
        self._metrics.broker_errors.inc()
        log.warning("broker is away, trying again: %s", error)


def _one_line(error: AmsError | ValidationError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"its header is malformed: {'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    return str(error)
