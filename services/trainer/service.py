"""The trainer's shell: finds sessions, owns them under leases, feeds them from the broker and publishes.

One task per owned session, one thread in which all training and scoring happens, one task that renews leases. All
decisions are made in `session`; this file reads, writes and retries. When the broker is away every task waits and
goes on; nothing that a session decided is lost, it stays in `outgoing` until it is appended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ams.core.score import ClipScore, PhaseRecord
from ams.errors import BrokerUnavailableError, FencedError, ModelError
from ams.models.store import DirectoryStore
from ams.ports import Broker, Clock, Lease
from services.trainer.config import TrainerSettings
from services.trainer.metrics import TrainerMetrics
from services.trainer.ownership import StudentShelf, append, keep_on, take_over
from services.trainer.session import Session

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_REAL_S = 1.0
LABELLED_AT_ONCE = 4
"""Clips read per turn: each is decoded and scored, so a long backlog must not delay the device's events."""


def _later(entry_id: str, than: str) -> bool:
    """Order of two entry ids of a stream, `<milliseconds>-<n>`."""
    left, right = (tuple(int(part) for part in text.split("-")) for text in (entry_id, than))
    return left > right


class TrainerService:
    """One trainer process. `run` returns after `stop`, with its sessions handed over."""

    def __init__(
        self, broker: Broker, store: DirectoryStore, clock: Clock, settings: TrainerSettings, metrics: TrainerMetrics
    ) -> None:
        self._broker = broker
        self._shelf = StudentShelf(store)
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._name = settings.name
        self._owned: dict[str, Lease] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._unusable: set[str] = set()
        self._stopping = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="training")

    def stop(self) -> None:
        """Ask `run` to finish; a phase that is under way ends at its next step."""
        self._stopping.set()
        for event in self._wake.values():
            event.set()

    async def run(self) -> None:
        """Own and train sessions until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._listen()), tasks.create_task(self._renew())]
            while not self._stopping.is_set():
                try:
                    await self._claim(tasks)
                except BrokerUnavailableError as error:
                    self._broker_away(error)
                await self._pause(self._settings.sweep_real_s)
            for helper in helpers:
                helper.cancel()
        self._thread.shutdown(cancel_futures=True)

    # -- ownership ---------------------------------------------------------------------------------------------

    async def _claim(self, tasks: asyncio.TaskGroup) -> None:
        """Take every live session that nobody owns, up to our limit."""
        since = time.time() - self._settings.idle_session_real_s
        for sid in await self._broker.directory.seen_since(since):
            if sid in self._owned or sid in self._unusable or len(self._owned) >= self._settings.max_sessions:
                continue
            lease = await self._broker.leases.acquire(sid, self._name, ttl_s=self._settings.lease_ttl_real_s)
            if lease is not None:
                self._owned[sid] = lease
                self._wake[sid] = asyncio.Event()
                tasks.create_task(self._serve(lease), name=sid)
                self._metrics.sessions.set(len(self._owned))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_ttl_real_s / 3)
            for sid, lease in list(self._owned.items()):
                try:
                    if not await self._broker.leases.renew(lease, ttl_s=self._settings.lease_ttl_real_s):
                        await self._reacquire(sid)
                except BrokerUnavailableError as error:
                    self._broker_away(error)

    async def _reacquire(self, sid: str) -> None:
        """A lease ran out, say because the broker was away: take it again, or let the session go."""
        lease = await self._broker.leases.acquire(sid, self._name, ttl_s=self._settings.lease_ttl_real_s)
        if lease is None:
            log.warning("%s: another trainer owns it now", sid)
            self._owned.pop(sid, None)
        else:
            self._owned[sid] = lease
        self._wake[sid].set()

    async def _listen(self) -> None:
        while True:
            try:
                rung = await self._broker.bell.wait(self._name, wait_s=1.0)
            except BrokerUnavailableError as error:
                self._broker_away(error)
                await asyncio.sleep(RETRY_REAL_S)
                continue
            for sid in rung & self._wake.keys():
                self._wake[sid].set()

    # -- one session -------------------------------------------------------------------------------------------

    async def _serve(self, lease: Lease) -> None:
        """Own one session until it is lost, idle or we stop."""
        sid = lease.sid
        try:
            await self._serve_until_lost(lease)
        except FencedError:
            log.warning("%s: fenced off, another trainer goes on from what is published", sid)
        except ModelError as error:
            log.error("%s: cannot be trained: %s", sid, error)
            self._unusable.add(sid)
            reason = str(error)
            await self._patiently(lambda: self._notify(sid, "model", reason))
        finally:
            owned = self._owned.pop(sid, None)
            self._wake.pop(sid, None)
            self._metrics.forget(sid)
            self._metrics.sessions.set(len(self._owned))
            if owned is not None:
                try:
                    await self._broker.leases.release(owned)
                except BrokerUnavailableError as error:
                    self._broker_away(error)

    async def _serve_until_lost(self, lease: Lease) -> None:
        sid = lease.sid
        state = await self._patiently(lambda: self._broker.directory.state(sid))
        model_id = state.get("model_id", "")
        bundle, student = await self._in_thread(lambda: self._shelf.get(model_id))
        session, last = await self._patiently(lambda: take_over(self._broker, lease, bundle, student, self._settings))
        log.info("%s: owned with fence %d at version %d", sid, lease.fence, session.history.version)
        labelled_cursor, up_cursor, quiet_since = "", last.heard, time.monotonic()
        while sid in self._owned and not self._stopping.is_set():
            try:
                if self._owned[sid].fence != session.fence:  # the lease lapsed and was taken again
                    await keep_on(self._broker, self._owned[sid], session)
                events = await self._broker.upstream.read(sid, after=up_cursor)
                for event in events:
                    session.hear(event)
                    up_cursor = event.entry_id
                    quiet_since = time.monotonic()
                await self._publish(session)
                if events:  # only now: what was decided on hearing them is published
                    await self._broker.directory.update(sid, {"heard": up_cursor})
                clips = await self._broker.labelled.read(sid, after=labelled_cursor, count=LABELLED_AT_ONCE)
                for clip in clips:
                    fresh = not last.scored or _later(clip.entry_id, last.scored)
                    now_s = self._clock.now_s()
                    score = await self._in_thread(lambda c=clip, n=now_s, f=fresh: session.take(c, n, scored=f))  # type: ignore[misc]
                    labelled_cursor = clip.entry_id
                    quiet_since = time.monotonic()
                    if score is not None:
                        await self._report_score(session, score, clip.entry_id)
                if not clips and session.phase_due(self._clock.now_s()):
                    await self._train(session)
                    await self._publish(session)
                    await self._trim(session)
                await self._export(session)
            except BrokerUnavailableError as error:
                self._broker_away(error)
                await self._pause(RETRY_REAL_S)
                continue
            if time.monotonic() - quiet_since > self._settings.idle_session_real_s:
                log.info("%s: silent, let go", sid)
                return
            if not clips:
                await self._wait_for_ring(sid)

    async def _train(self, session: Session) -> None:
        now_s = self._clock.now_s()
        try:
            record = await self._in_thread(
                lambda: session.run_phase(now_s, time.monotonic, should_stop=self._stopping.is_set)
            )
        except ModelError as error:
            self._metrics.phases.labels("failed").inc()
            log.error("%s: training phase failed, nothing is published: %s", session.sid, error)
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
            session.sid, record.steps, record.seconds, record.loss_first, record.loss_last, record.gain, result,
            record.version, record.patch_bytes,
        )  # fmt: skip
        await self._report_phase(session, record)

    async def _publish(self, session: Session) -> None:
        """Append what the session decided, in order; what could not be appended stays for the next turn."""
        if not session.outgoing:
            return
        while session.outgoing:
            await append(self._broker, session.sid, session.outgoing[0])
            session.outgoing.popleft()
        await self._ring_gateway(session.sid, {"rates": session.rates.model_dump_json()})

    async def _trim(self, session: Session) -> None:
        """Drop from the durable logs what no owner will need again."""
        oldest = session.horizon.oldest
        if oldest is not None:
            await self._broker.labelled.trim(session.sid, before=oldest.entry_id)
        entries = await self._broker.patches.read(session.sid, count=10_000)
        keyframes = [entry.entry_id for entry in entries if entry.kind == "keyframe"]
        if keyframes:
            await self._broker.patches.trim(session.sid, before=keyframes[-1])

    # -- telling -----------------------------------------------------------------------------------------------

    async def _report_score(self, session: Session, score: ClipScore, entry_id: str) -> None:
        await self._broker.scores.append(session.sid, "clip", score.model_dump_json().encode())
        await self._broker.directory.update(session.sid, {"scored": entry_id, "score": score.model_dump_json()})
        self._metrics.frames.labels("scored").inc(len(score.frames) - score.unscored)
        self._metrics.frames.labels("unscored").inc(score.unscored)
        last = score.frames[-1]
        for gauge, value in (
            (self._metrics.adapted_miou, last.adapted),
            (self._metrics.unadapted_miou, last.unadapted),
            (self._metrics.agreement, score.agreement),
            (self._metrics.phi, score.phi),
        ):
            if value is not None:
                gauge.labels(session.sid).set(value)

    async def _report_phase(self, session: Session, record: PhaseRecord) -> None:
        await self._broker.scores.append(session.sid, "phase", record.model_dump_json().encode())
        await self._ring_gateway(
            session.sid, {"rates": session.rates.model_dump_json(), "phase": record.model_dump_json()}
        )

    async def _notify(self, sid: str, code: str, text: str) -> None:
        await self._ring_gateway(sid, {"notice": json.dumps({"code": code, "text": text[:500]})})

    async def _ring_gateway(self, sid: str, fields: dict[str, str]) -> None:
        await self._broker.directory.update(sid, fields)
        gateway = (await self._broker.directory.state(sid)).get("gateway")
        if gateway:
            await self._broker.bell.ring(gateway, sid)

    async def _export(self, session: Session) -> None:
        """Gauges and counters of a session; the totals also go into its state, where people look."""
        sid, metrics = session.sid, self._metrics
        metrics.sampling_hz.labels(sid).set(session.sampling.hz)
        metrics.interval_s.labels(sid).set(session.interval.interval_s)
        metrics.version.labels(sid).set(session.history.version)
        metrics.horizon_bytes.labels(sid).set(session.horizon.bytes)
        news = session.counts.take_news()
        if not news:
            return
        metrics.digest_mismatches.inc(news.digest_mismatches)
        metrics.unusable_clips.inc(news.unusable_clips)
        for reason, count in news.refusals.items():
            metrics.refusals.labels(reason).inc(count)
        totals = session.counts
        await self._broker.directory.update(
            sid,
            {"digest_mismatches": str(totals.digest_mismatches), "unusable_clips": str(totals.unusable_clips)},
        )

    # -- waiting -----------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something on the broker, again and again while it is away. Raises FencedError once we stop."""
        while not self._stopping.is_set():
            try:
                return await work()
            except BrokerUnavailableError as error:
                self._broker_away(error)
                await self._pause(RETRY_REAL_S)
        raise FencedError("the trainer is stopping")

    async def _wait_for_ring(self, sid: str) -> None:
        """Until the bell rings for this session, or a slow sweep is due."""
        event = self._wake[sid]
        try:
            await asyncio.wait_for(event.wait(), self._settings.sweep_real_s)
        except TimeoutError:
            return
        event.clear()

    async def _pause(self, real_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), real_s)
        except TimeoutError:
            return

    def _broker_away(self, error: BrokerUnavailableError) -> None:
        self._metrics.broker_errors.inc()
        log.warning("broker is away, trying again: %s", error)
