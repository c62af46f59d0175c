"""What the server owes one stream of a connected device: the patches beyond its version, new rates, new notices.

Reads the session's patch log and state and decides what goes down now. At most two patches are unanswered; what
comes after them stays in the log and is planned again when the device has answered, so a slow link holds no queue.
Knows the broker's ports and `ams.core.catch_up`; does not know sockets, and never looks into a patch.

Two tasks share a relay: one reads the broker and sends, the other hears the device's answers in between, which is why
`advance` looks after every wait whether its plan still holds.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable

from pydantic import ValidationError

from ams.core.catch_up import LogEntry, catch_up
from ams.core.history import MAX_UNACKNOWLEDGED
from ams.core.messages import Message, Notice, Patch, Rates, StreamHello
from ams.ports import Broker, PatchEntry
from services.gateway.metrics import GatewayMetrics
from services.gateway.postbox import Postbox

log = logging.getLogger(__name__)

ENTRIES_AT_ONCE = 32
"""Entries per read of a patch log, which bounds the bytes held while a long log is walked through."""

LOOK_BACK_S = 60.0
"""How often it is checked that the patch log still has the entry that was read last."""

ASK_AGAIN_S = 30.0
"""How often an owner is asked again for what the log lacks."""

MAX_TEXT = 500

Send = Callable[[Message, bytes], None]
State = dict[str, str]


class StreamRelay:
    """One stream's way down, for as long as one connection lasts."""

    def __init__(
        self, broker: Broker, metrics: GatewayMetrics, postbox: Postbox, sid: str, hello: StreamHello, send: Send
    ) -> None:
        self.sid = sid
        self._broker = broker
        self._metrics = metrics
        self._postbox = postbox
        self._stream = hello.name
        self._send = send
        self._running = (hello.version, hello.digest)
        self._unanswered: deque[LogEntry] = deque()
        self._log: list[LogEntry] = []
        self._cursor = ""
        self._last: LogEntry | None = None  # what the cursor stands at
        self._looked_back_s = time.monotonic()
        self._fresh: dict[str, bytes] = {}
        self._rates: Rates | None = None
        self._rates_text = ""
        self._notice = ""
        self._answers = 0
        self._asked_s = time.monotonic()

    # -- the device's word -------------------------------------------------------------------------------------

    def applied(self, version: int, digest: str) -> None:
        """The device runs `version` now."""
        self._answers += 1
        self._running = (version, digest)
        while self._unanswered and self._unanswered[0].version <= version:
            self._unanswered.popleft()
        # What lies behind the device is of no use; the entry of its own version tells what is newest.
        self._log = [entry for entry in self._log if entry.version >= version]

    def refused(self, version: int, digest: str) -> None:
        """The device did not take a patch and runs `version`. Only what the owner adds from now on is sent to it."""
        self._answers += 1
        self._running = (version, digest)
        self._unanswered.clear()
        self._log.clear()
        self._fresh.clear()
        self._asked_s = time.monotonic()

    # -- the log -----------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Begin again at the oldest entry: the log is not what it was."""
        self._log.clear()
        self._fresh.clear()
        self._cursor, self._last = "", None

    async def _look_back(self, last: LogEntry) -> None:
        """Begin again if the log is not the one that was read: a broker that failed over gives ids out once more.

        Without this, entries with ids below the cursor would never be seen. A trimmed log has later entries.
        """
        found = await self._broker.patches.read(self.sid, after=_before(last.entry_id), count=1)
        self._looked_back_s = time.monotonic()
        if not found or (found[0].entry_id == last.entry_id and _header(found[0]) != last):
            log.warning("%s: the patch log is not what it was; it is read again", self.sid)
            self.forget()

    async def read_log(self) -> bool:
        """Read what is new in the patch log. True when the log as it is brings the device to the newest version."""
        if self._last is not None and time.monotonic() - self._looked_back_s >= LOOK_BACK_S:
            await self._look_back(self._last)
        while True:
            entries = await self._broker.patches.read(self.sid, after=self._cursor, count=ENTRIES_AT_ONCE)
            if not entries:
                break
            # The bytes of the last read only: mostly it is one new patch, which is sent at once.
            self._fresh = {entry.entry_id: entry.patch for entry in entries}
            self._log += [_header(entry) for entry in entries if entry.version >= self._running[0]]
            self._cursor, self._last = entries[-1].entry_id, _header(entries[-1])
            if len(entries) < ENTRIES_AT_ONCE:
                break
        version, digest = self._running
        return not catch_up(self._log, version=version, digest=digest).need

    async def advance(self) -> None:
        """Send the next patches, as far as the device has answered the last ones."""
        answers = self._answers
        plan = catch_up(self._log, version=self._planned[0], digest=self._planned[1])
        for entry in plan.send:
            if len(self._unanswered) >= MAX_UNACKNOWLEDGED:
                break
            patch = await self._patch_of(entry)
            if answers != self._answers:
                return  # the device has answered meanwhile, so this stream is due again
            if patch is None:
                self.forget()  # trimmed meanwhile: the next look finds the keyframe that replaced it
                return
            self._send(Patch(stream=self._stream, base=entry.base, target=entry.version), patch)
            self._unanswered.append(entry)
            self._metrics.patches.inc()
            self._metrics.patch_bytes.inc(len(patch))
        self._fresh.clear()
        if plan.need and not self._unanswered:
            await self._ask_owner(plan.need)

    @property
    def _planned(self) -> tuple[int, str]:
        """Version and digest that the device will have after what was sent."""
        return (self._unanswered[-1].version, self._unanswered[-1].digest) if self._unanswered else self._running

    async def _patch_of(self, entry: LogEntry) -> bytes | None:
        """The bytes of an entry, or None when the log does not have it any more."""
        if entry.entry_id in self._fresh:
            return self._fresh[entry.entry_id]
        found = await self._broker.patches.read(self.sid, after=_before(entry.entry_id), count=1)
        return found[0].patch if found and found[0].entry_id == entry.entry_id else None

    async def _ask_owner(self, need: str) -> None:
        """Tell the owner again what the device runs. Without an owner the next one reads what was said already."""
        now_s = time.monotonic()
        if now_s - self._asked_s < ASK_AGAIN_S:
            return
        self._asked_s = now_s
        if await self._broker.leases.owner(self.sid) is not None:
            log.info("%s: the patch log does not lead on from version %d (%s)", self.sid, self._running[0], need)
            self.resume(log_reaches=False)

    def resume(self, *, log_reaches: bool) -> None:
        """Tell the owner which version the device runs, and whether it gets on without a new keyframe or patch."""
        version, digest = self._running
        body = {"version": version, "digest": digest, "log_reaches": log_reaches}
        self._postbox.post("resume", json.dumps(body).encode())
        self._asked_s = time.monotonic()

    # -- the state ---------------------------------------------------------------------------------------------

    def first_rates(self, state: State, default: Rates) -> Rates:
        """The rates to welcome the stream with: what its owner wants, else `default`."""
        self._rates = self._rates_of(state) or default
        return self._rates

    def take_state(self, state: State) -> None:
        """Send rates and notice if they have changed."""
        if state.get("rates", "") != self._rates_text:
            rates = self._rates_of(state)
            if rates is not None and rates != self._rates:
                self._rates = rates
                self._send(rates, b"")
        notice = state.get("notice", "")
        if notice and notice != self._notice:
            self._notice = notice
            if notice != state.get("notice_told", ""):
                self._tell(notice)

    def _tell(self, notice: str) -> None:
        try:
            fields = json.loads(notice)
            text = str(fields["text"])[:MAX_TEXT]
            self._send(Notice(code=fields["code"], text=text, stream=self._stream), b"")
        except (ValueError, TypeError, KeyError) as error:
            log.warning("%s: state field 'notice' is not JSON with code and text, skipped: %s", self.sid, error)
        self._postbox.note({"notice_told": notice})

    def _rates_of(self, state: State) -> Rates | None:
        self._rates_text = state.get("rates", "")
        if not self._rates_text:
            return None
        try:
            return Rates.model_validate_json(self._rates_text).model_copy(update={"stream": self._stream})
        except ValidationError as error:
            log.warning("%s: state field 'rates' is not a Rates message, skipped: %s", self.sid, error)
            return None


def _header(entry: PatchEntry) -> LogEntry:
    return LogEntry(entry.kind, entry.base, entry.version, entry.entry_id, entry.digest, len(entry.patch))


def _before(entry_id: str) -> str:
    """The id just below an entry's `<fence>-<n>`, so that a read after it begins with that entry."""
    fence, _, n = entry_id.partition("-")
    return f"{fence}-{int(n) - 1}"
