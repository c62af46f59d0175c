"""The trainer's shell on a memory broker: owning, publishing, waiting for a broker that is away, handing over."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ams.broker.memory import new_memory
from ams.broker.memory_connection import MemoryConnection
from ams.clock import ScaledClock
from ams.core.delta import Delta
from ams.core.patch import Patch
from ams.core.score import ClipScore, PhaseRecord
from ams.errors import BrokerUnavailableError, FencedError
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.models.store import DirectoryStore
from ams.ports import Broker, Lease, PatchEntry, UpstreamEvent
from services.trainer.config import TrainerSettings
from services.trainer.metrics import TrainerMetrics
from services.trainer.ownership import StudentShelf, append, keep_on, take_over
from services.trainer.service import TrainerService
from services.trainer.session import Session
from services.trainer.worker import SessionWorker
from tests.blocks import networks
from tests.services.trainer.conftest import SID, STREET, MakeClip

pytestmark = pytest.mark.anyio

DEADLINE_S = 20.0


@pytest.fixture
def broker() -> Broker:
    return new_memory()


@asynccontextmanager
async def running(
    broker: Broker, bundle: ModelBundle, settings: TrainerSettings, metrics: TrainerMetrics | None = None
) -> AsyncIterator[TrainerService]:
    store = DirectoryStore(settings.models_dir)
    store.put(bundle)
    service = TrainerService(broker, store, ScaledClock(20.0), settings, metrics or TrainerMetrics())
    async with asyncio.timeout(DEADLINE_S):
        task = asyncio.create_task(service.run())
        try:
            yield service
        finally:
            service.stop()
            await task


async def announce(broker: Broker, bundle: ModelBundle, model_id: str = "") -> None:
    """What a gateway does when a device connects."""
    await broker.directory.touch(SID, time.time())
    await broker.directory.update(SID, {"model_id": model_id or bundle.model_id, "gateway": "g1"})


async def until(done: Callable[[], object]) -> None:
    while not done():
        await asyncio.sleep(0.01)


async def patches(broker: Broker) -> list[PatchEntry]:
    return [entry for entry in await broker.patches.read(SID) if entry.kind != "takeover"]


async def wait_for_patches(broker: Broker, count: int) -> list[PatchEntry]:
    while len(found := await patches(broker)) < count:
        await asyncio.sleep(0.01)
    return found


async def test_labelled_clips_become_scores_and_patches(
    broker: Broker, bundle: ModelBundle, settings: TrainerSettings, make_clip: MakeClip
) -> None:
    metrics = TrainerMetrics()
    async with running(broker, bundle, settings, metrics):
        await announce(broker, bundle)
        await broker.labelled.append(make_clip(0))
        (entry,) = await wait_for_patches(broker, 1)
        rung = await broker.bell.wait("g1", wait_s=1)
    assert rung == {SID}
    patch = Patch.decode(entry.patch, bundle.layout)
    patch.apply(bundle.version0, bundle.layout, model_id=bundle.model_id, version=0)
    scores = await broker.scores.read(SID)
    assert [entry.kind for entry in scores] == ["clip", "phase"]
    assert len(ClipScore.model_validate_json(scores[0].body).frames) == 10
    assert PhaseRecord.model_validate_json(scores[1].body).published
    state = await broker.directory.state(SID)
    assert json.loads(state["rates"])["stream"] == "cam0"
    assert metrics.registry.get_sample_value("ams_training_phases_total", {"result": "published"}) == 1
    assert await broker.leases.owner(SID) is None, "a trainer that stops lets its sessions go"


async def test_a_second_trainer_goes_on_from_what_is_published(
    broker: Broker, bundle: ModelBundle, settings: TrainerSettings, make_clip: MakeClip
) -> None:
    await announce(broker, bundle)
    await broker.labelled.append(make_clip(0))
    async with running(broker, bundle, settings):
        (first,) = await wait_for_patches(broker, 1)
    async with running(broker, bundle, settings.model_copy(update={"name": "t2"})):
        digest = json.dumps({"version": 1, "digest": first.digest}).encode()
        await broker.upstream.post(SID, UpstreamEvent("applied", digest))
        await broker.labelled.append(make_clip(20, version=1))
        both = await wait_for_patches(broker, 2)
    assert [entry.version for entry in both] == [1, 2]
    assert both[1].fence > both[0].fence
    weights = bundle.version0
    for entry in both:
        patch = Patch.decode(entry.patch, bundle.layout)
        weights = patch.apply(weights, bundle.layout, model_id=bundle.model_id, version=entry.base)
    clips = [entry for entry in await broker.scores.read(SID) if entry.kind == "clip"]
    assert len(clips) == 2, "the first clip is scored once, by the first owner"


async def test_a_student_that_is_not_in_the_store_is_said_to_the_device(
    broker: Broker, bundle: ModelBundle, settings: TrainerSettings
) -> None:
    async with running(broker, bundle, settings):
        await announce(broker, bundle, model_id="ab" * 32)
        while "notice" not in (state := await broker.directory.state(SID)):
            await asyncio.sleep(0.01)
    assert json.loads(state["notice"])["code"] == "model"


async def test_the_old_owner_is_fenced_off(
    broker: Broker, bundle: ModelBundle, student: Student, settings: TrainerSettings
) -> None:
    old, _ = await take_over(broker, Lease(SID, "t1", 1), bundle, student, settings)
    await take_over(broker, Lease(SID, "t2", 2), bundle, student, settings)
    old.publisher.publish_keyframe(above=0)
    with pytest.raises(FencedError):
        await append(broker, SID, old.publisher.outgoing[0])


async def test_an_heir_knows_what_the_device_has_answered(
    broker: Broker, bundle: ModelBundle, student: Student, settings: TrainerSettings, make_clip: MakeClip
) -> None:
    first, _ = await take_over(broker, Lease(SID, "t1", 1), bundle, student, settings)
    for start in (0, 10):
        first.take(make_clip(start), 100.0 + start)
        first.run_phase(100.0 + start, lambda: 0.0)
    for entry in first.publisher.outgoing:
        await append(broker, SID, entry)
    digest = bundle.layout.digest(first.history.latest).hex()
    await broker.directory.update(SID, {"device_version": "2", "device_digest": digest})
    heir, _ = await take_over(broker, Lease(SID, "t2", 2), bundle, student, settings)
    assert heir.history.may_publish
    heir.take(make_clip(20), 120.0)
    assert heir.phase_due(120.0)


async def test_going_on_after_a_lapse(
    broker: Broker, bundle: ModelBundle, student: Student, settings: TrainerSettings, make_clip: MakeClip
) -> None:
    session, _ = await take_over(broker, Lease(SID, "t1", 1), bundle, student, settings)
    session.take(make_clip(0), 100.0)
    session.run_phase(100.0, lambda: 0.0)
    await keep_on(broker, Lease(SID, "t1", 2), session)
    assert session.publisher.fence == 2
    assert [entry.fence for entry in session.publisher.outgoing] == [2], (
        "what was decided is published under the new fence"
    )


async def test_a_log_that_lost_entries_gets_a_keyframe(
    broker: Broker, bundle: ModelBundle, student: Student, settings: TrainerSettings, make_clip: MakeClip
) -> None:
    session, _ = await take_over(broker, Lease(SID, "t1", 1), bundle, student, settings)
    session.take(make_clip(0), 100.0)
    session.run_phase(100.0, lambda: 0.0)
    session.publisher.outgoing.clear()  # appended, and then lost with the broker's data
    await keep_on(broker, Lease(SID, "t1", 1), session)
    (entry,) = session.publisher.outgoing
    assert (entry.kind, entry.version) == ("keyframe", session.history.version)


async def test_a_keyframe_that_the_broker_loses_at_once_breaks_nothing(
    broker: Broker, session: Session, settings: TrainerSettings
) -> None:
    class Forgetful:
        """A patch log that fails over between the append and the trim."""

        async def append(self, sid: str, entry: PatchEntry) -> str:
            return "1-1"

        async def read(self, sid: str, *, after: str = "", count: int = 256) -> tuple[PatchEntry, ...]:
            return ()

        async def trim(self, sid: str, *, before: str) -> None:
            raise AssertionError("there is nothing to trim up to")

    worker = SessionWorker(
        Lease(SID, "t1", 1), replace(broker, patches=Forgetful()), StudentShelf(DirectoryStore(settings.models_dir)),
        ScaledClock(), settings, TrainerMetrics(), in_thread=lambda work: asyncio.to_thread(work),
        stopping=asyncio.Event(),
    )  # fmt: skip
    session.publisher.publish_keyframe()
    await worker._publish(session)
    assert not session.publisher.outgoing


async def test_versions_that_the_broker_lost_before_anybody_read_them_come_again(
    broker: Broker, session: Session, settings: TrainerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = SessionWorker(
        Lease(SID, "t1", 1), broker, StudentShelf(DirectoryStore(settings.models_dir)), ScaledClock(), settings,
        TrainerMetrics(), in_thread=lambda work: asyncio.to_thread(work), stopping=asyncio.Event(),
    )  # fmt: skip
    for value in (1, 2):
        session.publisher.publish(Delta(np.array([0]), np.array([value])))
    await worker._publish(session)
    assert isinstance(broker.connection, MemoryConnection)
    broker.connection.come_back(empty=True)
    await worker._check_log(session)
    assert not session.publisher.outgoing  # the device may still be at it
    monkeypatch.setattr("services.trainer.worker.CHECK_LOG_REAL_S", 0.0)
    await worker._check_log(session)
    assert [(entry.kind, entry.version) for entry in session.publisher.outgoing] == [("keyframe", 2)]
    await worker._publish(session)
    await worker._check_log(session)
    assert not session.publisher.outgoing


async def test_a_session_that_somebody_else_went_on_with_is_let_go(
    broker: Broker, bundle: ModelBundle, student: Student, settings: TrainerSettings
) -> None:
    session, _ = await take_over(broker, Lease(SID, "t1", 1), bundle, student, settings)
    await take_over(broker, Lease(SID, "t2", 2), bundle, student, settings)
    with pytest.raises(FencedError):
        await keep_on(broker, Lease(SID, "t1", 3), session)


async def test_repeated_append_of_a_takeover_is_no_loss_of_ownership(
    broker: Broker, bundle: ModelBundle, student: Student, settings: TrainerSettings
) -> None:
    session, _ = await take_over(broker, Lease(SID, "t1", 1), bundle, student, settings)
    assert isinstance(session, Session)
    await append(broker, SID, PatchEntry("takeover", 1, base=0, version=0))


async def test_a_session_that_breaks_does_not_stop_the_others(
    broker: Broker, bundle: ModelBundle, settings: TrainerSettings, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = Session.hear

    def break_for_one(session: Session, event: UpstreamEvent) -> None:
        if session.sid == "bad/cam0":
            raise MemoryError("as if")
        healthy(session, event)

    monkeypatch.setattr(Session, "hear", break_for_one)
    async with running(broker, bundle, settings):
        await announce(broker, bundle)
        await broker.directory.update("bad/cam0", {"model_id": bundle.model_id})
        await broker.upstream.post("bad/cam0", UpstreamEvent("applied", b"{}"))
        await broker.directory.touch("bad/cam0", time.time())
        while await broker.leases.owner("bad/cam0") is not None or not await broker.patches.read("bad/cam0"):
            await asyncio.sleep(0.01)
        await broker.labelled.append(make_clip(0))
        assert await wait_for_patches(broker, 1)


async def test_a_lease_that_is_lost_ends_one_session_and_leaves_no_trace(
    broker: Broker, bundle: ModelBundle, settings: TrainerSettings
) -> None:
    short = settings.model_copy(update={"lease_ttl_real_s": 0.6})
    async with running(broker, bundle, short) as service:
        await announce(broker, bundle)
        await until(lambda: SID in service._workers)
        lease = service._workers[SID]._lease
        await broker.leases.release(lease)
        stolen = await broker.leases.acquire(SID, "thief", ttl_s=60)
        assert stolen is not None
        await until(lambda: SID not in service._workers)
        assert await broker.leases.owner(SID) == "thief"


async def test_a_score_is_written_after_the_broker_was_away(
    broker: Broker, bundle: ModelBundle, settings: TrainerSettings, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = broker.scores.append
    failures = iter([True, True, False])

    async def fail_at_first(sid: str, kind: str, body: bytes) -> None:
        if next(failures, False):
            raise BrokerUnavailableError("away")
        await written(sid, kind, body)

    monkeypatch.setattr(broker.scores, "append", fail_at_first)
    async with running(broker, bundle, settings):
        await announce(broker, bundle)
        await broker.labelled.append(make_clip(0))
        while not any(entry.kind == "clip" for entry in await broker.scores.read(SID)):
            await asyncio.sleep(0.01)


async def test_a_device_that_comes_back_with_another_student_is_taken_over_anew(
    broker: Broker, bundle: ModelBundle, settings: TrainerSettings, tmp_path: Path
) -> None:
    other = networks.student(tmp_path, STREET, steps=1, seed=5)
    async with running(broker, bundle, settings) as service:
        DirectoryStore(settings.models_dir).put(other)
        await announce(broker, bundle)
        await until(lambda: SID in service._workers)
        first = service._workers[SID]
        await announce(broker, other)
        await until(lambda: service._workers.get(SID) not in (None, first))


async def test_a_log_with_a_hole_goes_on_above_its_newest_version(
    broker: Broker, bundle: ModelBundle, student: Student, settings: TrainerSettings, make_clip: MakeClip
) -> None:
    first, _ = await take_over(broker, Lease(SID, "t1", 1), bundle, student, settings)
    for start in (0, 10, 20):
        first.take(make_clip(start), 100.0 + start)
        first.run_phase(100.0 + start, lambda: 0.0)
    for entry in list(first.publisher.outgoing)[::2]:  # the second one is lost
        await append(broker, SID, entry)
    heir, _ = await take_over(broker, Lease(SID, "t2", 2), bundle, student, settings)
    (entry,) = heir.publisher.outgoing
    assert (entry.kind, entry.version) == ("keyframe", 4)
