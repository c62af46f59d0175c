"""The labeler's shell: takes clips of many sessions, has them labelled together, writes the result.

Writes first and acknowledges second: a labeler that dies leaves its clips to the next one, and a clip that is labelled
twice is dropped by the trainer. A clip that cannot be used is reported in its session's log and to its device, and the
stream goes on; a teacher that fails leaves the clip for another try, and after several it is buried.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import ValidationError

from ams.core import label_map
from ams.core.card import ModelCard
from ams.core.class_map import ClassTable, class_map
from ams.core.label_map import LabelMaps
from ams.core.messages import Clip
from ams.core.preprocess import FramesNHWC
from ams.errors import AmsError, BackendError, BrokerUnavailableError, VideoError
from ams.models.store import DirectoryStore
from ams.ports import Broker, ClipQueue, LabelledClip, QueuedClip
from ams.video import decode_clip, resize
from services.labeler.batcher import label_together
from services.labeler.config import LabelerSettings
from services.labeler.metrics import LabelerMetrics
from services.labeler.teacher import Teacher

log = logging.getLogger(__name__)

RETRY_S = 1.0


@dataclass(frozen=True)
class Student:
    """What labels must become for one model: its card and the way there from the teacher's classes."""

    card: ModelCard
    table: ClassTable


@dataclass(frozen=True)
class Work:
    """One clip with its decoded frames at the teacher's size and its student."""

    clip: QueuedClip
    frames_NHWC: FramesNHWC
    student: Student


