"""Bugs on purpose, by which the simulation shows that it has teeth: each is a small, plausible mistake.

`MUTATIONS` names them; each takes a `patch(object, attribute, value)` and puts its mistake in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

import ams.broker.memory_logs
import services.gateway.relay
import services.gateway.stream
from ams.core.horizon import Horizon
from ams.core.messages import Ack, Nack
from ams.core.patch import Patch
from edge_agent.model_slot import ModelSlot
from edge_agent.uplink import Uplink
from services.gateway.connection import DeviceConnection
from services.gateway.relay import StreamRelay
from services.labeler.service import LabelerService
from services.trainer.publisher import Publisher
from services.trainer.worker import SessionWorker
from tests.simulation.world import World

Put = Callable[[Any, str, Any], None]


def digest_not_checked(put: Put) -> None:
    """A device takes whatever a patch gives."""

    def apply(self: Patch, weights: Any, layout: Any, *, model_id: str, version: int) -> Any:
        return self.delta.added_to(weights).astype(np.int32)

    put(Patch, "apply", apply)


def clip_acknowledged_before_it_is_durable(put: Put) -> None:
    """A gateway says yes although the broker is away."""
    real = DeviceConnection._answer_to

    async def answer(self: Any, clip: Any, payload: Any, stream: Any) -> Ack | Nack:
        said = await real(self, clip, payload, stream)
        if isinstance(said, Nack) and said.code == "broker_unavailable":
            return Ack(stream=clip.stream, of="clip", clip_id=clip.clip_id)
        return said

    put(DeviceConnection, "_answer_to", answer)


def fence_forgotten(put: Put) -> None:
    """The patch log takes entries of an owner that was replaced."""

    def any_id(last: tuple[int, int], sid: str, entry: Any) -> str:
        return f"{max(last[0], entry.fence)}-{last[1] + 1}"

    put(ams.broker.memory_logs, "next_patch_id", any_id)


def clip_done_before_it_is_labelled(put: Put) -> None:
    """A labeler takes a clip from the queue first and labels it second."""
    real = LabelerService._open

    async def open_clip(self: Any, clip: Any) -> None:
        await self._patiently(lambda: self._queue.done(clip))
        await real(self, clip)

    put(LabelerService, "_open", open_clip)


def everything_sent_at_once(put: Put) -> None:
    """A gateway does not wait for the device's answers."""
    put(services.gateway.relay, "MAX_UNACKNOWLEDGED", 8)


def repeated_clips_scored_again(put: Put) -> None:
    """A trainer does not know a labelled clip that comes again."""
    real = Horizon.add

    def add(self: Any, clip: Any) -> bool:
        return real(self, clip) or True

    put(Horizon, "has_seen", lambda self, clip_id: False)
    put(Horizon, "add", add)


def device_ahead_not_rebased(put: Put) -> None:
    """An owner that does not know what a device runs does nothing."""
    real = Publisher.heard_running

    def heard(self: Any, version: int, digest: bytes, **rest: Any) -> None:
        if self.history.knows(version):
            real(self, version, digest, **rest)

    put(Publisher, "heard_running", heard)


def announced_target_not_compared(put: Put) -> None:
    """As it was: one bit of a patch's version could be wrong. Here the network spoils nothing but that number."""
    real = ModelSlot.apply
    put(World, "damaged_byte", lambda self, start, end: start + 16 + self.rngs.network.randrange(8))
    put(ModelSlot, "apply", lambda self, data, *, announced=None: real(self, data))


def cancellation_swallowed(put: Put) -> None:
    """As it was: `wait_for` of Python 3.11 swallows a cancellation that comes together with the event."""

    async def transmit(self: Any, socket: Any, connection: Any) -> None:
        while True:
            self._wake.clear()
            now_s = asyncio.get_running_loop().time()
            if connection.established:
                self.clips.feed(connection, now_s)
            connection.keep_alive(now_s)
            while (data := connection.data_to_send(now_s)) is not None:
                await socket.send(data)
            wait_s = min(connection.heartbeat_due_s() - now_s, self.clips.due_in_s(now_s))
            try:
                await asyncio.wait_for(self._wake.wait(), max(0.01, wait_s))
            except TimeoutError:
                continue

    put(Uplink, "_transmit", transmit)


def lost_versions_not_noticed(put: Put) -> None:
    """As it was: an owner waits for ever for the answer to a version that the broker lost."""

    async def check(self: Any, session: Any) -> None:
        """Trust the log."""

    put(SessionWorker, "_check_log", check)


def ids_given_out_again_not_noticed(put: Put) -> None:
    """As it was: a gateway reads on from where it was in a log that is another one now."""

    async def look_back(self: Any, last: Any) -> None:
        """Trust the cursor."""

    put(StreamRelay, "_look_back", look_back)
    put(services.gateway.stream, "RUNNING", ())


MUTATIONS: dict[str, Callable[[Put], None]] = {
    mutation.__name__: mutation
    for mutation in (
        digest_not_checked,
        clip_acknowledged_before_it_is_durable,
        fence_forgotten,
        clip_done_before_it_is_labelled,
        everything_sent_at_once,
        repeated_clips_scored_again,
        device_ahead_not_rebased,
        announced_target_not_compared,
        cancellation_swallowed,
        lost_versions_not_noticed,
        ids_given_out_again_not_noticed,
    )
}
