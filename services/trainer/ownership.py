"""Ownership: how a trainer takes a session over without losing or repeating anything, and goes on after a lapse.

A new owner first appends a takeover entry with its higher fence; from then on the broker itself refuses the old
owner. Then it rebuilds: version history from keyframe and patches, horizon from the labelled clips, clock and
controllers from the session's state. Optimiser moments and the sliding windows of mIoU are not kept: the first phase
ranks by gradient and warms the moments up again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from ams.errors import FencedError, ModelError, PatchError
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.models.store import DirectoryStore
from ams.ports import Broker, Lease, PatchEntry, UpstreamEvent
from services.trainer.config import TrainerSettings
from services.trainer.session import Session, Snapshot

log = logging.getLogger(__name__)

WHOLE_LOG = 10_000
"""More entries than a patch log ever holds between two keyframes."""


@dataclass(frozen=True)
class Cursors:
    """Entry ids up to which an owner has scored labelled clips and heard the device; empty for from the beginning."""

    scored: str
    heard: str


class StudentShelf:
    """One trainable module per model_id, shared by all of its sessions; weights are loaded before each use."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self._students: dict[str, tuple[ModelBundle, Student]] = {}

    def get(self, model_id: str) -> tuple[ModelBundle, Student]:
        """Bundle and module of a student. Slow the first time: builds the module and checks it. Raises ModelError."""
        if model_id not in self._students:
            bundle = self._store.get(model_id)
            if bundle.card.role != "student":
                raise ModelError(f"model {bundle.card.name!r} is a {bundle.card.role}; devices must run a student")
            self._students[model_id] = bundle, Student.from_bundle(bundle)
        return self._students[model_id]


async def append(broker: Broker, sid: str, entry: PatchEntry) -> None:
    """Append to the patch log, also after an append whose answer got lost. Raises FencedError when not the owner."""
    try:
        await broker.patches.append(sid, entry)
    except FencedError:
        # Our own entry, written by an append whose answer got lost, stands in the way of its repetition.
        written = await broker.patches.read(sid, count=WHOLE_LOG)
        ours = any(e.fence == entry.fence and e.version == entry.version and e.kind == entry.kind for e in written)
        if not ours or any(e.fence > entry.fence for e in written):
            raise


async def take_over(
    broker: Broker, lease: Lease, bundle: ModelBundle, student: Student, settings: TrainerSettings
) -> tuple[Session, Cursors]:
    """A session as its last owner left it, and how far that one got.

    The labelled clips are replayed by the caller, since decoding them is heavy.
    """
    session = Session(lease.sid, lease.fence, bundle, student, settings)
    entries = await broker.patches.read(lease.sid, count=WHOLE_LOG)
    newest = max((entry.version for entry in entries), default=0)
    await append(broker, lease.sid, PatchEntry("takeover", lease.fence, base=newest, version=newest))
    entries = await broker.patches.read(lease.sid, count=WHOLE_LOG)
    await asyncio.to_thread(_replay, session, entries)
    newest = max((entry.version for entry in entries), default=0)
    if session.history.version < newest:
        log.error("%s: the patch log cannot be replayed up to version %d; it gets a keyframe", lease.sid, newest)
        session.publisher.publish_keyframe(above=newest)
    state = await broker.directory.state(lease.sid)
    _restore(session, state)
    return session, Cursors(scored=state.get("scored", ""), heard=state.get("heard", ""))


def _replay(session: Session, entries: Sequence[PatchEntry]) -> None:
    for entry in entries:
        try:
            session.publisher.replay(entry)
        except PatchError as error:
            log.error("%s: entry %s of the patch log does not fit: %s", session.sid, entry.entry_id, error)


def _restore(session: Session, state: Mapping[str, str]) -> None:
    """Clock, controllers and totals of the last owner, and what the device has answered it."""
    if "snapshot" in state:
        session.restore(Snapshot(**json.loads(state["snapshot"])))
    session.publisher.answers.digest_mismatches = int(state.get("digest_mismatches", "0"))
    session.unusable_clips = int(state.get("unusable_clips", "0"))
    if "device_version" in state:
        # What the last owner heard is not said again: without it, every version would wait for an answer for ever.
        running = {"version": int(state["device_version"]), "digest": state.get("device_digest", "")}
        session.hear(UpstreamEvent("resume", json.dumps(running).encode()))


def snapshot_of(session: Session) -> str:
    """The session's snapshot as the state field that `take_over` reads."""
    return json.dumps(asdict(session.snapshot()))


async def keep_on(broker: Broker, lease: Lease, session: Session) -> None:
    """Go on with a session whose lease lapsed and is ours again, say because the broker was away.

    Raises FencedError when somebody else has published meanwhile. A log that lost entries (the broker came back with
    less than it had) gets a keyframe, so that the next owner and every device find a beginning.
    """
    entries = await broker.patches.read(lease.sid, count=WHOLE_LOG)
    publisher = session.publisher
    if any(entry.fence > publisher.fence for entry in entries):
        raise FencedError(f"{lease.sid}: another trainer has published meanwhile")
    publisher.fence = lease.fence
    publisher.outgoing = deque(replace(entry, fence=lease.fence) for entry in publisher.outgoing)
    written = max((entry.version for entry in entries), default=0)
    pending = min((entry.version for entry in publisher.outgoing), default=session.history.version + 1)
    if written < pending - 1:
        log.warning("%s: the patch log lost versions %d to %d", lease.sid, written + 1, pending - 1)
        publisher.publish_keyframe()
