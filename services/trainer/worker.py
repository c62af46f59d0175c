"""The worker: one owned session between the broker and the training thread, until it is lost, idle or we stop.

All decisions are made in `session`; this file reads, writes and retries. When the broker is away it waits and goes on:
what the session decided stays with its publisher, what is to be reported stays in `_reports`, until it is written.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ams.core.horizon import entry_order
from ams.core.score import ClipScore, PhaseRecord
from ams.errors import BrokerError, BrokerUnavailableError, ModelError, PatchError, VideoError
from ams.ports import Broker, Clock, LabelledClip, Lease
from services.trainer.config import TrainerSettings
from services.trainer.metrics import TrainerMetrics
from services.trainer.ownership import WHOLE_LOG, Cursors, StudentShelf, append, keep_on, snapshot_of, take_over
from services.trainer.session import Session

log = logging.getLogger(__name__)
T = TypeVar("T")
InThread = Callable[[Callable[[], T]], Awaitable[T]]

RETRY_REAL_S = 1.0
CHECK_LOG_REAL_S = 30.0
"""How long the device may owe its answers before the patch log is read again; a slow link takes its time, too."""

LABELLED_AT_ONCE = 4
"""Clips read per turn: each is decoded and scored, so a long backlog must not delay the device's events."""


class StoppedError(Exception):
    """The trainer stops; the session is handed over."""


@dataclass(frozen=True)
class _Report:
    kind: str
    body: bytes
    fields: dict[str, str]


