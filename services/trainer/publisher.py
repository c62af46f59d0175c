"""The publisher: what goes into a session's patch log, and how a device that disagrees is answered.

Holds the version history and the entries that are decided and not yet appended. A device that keeps refusing is
answered a few times and then left alone until it says that something runs or connects again, so it can neither fill the
log nor use the versions up. Pure decisions; the worker appends.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from ams.core.delta import Delta
from ams.core.history import VersionHistory
from ams.core.layout import Layout
from ams.core.messages import Refused
from ams.core.patch import CODER_OFFSET, FEATURE_RANS, GAP_ZSTD, RANS, Patch
from ams.models.bundle import ModelBundle
from ams.ports import PatchEntry

log = logging.getLogger(__name__)

KEYFRAME_EVERY = 64
"""Entries after which a keyframe replaces the chain in the log."""

WEIGH_EVERY = 8
"""Entries after which the log is weighed against a keyframe, which costs encoding one."""

MAX_ANSWERS = 5
"""Answers to refusals in a row; then the device must say that something runs."""

NO_DIGEST = bytes(32)
"""Where only the length of a patch matters: digests all have the same."""

WEIGHTS_AT_FAULT = ("canary", "backend")
"""Refusals that blame the weights and not the bytes: what ran well comes back."""

KNOWN_REASONS = frozenset(("corrupt", "base", "digest", "canary", "backend", "overload", "internal"))
"""Reasons that may become a metric's label; a device could invent any number of others."""


@dataclass
class Answers:
    """What devices said against us, as totals since the session was taken over."""

    digest_mismatches: int = 0
    refusals: Counter[str] = field(default_factory=Counter)


class Publisher:
    """The patch log's writer for one session."""

    def __init__(self, sid: str, fence: int, bundle: ModelBundle) -> None:
        self.fence = fence
        self.history = VersionHistory(bundle.layout, bundle.model_id, bundle.version0)
        self.outgoing: deque[PatchEntry] = deque()
        self.answers = Answers()
        self._sid = sid
        self._layout: Layout = bundle.layout
        self._since_keyframe = 0
        self._bytes_since_keyframe = 0
        self._in_a_row = 0
        self._answered: tuple[int, bytes] | None = None
        self._coder = GAP_ZSTD  # what every device takes, until this one says that it takes more
        self._coders_in_log: set[int] = set()

    def replay(self, entry: PatchEntry) -> None:
        """Rebuild the record from an entry of the log. Raises PatchError when it does not fit."""
        if entry.kind == "takeover":
            return
        self.history.replay(Patch.decode(entry.patch, self._layout))
        self._count(entry)

    def speak(self, features: Collection[str]) -> None:
        """Encode for a device with these features from now on.

        What it could not read in the log gives way to a keyframe, up to which the log is then trimmed.
        """
        self._coder = RANS if FEATURE_RANS in features else GAP_ZSTD
        if self._coder == GAP_ZSTD and RANS in self._coders_in_log:
            self.publish_keyframe()

    def size_of(self, delta: Delta) -> int:
        """Bytes of the patch that would publish a change; nothing is decided."""
        patch = Patch(self.history.version, self.history.version + 1, self.history.model_id, NO_DIGEST, delta)
        return len(patch.encode(self._layout, coder=self._coder))

    def publish(self, delta: Delta) -> PatchEntry:
        """Decide on a new version whose weights are the newest ones plus `delta`."""
        return self._decide(self.history.publish(delta))

    def publish_keyframe(self, *, above: int = 0) -> None:
        """Decide on a keyframe of the newest weights, as a version larger than `above`."""
        self._decide(self.history.keyframe(above=above))

    def heard_running(self, version: int, digest: bytes, *, connected: bool = False, log_reaches: bool = True) -> None:
        """The device runs a version. `connected`: it has just come; `log_reaches`: the log leads on from there."""
        if self.history.acknowledge(version, digest):
            self._in_a_row, self._answered = 0, None
            if not log_reaches and version < self.history.version:
                self._decide(self.history.rebase(version))
            return
        if (version, digest) == self._answered and log_reaches:
            return  # said again, by a reconnect say: the keyframe for it is in the log, unless the broker lost that
        if connected:
            self._in_a_row = 0
        if self.history.knows(version):
            self.answers.digest_mismatches += 1
            log.error("%s: device runs version %d with another digest; it gets a keyframe", self._sid, version)
        else:
            log.warning("%s: device runs version %d, which is not on record; it gets a keyframe", self._sid, version)
        if self._may_answer():
            self._answered = (version, digest)
            self.publish_keyframe(above=version)

    def heard_refusal(self, refused: Refused) -> None:
        """The device did not take a version and says what it runs instead."""
        reason = refused.reason if refused.reason in KNOWN_REASONS else "other"
        self.answers.refusals[reason] += 1
        log.warning("%s: device refused version %d: %s", self._sid, refused.version, refused.text or refused.reason)
        running = refused.running_version
        sound = self.history.acknowledge(running, bytes.fromhex(refused.running_digest))
        if not self._may_answer():
            return
        if not sound:
            self.publish_keyframe(above=max(running, refused.version))
        elif reason in WEIGHTS_AT_FAULT and not self._newest_equals(running):
            self._decide(self.history.roll_back(running))
            self._decide(self.history.rebase(running))
        elif running < self.history.version:  # also when it failed on weights like those that run: it may pass
            self._decide(self.history.rebase(running))

    def _newest_equals(self, version: int) -> bool:
        return bool(np.array_equal(self.history.latest, self.history.weights_at(version)))

    def _may_answer(self) -> bool:
        self._in_a_row += 1
        if self._in_a_row == MAX_ANSWERS + 1:
            log.error("%s: refused %d times in a row, the device gets no more until it runs something", self._sid,
                      MAX_ANSWERS)  # fmt: skip
        return self._in_a_row <= MAX_ANSWERS

    def _decide(self, patch: Patch) -> PatchEntry:
        entry = PatchEntry(
            kind="keyframe" if patch.is_keyframe else "patch",
            fence=self.fence,
            base=patch.base,
            version=patch.target,
            digest=patch.digest.hex(),
            patch=patch.encode(self._layout, coder=self._coder),
        )
        self.outgoing.append(entry)
        self._count(entry)
        if self._since_keyframe >= KEYFRAME_EVERY or self._log_outgrew_keyframe():
            self.publish_keyframe()
        return entry

    def _count(self, entry: PatchEntry) -> None:
        coder = entry.patch[CODER_OFFSET]
        if entry.kind == "keyframe":
            self._since_keyframe = self._bytes_since_keyframe = 0
            self._coders_in_log = {coder}
        else:
            self._coders_in_log.add(coder)
            self._since_keyframe += 1
            self._bytes_since_keyframe += len(entry.patch)

    def _log_outgrew_keyframe(self) -> bool:
        if not self._since_keyframe or self._since_keyframe % WEIGH_EVERY:
            return False
        return self._bytes_since_keyframe > len(self.history.keyframe().encode(self._layout, coder=self._coder))
