"""Patches on their way to the model slot: one at a time, in order, beside the running model; and the answer to each.

Outlives connections: a patch that is being applied when one breaks is finished, and the next Hello says what runs.
All methods run in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ams.core.messages import Ack, Message, Patch, Refused
from edge_agent.counters import Counters
from edge_agent.model_slot import Applied, ModelSlot, Refusal

log = logging.getLogger(__name__)

PATCHES_WAITING = 4
"""The server leaves at most two versions unacknowledged; what comes beyond this is refused."""


class PatchIntake:
    """Applies the patches of one stream and answers through `send`, which may drop what nobody can hear now."""

    def __init__(self, slot: ModelSlot, counters: Counters, *, stream: str, send: Callable[[Message], None]) -> None:
        self._slot = slot
        self._counters = counters
        self._stream = stream
        self._send = send
        self._waiting: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(PATCHES_WAITING)

    def take(self, header: Patch, payload: bytes) -> None:
        """Queue a patch, or refuse it when too many wait."""
        try:
            self._waiting.put_nowait((header.target, payload))
        except asyncio.QueueFull:
            running = self._slot.current
            text = f"{PATCHES_WAITING} patches wait already"
            self._answer(header.target, Refusal("overload", text, running.version, running.digest))

    async def run(self) -> None:
        """Apply what is queued until cancelled; a patch under way then is finished in its thread."""
        while True:
            target, payload = await self._waiting.get()
            self._answer(target, await asyncio.to_thread(self._slot.apply, payload, announced=target))

    def report_reverted(self, version: int, outcome: Refusal) -> None:
        """Tell the server that `version`, which ran already, has failed and what runs instead."""
        self._counters.patches_refused += 1
        self._send_refused(version, outcome)

    def _answer(self, target: int, outcome: Applied | Refusal) -> None:
        if isinstance(outcome, Applied):
            if outcome.changed:
                self._counters.patches_applied += 1
                self._counters.swap_ms = outcome.swap_ms
                log.info("version %d runs (%.1f ms beside the old one)", outcome.version, outcome.swap_ms)
            digest = outcome.digest.hex()
            self._send(Ack(stream=self._stream, of="patch", version=outcome.version, digest=digest))
            return
        self._counters.patches_refused += 1
        self._counters.digest_mismatches += outcome.reason == "digest"
        log.warning(
            "patch to version %d refused (%s): %s; version %d goes on",
            target, outcome.reason, outcome.text, outcome.running_version,
        )  # fmt: skip
        self._send_refused(target, outcome)

    def _send_refused(self, version: int, outcome: Refusal) -> None:
        refused = Refused(
            stream=self._stream,
            version=version,
            reason=outcome.reason,
            text=outcome.text,
            running_version=outcome.running_version,
            running_digest=outcome.running_digest.hex(),
        )
        self._send(refused)
