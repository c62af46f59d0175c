"""The ledger: what the broker was told and what devices ran, and whether that keeps the promises.

An oracle beside the system: it keeps the weights of every version that was ever appended, by applying each patch
itself, and the way of every clip. It never asks the code under test. Where a fault took something from the broker,
the ledger is told, and holds the system to the rest.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ams.core.history import MAX_UNACKNOWLEDGED
from ams.core.layout import IntVector, Layout
from ams.core.patch import Patch
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip, PatchEntry, QueuedClip


@dataclass
class SessionBook:
    """What is known of one session."""

    contents: dict[int, dict[str, IntVector]] = field(default_factory=dict)  # version: digest: weights
    log_digests: dict[int, str] = field(default_factory=dict)
    newest: int = 0
    fence: int = 0
    highest_fence: int = 0
    strict: bool = True  # False after a failover, until a fence above all before is begun
    covered: set[str] = field(default_factory=set)  # clips up to the written cursor `scored`
    covered_at: dict[int, frozenset[str]] = field(default_factory=dict)
    scored: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    published: int = 0


class Ledger:
    """All sessions, all clips."""

    def __init__(self, bundle: ModelBundle, violation: Callable[[str], None]) -> None:
        self._layout: Layout = bundle.layout
        self._model_id = bundle.model_id
        self._version0 = bundle.version0
        self._digest0 = bundle.layout.digest(bundle.version0).hex()
        self._violation = violation
        self.books: dict[str, SessionBook] = defaultdict(self._new_book)
        self.admitted: dict[str, str] = {}  # clip: session
        self.labelled: set[str] = set()
        self.ever_labelled: set[str] = set()
        self.times_labelled: Counter[str] = Counter()
        self.reported: set[str] = set()
        self.acked: set[str] = set()
        self.lost: set[str] = set()
        self.entries: dict[str, dict[str, str]] = defaultdict(dict)  # session: entry id: clip
        self.counts: Counter[str] = Counter()

    def _new_book(self) -> SessionBook:
        return SessionBook(contents={0: {self._digest0: self._version0}})

    # -- patches -----------------------------------------------------------------------------------------------

    def appended(self, sid: str, entry: PatchEntry) -> None:
        """The broker has taken an entry into a patch log."""
        book = self.books[sid]
        if entry.fence < book.fence and book.strict:
            self._violation(f"{sid}: fence {entry.fence} wrote version {entry.version} after fence {book.fence}")
        if entry.fence > book.highest_fence and entry.kind == "takeover" and not book.strict:
            book.strict = True  # and what the failover has mixed up counts no more
            book.newest, book.log_digests = entry.version, {}
        book.fence = max(book.fence, entry.fence)
        book.highest_fence = max(book.highest_fence, entry.fence)
        if entry.kind == "takeover":
            book.covered_at[entry.fence] = frozenset(book.covered)
            return
        self.counts["versions"] += entry.version > book.newest
        if book.strict:
            if entry.version < book.newest:
                self._violation(f"{sid}: version {entry.version} was appended after {book.newest}")
            if book.log_digests.get(entry.version, entry.digest) != entry.digest:
                self._violation(f"{sid}: version {entry.version} was appended with two contents")
        self._learn(sid, book, entry)
        book.newest = max(book.newest, entry.version)
        book.log_digests[entry.version] = entry.digest

    def _learn(self, sid: str, book: SessionBook, entry: PatchEntry) -> None:
        patch = Patch.decode(entry.patch, self._layout)
        if (patch.base, patch.target, patch.digest.hex()) != (entry.base, entry.version, entry.digest):
            self._violation(f"{sid}: the entry of version {entry.version} is not what its patch says")
        bases = {0: {self._digest0: self._version0}} if entry.base == 0 else book.contents
        for weights in bases.get(entry.base, {}).values():
            result = patch.delta.added_to(weights).astype("int32")
            if self._layout.digest(result) == patch.digest:
                book.contents.setdefault(entry.version, {})[entry.digest] = result
                return
        self._violation(f"{sid}: the patch {entry.base} to {entry.version} gives other weights than it promises")

    def runs(self, sid: str, version: int, digest: bytes, weights: IntVector) -> None:
        """A device runs this."""
        if self._layout.digest(weights) != digest:
            self._violation(f"{sid}: version {version} runs with other weights than its digest says")
        known = self.books[sid].contents.get(version, {})
        if digest.hex() not in known:
            self._violation(f"{sid}: version {version} runs with {digest.hex()[:8]}, which was never published")

    def decided(self, sid: str, unacknowledged: int) -> None:
        """A training phase has decided on a new version."""
        self.books[sid].published += 1
        if unacknowledged > MAX_UNACKNOWLEDGED:
            self._violation(f"{sid}: {unacknowledged} versions wait for the device")

    # -- clips -------------------------------------------------------------------------------------------------

    def took(self, clip: QueuedClip) -> None:
        """The broker has queued a clip."""
        self.admitted[clip.clip_id] = clip.sid
        self.counts["clips admitted"] += 1

    def acknowledged(self, sid: str, clip_id: str) -> None:
        """A device heard that a clip is safe."""
        self.acked.add(clip_id)
        if clip_id not in self.admitted:
            self._violation(f"{sid}: clip {clip_id[:8]} was acknowledged and is nowhere")

    def got_labels(self, clip: LabelledClip, entry_id: str) -> None:
        """The broker has taken a labelled clip, or one that could not be used."""
        (self.reported if clip.error else self.labelled).add(clip.clip_id)
        self.ever_labelled.add(clip.clip_id)
        self.times_labelled[clip.clip_id] += 1
        self.entries[clip.sid][entry_id] = clip.clip_id
        self.counts["clips reported" if clip.error else "clips labelled"] += 1

    def got_score(self, sid: str, fence: int, body: bytes) -> None:
        """The broker has taken the score of a clip."""
        clip_id, book = json.loads(body)["clip_id"], self.books[sid]
        self.counts["clips scored"] += 1
        if clip_id not in self.ever_labelled:
            self._violation(f"{sid}: clip {clip_id[:8]} was scored without labels")
        before = book.scored.get(clip_id)
        # The very same line again is an append whose answer got lost.
        if before is not None and before[0] == fence and before[1] is not body and book.strict:
            self._violation(f"{sid}: one owner scored clip {clip_id[:8]} twice")
        # Of a clip that was sent and labelled again, after a lost answer say, the first entry may be trimmed already.
        once = self.times_labelled[clip_id] <= 1
        if book.strict and once and clip_id in book.covered_at.get(fence, ()):
            self._violation(f"{sid}: clip {clip_id[:8]} was scored again by an owner that could know")
        if before is not None and before[0] != fence:
            self.counts["clips scored by two owners"] += 1
        book.scored[clip_id] = (fence, body)

    def cursor(self, sid: str, fence: int, scored: str) -> None:
        """An owner has written how far it has scored.

        State is not fenced: one that has been replaced and does not know yet may set the cursor back, once. Its heir's
        heir then scores some clips again, and readers of the record know them by their ids.
        """
        book = self.books[sid]
        if fence < book.fence:
            self.counts["cursors set back by a replaced owner"] += 1
            book.covered.clear()
            return
        clip_id = self.entries[sid].get(scored)
        if clip_id is not None:
            book.covered.add(clip_id)

    # -- what the broker lost ----------------------------------------------------------------------------------

    def copy_marks(self) -> tuple[set[str], set[str]]:
        """What is labelled and reported now, to go back to."""
        return set(self.labelled), set(self.reported)

    def went_back(
        self, marks: tuple[set[str], set[str]], queued: Iterable[str], logs: dict[str, list[PatchEntry]]
    ) -> None:
        """The broker is as it was when `marks` were made; these clips are queued there, these entries in the logs."""
        self.labelled, self.reported = self.labelled & marks[0], self.reported & marks[1]
        # A labeler that knows a clip as labelled does not label it again: with its labels, the clip is lost.
        safe = self.labelled | self.reported | (set(queued) - self.ever_labelled)
        lost = {clip_id for clip_id in self.admitted if clip_id not in safe}
        self.counts["clips lost by the broker"] += len(lost - self.lost)
        self.lost |= lost
        for sid, book in self.books.items():
            book.covered.clear()
            book.covered_at.clear()
            self.log_went_back(sid, logs.get(sid, []))

    def log_went_back(self, sid: str, entries: Sequence[PatchEntry]) -> None:
        """A patch log holds only these entries now."""
        book = self.books[sid]
        book.strict = False
        book.fence = max((entry.fence for entry in entries), default=0)
        patches = [entry for entry in entries if entry.kind != "takeover"]
        book.newest = max((entry.version for entry in patches), default=0)
        book.log_digests = {entry.version: entry.digest for entry in patches}

    def missing(self) -> list[str]:
        """Clips that were acknowledged, were not lost by the broker, and of which nobody has heard since."""
        return sorted(self.acked - self.labelled - self.reported - self.lost)