class LabelerService:
    """One labeler process. `run` returns after `stop`."""

    def __init__(
        self, broker: Broker, store: DirectoryStore, teacher: Teacher, queue: ClipQueue, settings: LabelerSettings,
        metrics: LabelerMetrics,
    ) -> None:  # fmt: skip
        self._broker = broker
        self._store = store
        self._teacher = teacher
        self._queue = queue
        self._settings = settings
        self._metrics = metrics
        self._students: dict[str, Student] = {}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask `run` to finish the clips in hand and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Label clips until `stop`."""
        looked_around_s = -float("inf")
        while not self._stopping.is_set():
            try:
                clips: Sequence[QueuedClip] = ()
                if time.monotonic() - looked_around_s >= min(self._settings.reclaim_idle_s, 5.0):
                    looked_around_s = time.monotonic()
                    self._metrics.queue_depth.set(await self._queue.depth())
                    clips = await self._reclaim()
                clips = clips or await self._queue.take(
                    self._settings.name, count=self._settings.clips_at_once, wait_s=self._settings.wait_s
                )
                if clips:
                    await self._label(clips)
            except BrokerUnavailableError as error:
                self._metrics.broker_errors.inc()
                log.warning("broker is away, trying again: %s", error)
                await self._pause(RETRY_S * random.uniform(0.5, 1.5))  # noqa: S311 (jitter, not a secret)

    async def _reclaim(self) -> list[QueuedClip]:
        """Clips that somebody took and did not finish; those with too many tries are buried."""
        found = await self._queue.reclaim(
            self._settings.name, count=self._settings.clips_at_once, idle_s=self._settings.reclaim_idle_s
        )
        alive = []
        for clip in found:
            if clip.deliveries > self._settings.max_deliveries:
                log.error("%s: clip %s is buried after %d tries", clip.sid, clip.clip_id, clip.deliveries - 1)
                await self._reject(clip, f"no labeler could label it in {clip.deliveries - 1} tries", bury=True)
            else:
                alive.append(clip)
        return alive

    async def _label(self, clips: Sequence[QueuedClip]) -> None:
        """Label some clips together. Clips of a teacher that fails stay with us until they are reclaimed."""
        work = []
        for clip in clips:
            try:
                work.append(await asyncio.to_thread(self._open, clip))
            except (AmsError, ValidationError) as error:
                await self._reject(clip, _one_line(error))
        started = time.monotonic()
        try:
            labelled = await asyncio.to_thread(self._label_frames, work)
        except BackendError as error:
            self._metrics.teacher_errors.inc()
            log.error("%d clips wait for another try: %s", len(work), error)
            await self._pause(RETRY_S)
            return
        if work:
            self._metrics.teacher_seconds.observe(time.monotonic() - started)
        for item, labels in zip(work, labelled, strict=True):
            self._metrics.frames.inc(len(item.frames_NHWC))
            await self._finish(item.clip, LabelledClip(
                sid=item.clip.sid, clip_id=item.clip.clip_id, meta=item.clip.meta, payload=item.clip.payload,
                labels=labels,
            ))  # fmt: skip
            self._metrics.clips.labels("labelled").inc()

    def _open(self, clip: QueuedClip) -> Work:
        """Decode a clip and find its student. Raises AmsError or ValidationError for one that cannot be used."""
        header = Clip.model_validate_json(clip.meta)
        student = self._student(header.model_id)
        video_bytes = len(clip.payload) - (header.labels.bytes if header.labels else 0)
        if video_bytes <= 0:
            raise VideoError(f"clip of {len(clip.payload)} bytes is shorter than the label map that it announces")
        frames_NHWC = decode_clip(
            clip.payload[:video_bytes], codec=header.codec, frames=len(header.frames), width=header.width,
            height=header.height,
        )  # fmt: skip
        spec = self._teacher.card.input
        return Work(clip, resize(frames_NHWC, width=spec.width, height=spec.height), student)

    def _student(self, model_id: str) -> Student:
        """Card and class table of a student. Raises ModelError, ClassMapError among them."""
        if model_id not in self._students:
            card = self._store.get(model_id).card
            self._students[model_id] = Student(card, class_map(self._teacher.card, card))
        return self._students[model_id]

    def _label_frames(self, work: Sequence[Work]) -> list[bytes]:
        """Coded label maps of each clip, in its student's classes and size."""
        labelled = label_together([item.frames_NHWC for item in work], self._observed, batch=self._settings.batch)
        return [
            label_map.encode(_to_student(labels_NHW, item.student))
            for item, labels_NHW in zip(work, labelled, strict=True)
        ]

    def _observed(self, frames_NHWC: FramesNHWC) -> LabelMaps:
        self._metrics.batch_frames.observe(len(frames_NHWC))
        return self._teacher.label(frames_NHWC)

    async def _reject(self, clip: QueuedClip, reason: str, *, bury: bool = False) -> None:
        """Say in the session's log and to the device that a clip could not be used, and be done with it."""
        log.warning("%s: clip %s cannot be used: %s", clip.sid, clip.clip_id, reason)
        self._metrics.clips.labels("buried" if bury else "unusable").inc()
        notice = {"code": "clip", "text": f"clip {clip.clip_id[:8]}: {reason}"[:500], "clip_id": clip.clip_id}
        await self._broker.directory.update(clip.sid, {"notice": json.dumps(notice)})
        if bury:
            await self._queue.bury(clip, reason)
        spoilt = LabelledClip(clip.sid, clip.clip_id, clip.meta, b"", b"", error=reason)
        await self._finish(clip, spoilt)
        gateway = (await self._broker.directory.state(clip.sid)).get("gateway")
        if gateway:
            await self._broker.bell.ring(gateway, clip.sid)

    async def _finish(self, clip: QueuedClip, labelled: LabelledClip) -> None:
        """Write first, acknowledge second, ring last."""
        await self._broker.labelled.append(labelled)
        await self._queue.done(replace(clip, payload=b""))
        owner = await self._broker.leases.owner(clip.sid)
        if owner:
            await self._broker.bell.ring(owner, clip.sid)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _to_student(labels_NHW: LabelMaps, student: Student) -> LabelMaps:
    """Teacher's label maps in the student's classes, at the student's input size."""
    spec = student.card.input
    mapped_NHW = student.table[labels_NHW]
    if mapped_NHW.shape[1:] == (spec.height, spec.width):
        return mapped_NHW
    size = (spec.width, spec.height)
    return np.stack([cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT) for labels in mapped_NHW])


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"its header is malformed: {'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    return str(error)
