"""Ownership: which sessions this trainer owns, and how it takes one over without losing or repeating anything.

A new owner first appends a takeover entry with its higher fence; from then on the broker itself refuses the old
owner. Then it rebuilds: version history from keyframe and patches, horizon from the labelled clips. Optimiser
moments are not kept: the first phase ranks by gradient and warms them up again.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass, replace

from ams.core.card import ModelCard
from ams.errors import FencedError, ModelError, PatchError
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.models.store import DirectoryStore
from ams.ports import Broker, Lease, PatchEntry, UpstreamEvent
from services.trainer.config import TrainerSettings
from services.trainer.session import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
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
            _check_role(bundle.card)
            self._students[model_id] = bundle, Student.from_bundle(bundle)
        return self._students[model_id]


def _check_role(card: ModelCard) -> None:
    if card.role != "student":
        raise ModelError(f"model {card.name!r} is a {card.role}; devices must run a student")


async def append(broker: Broker, sid: str, entry: PatchEntry) -> None:
    """Append to the patch log, also after an append whose answer got lost. Raises FencedError when not the owner."""
    try:
        await broker.patches.append(sid, entry)
    except FencedError:
        # Our own entry, written by an append that timed out, looks like a higher one to the broker.
        written = await broker.patches.read(sid)
        if not any(e.fence == entry.fence and e.version == entry.version and e.kind == entry.kind for e in written):
            raise


async def take_over(
    broker: Broker, lease: Lease, bundle: ModelBundle, student: Student, settings: TrainerSettings
) -> tuple[Session, Progress]:
    """A session as its last owner left it, and how far that one got.

    The labelled clips are replayed by the caller, since decoding them is heavy.
    """
    session = Session(lease.sid, lease.fence, bundle, student, settings)
    entries = await broker.patches.read(lease.sid, count=10_000)
    version = max((entry.version for entry in entries), default=0)
    await append(broker, lease.sid, PatchEntry("takeover", lease.fence, base=version, version=version))
    for entry in await broker.patches.read(lease.sid, count=10_000):
        try:
            session.replay(entry)
        except PatchError as error:
            log.error("%s: entry %s of the patch log does not fit: %s", lease.sid, entry.entry_id, error)
    state = await broker.directory.state(lease.sid)
    if "device_version" in state:
        # What the last owner heard is not said again: without it, every version would wait for an answer for ever.
        running = {"version": int(state["device_version"]), "digest": state.get("device_digest", "")}
        session.hear(UpstreamEvent("resume", json.dumps(running).encode()))
    return session, Progress(scored=state.get("scored", ""), heard=state.get("heard", ""))


async def keep_on(broker: Broker, lease: Lease, session: Session) -> None:
    """Go on with a session whose lease lapsed and is ours again, say because the broker was away.

    Raises FencedError when somebody else has published meanwhile. A log that lost entries (the broker came back with
    less than it had) gets a keyframe, so that the next owner and every device find a beginning.
    """
    entries = await broker.patches.read(lease.sid, count=10_000)
    if any(entry.fence > session.fence for entry in entries):
        raise FencedError(f"{lease.sid}: another trainer has published meanwhile")
    session.fence = lease.fence
    session.outgoing = deque(replace(entry, fence=lease.fence) for entry in session.outgoing)
    written = max((entry.version for entry in entries), default=0)
    pending = min((entry.version for entry in session.outgoing), default=session.history.version + 1)
    if written < pending - 1:
        log.warning("%s: the patch log lost versions %d to %d", lease.sid, written + 1, pending - 1)
        session.publish_keyframe()