class SessionWorker:
    """Owns one session under `lease`. `run` returns when it is over; it never retries what a new owner should do."""

    def __init__(
        self,
        lease: Lease,
        broker: Broker,
        shelf: StudentShelf,
        clock: Clock,
        settings: TrainerSettings,
        metrics: TrainerMetrics,
        *,
        in_thread: InThread[object],
        stopping: asyncio.Event,
    ) -> None:
        self.sid = lease.sid
        self.lost = False
        self.idle = False
        self._lease = lease
        self._broker = broker
        self._shelf = shelf
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._thread = in_thread
        self._stopping = stopping
        self._finished = False
        self._rung = asyncio.Event()
        self._reports: deque[_Report] = deque()
        self._told = (0, 0, Counter[str]())
        self._heard_written = ""
        self._log_checked_s = time.monotonic()

    def ring(self) -> None:
        """Something happened in the session, or to us."""
        self._rung.set()

    async def renew(self) -> None:
        """Keep the lease, or take it again after a lapse. May raise BrokerError."""
        held, ttl_s = self._lease, self._settings.lease_ttl_real_s
        if await self._broker.leases.renew(held, ttl_s=ttl_s):
            return
        lease = await self._broker.leases.acquire(self.sid, held.owner, ttl_s=ttl_s)
        if self._finished:
            if lease is not None:
                await self._broker.leases.release(lease)
            return
        if lease is None:
            log.warning("%s: another trainer owns it now", self.sid)
            self.lost = True
        else:
            self._lease = lease
        self.ring()

    async def run(self) -> None:
        """Own the session. Raises FencedError, ModelError, StoppedError, BrokerError or whatever broke."""
        try:
            await self._serve()
        finally:
            self._finished = True
            self._metrics.forget(self.sid)
            if not self.lost:
                try:
                    await self._broker.leases.release(self._lease)
                except BrokerError as error:
                    log.warning("%s: the lease runs out by itself: %s", self.sid, error)

    async def _serve(self) -> None:
        state = await self._patiently(lambda: self._broker.directory.state(self.sid))
        model_id = state.get("model_id", "")
        if not model_id:
            return  # announced half: the next sweep finds the rest
        bundle, student = await self._in_thread(lambda: self._shelf.get(model_id))
        session, last = await self._patiently(
            lambda: take_over(self._broker, self._lease, bundle, student, self._settings)
        )
        fence, heard, labelled = self._lease.fence, last.heard, ""
        log.info("%s: owned with fence %d at version %d", self.sid, fence, session.history.version)
        while not (self.lost or self.idle):
            self._check_stop()
            try:
                if self._lease.fence != fence:  # it lapsed and was taken again
                    fence = self._lease.fence
                    await keep_on(self._broker, self._lease, session)
                state = await self._broker.directory.state(self.sid)
                if state.get("model_id", model_id) != model_id:
                    log.info("%s: the device came back with another model", self.sid)
                    return
                if "features" in state:  # else the broker has just lost the session: it will be announced again
                    session.publisher.speak(state["features"].split())
                heard = await self._hear(session, heard)
                clips = await self._broker.labelled.read(self.sid, after=labelled, count=LABELLED_AT_ONCE)
                for clip in clips:
                    self._check_stop()
                    await self._take(session, clip, last)
                    labelled = clip.entry_id
                if not clips and session.phase_due(self._clock.now_s()):
                    await self._train(session)
                await self._check_log(session)
                await self._publish(session)
                await self._tell(session)
            except BrokerUnavailableError as error:
                self._broker_away(error)
                await self._pause(RETRY_REAL_S)
                continue
            if not clips:
                await self._wait_for_ring()

    # -- up: the device's word, labelled clips -----------------------------------------------------------------

    async def _hear(self, session: Session, heard: str) -> str:
        """Hear the device and answer it; returns the cursor."""
        for event in await self._broker.upstream.read(self.sid, after=heard):
            await asyncio.to_thread(session.hear, event)
            heard = event.entry_id
        await self._publish(session)
        if heard != self._heard_written:  # only now: what was decided on hearing is published
            await self._broker.directory.update(self.sid, {"heard": heard})
            self._heard_written = heard
        return heard

    async def _take(self, session: Session, clip: LabelledClip, last: Cursors) -> None:
        fresh = not last.scored or entry_order(clip.entry_id) > entry_order(last.scored)
        now_s = self._clock.now_s()
        score = await self._in_thread(lambda: session.take(clip, now_s, scored=fresh))
        if score is not None:
            self._report_score(session, score, clip.entry_id)

    # -- down: phases, patches ---------------------------------------------------------------------------------

    async def _train(self, session: Session) -> None:
        now_s = self._clock.now_s()
        try:
            record = await self._in_thread(
                lambda: session.run_phase(now_s, time.monotonic, should_stop=self._stopping.is_set)
            )
        except (ModelError, PatchError, VideoError) as error:
            self._metrics.phases.labels("failed").inc()
            log.error("%s: training phase failed, nothing is published: %s", self.sid, error)
            return
        if record is None:
            return
        result = "published" if record.published else "refused"
        self._metrics.phases.labels(result).inc()
        self._metrics.phase_seconds.observe(record.seconds)
        if record.published:
            self._metrics.patch_bytes.observe(record.patch_bytes)
        log.info(
            "%s: phase of %d steps in %.1f s, loss %.3f to %.3f, held-out gain %+.3f: %s (version %d, %d bytes)",
            self.sid, record.steps, record.seconds, record.loss_first, record.loss_last, record.gain, result,
            record.version, record.patch_bytes,
        )  # fmt: skip
        self._report_phase(session, record)

    async def _publish(self, session: Session) -> None:
        """Append what is decided, in order; what could not be appended stays for the next turn."""
        outgoing = session.publisher.outgoing
        if not outgoing:
            return
        trim = any(entry.kind == "keyframe" for entry in outgoing)
        while outgoing:
            await append(self._broker, self.sid, outgoing[0])
            outgoing.popleft()
        await self._ring_gateway({"rates": session.rates.model_dump_json()})
        if trim:
            entries = await self._broker.patches.read(self.sid, count=WHOLE_LOG)
            keyframes = [entry.entry_id for entry in entries if entry.kind == "keyframe"]
            if keyframes:  # a broker that failed over meanwhile may have lost it again
                await self._broker.patches.trim(self.sid, before=keyframes[-1])

    async def _check_log(self, session: Session) -> None:
        """While the device owes us an answer: look whether the log still has what it is to answer.

        A broker that failed over may have lost versions that nobody had read. All others read the log and miss nothing;
        without this, we would wait for ever.
        """
        now_s = time.monotonic()
        if session.history.may_publish:
            self._log_checked_s = now_s
        elif now_s - self._log_checked_s >= CHECK_LOG_REAL_S:
            self._log_checked_s = now_s
            await keep_on(self._broker, self._lease, session)

    # -- telling -----------------------------------------------------------------------------------------------

    def _report_score(self, session: Session, score: ClipScore, entry_id: str) -> None:
        body = score.model_dump_json()
        fields = {"scored": entry_id, "score": body, "snapshot": snapshot_of(session)}
        self._reports.append(_Report("clip", body.encode(), fields))
        self._metrics.observe_score(self.sid, score)

    def _report_phase(self, session: Session, record: PhaseRecord) -> None:
        body = record.model_dump_json()
        fields = {"phase": body, "rates": session.rates.model_dump_json(), "snapshot": snapshot_of(session)}
        self._reports.append(_Report("phase", body.encode(), fields))

    async def _tell(self, session: Session) -> None:
        """Write reports and totals, trim what nobody needs again, set the gauges."""
        while self._reports:
            report = self._reports[0]
            await self._broker.scores.append(self.sid, report.kind, report.body)
            await self._ring_gateway(report.fields)
            self._reports.popleft()
            if report.kind == "phase" and session.horizon.first_entry_id:
                await self._broker.labelled.trim(self.sid, before=session.horizon.first_entry_id)
        self._metrics.observe_session(session)
        answers = session.publisher.answers
        totals = (answers.digest_mismatches, session.unusable_clips, answers.refusals.copy())
        if totals == self._told:
            return
        await self._broker.directory.update(
            self.sid, {"digest_mismatches": str(totals[0]), "unusable_clips": str(totals[1])}
        )
        self._metrics.count_news(self._told, totals)
        self._told = totals

    async def notify(self, code: str, text: str) -> None:
        """Have the gateway tell the device something. May raise BrokerError."""
        await self._ring_gateway({"notice": json.dumps({"code": code, "text": text[:500]})})

    async def _ring_gateway(self, fields: dict[str, str]) -> None:
        await self._broker.directory.update(self.sid, fields)
        gateway = (await self._broker.directory.state(self.sid)).get("gateway")
        if gateway:
            await self._broker.bell.ring(gateway, self.sid)

    # -- waiting -----------------------------------------------------------------------------------------------

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise StoppedError

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._thread(work)  # type: ignore[return-value]

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something on the broker, again and again while it is away. Raises StoppedError once we stop."""
        while True:
            self._check_stop()
            try:
                return await work()
            except BrokerUnavailableError as error:
                self._broker_away(error)
                await self._pause(RETRY_REAL_S)

    async def _wait_for_ring(self) -> None:
        """Until the bell rings for this session, or a slow sweep is due."""
        try:
            async with asyncio.timeout(self._settings.sweep_real_s):
                await self._rung.wait()
        except TimeoutError:
            return
        self._rung.clear()

    async def _pause(self, real_s: float) -> None:
        try:
            async with asyncio.timeout(real_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _broker_away(self, error: BrokerUnavailableError) -> None:
        self._metrics.broker_errors.inc()
        log.warning("broker is away, trying again: %s", error)
