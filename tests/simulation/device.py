"""A device: the agent's uplink, intake, slot and spool as they are, and a camera. A reboot leaves what the disk has."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ams.clock import ScaledClock
from ams.core.messages import Clip, FrameStamp, Rates, Stats, StreamWelcome
from ams.errors import BackendError
from edge_agent.backoff import Backoff
from edge_agent.counters import Counters
from edge_agent.model_slot import ModelSlot, Refusal, Running
from edge_agent.spool import Spool, SpooledClip
from edge_agent.uplink import Identity, Uplink
from tests.simulation.hosts import URL, Host
from tests.simulation.loop import Process
from tests.simulation.stand_ins import BAD, SIDE, Runtime

if TYPE_CHECKING:
    from tests.simulation.world import World

MAX_SPOOLED, MAX_SPOOL_BYTES = 12, 600_000


class DeviceHost(Host):
    """`edge_agent` with one camera; what a reboot leaves of it is the disk."""

    kind = "device"

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.sid = f"{name}/cam0"
        self.films = True
        self.kept: Running | None = None  # what the disk has of the model
        self.clips_made: list[str] = []
        self.slot: ModelSlot | None = None
        self.uplink: Uplink | None = None

    async def run(self, process: Process) -> None:
        world, rng = self.world, self.world.rngs.device
        bundle = world.bundle
        tried: list[bool] = []  # the model file itself always runs
        self.slot = slot = ModelSlot(bundle, lambda weights: Runtime(lambda kind: bool(tried) and world.fails(kind)))
        tried.append(True)
        if self.kept is not None:
            slot._current = self.kept
        self.kept = None
        self.spool = Spool(max_clips=MAX_SPOOLED, max_bytes=MAX_SPOOL_BYTES)
        self.counters = Counters()
        self.boot_id = f"boot-{process.name}"
        identity = Identity(
            URL, self.name, f"token of {self.name}", self.boot_id, "cam0", bundle.model_id, "h264",
            6 * bundle.layout.size + (64 << 10),
        )  # fmt: skip
        self.interval_s = 5.0
        clock = ScaledClock()
        uplink = self.uplink = Uplink(
            identity, slot, self.spool, self.counters, clock, on_welcome=self._welcomed, on_rates=self._rates,
            report=lambda: Stats(stream="cam0", sent_ns=clock.now_ns(), version=slot.current.version),
            backoff=Backoff(rng=rng),
        )  # fmt: skip
        acknowledged, apply = uplink.clips.acknowledged, slot.apply

        def heard(clip_id: str) -> None:
            world.ledger.acknowledged(self.sid, clip_id)
            acknowledged(clip_id)

        def applied(data: bytes, **options: Any) -> object:
            before = slot.current.version
            outcome = apply(data, **options)
            running = slot.current
            world.ledger.runs(self.sid, running.version, running.digest, running.weights)
            if running.version < before:
                world.diary.violation(f"{self.sid}: a patch led from version {before} back to {running.version}")
            return outcome

        uplink.clips.acknowledged = heard  # type: ignore[method-assign]
        slot.apply = applied  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as group:
            group.create_task(uplink.run())
            group.create_task(self._film(clock))

    def _welcomed(self, welcome: StreamWelcome) -> None:
        """Limits are larger than our clips."""

    def _rates(self, rates: Rates) -> None:
        self.interval_s = rates.clip_interval_s

    async def _film(self, clock: ScaledClock) -> None:
        """The camera, the inference thread and the encoder: frames with the version that ran, clips for the spool."""
        rng, seq = self.world.rngs.device, 0
        stamps: list[FrameStamp] = []
        await asyncio.sleep(rng.uniform(0.1, 3))
        while True:
            await asyncio.sleep(1.2)
            stamps.append(FrameStamp(seq=seq, t_ns=clock.now_ns(), version=self._infer()))
            seq += 1
            if (stamps[-1].t_ns - stamps[0].t_ns) / 1e9 < self.interval_s - 1.2 and len(stamps) < 12:
                continue
            taken, stamps = tuple(stamps), []
            if not self.films:
                continue
            size = rng.choice((500, 2000, 2000, 8000, 90_000))
            start = BAD if self.world.fails("bad_clip") else b""
            header = Clip(
                stream="cam0", clip_id=f"{rng.getrandbits(128):032x}", model_id=self.world.bundle.model_id, width=SIDE,
                height=SIDE, boot_id=self.boot_id, sent_ns=clock.now_ns(), frames=taken,
            )  # fmt: skip
            self.clips_made.append(header.clip_id)
            assert self.uplink is not None
            self.uplink.clips.offer(SpooledClip(header, start + rng.randbytes(size)))

    def _infer(self) -> int:
        """As `Agent._predict`: a version that fails gives way to the one before it."""
        assert self.slot is not None
        assert self.uplink is not None
        running = self.slot.current
        try:
            running.runtime.predict(np.zeros((1, 1, 3), np.uint8))
        except BackendError as error:
            if self.slot.roll_back():
                before = self.slot.current
                self.world.diary.note(f"version {running.version} failed, back to {before.version}")
                outcome = Refusal("backend", str(error), before.version, before.digest)
                self.uplink.patches.report_reverted(running.version, outcome)
                return before.version
        return running.version

    async def stop(self) -> None:
        assert self.main is not None
        self.main.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([self.main], timeout=5)

    async def reboot(self, *, keeps_model: bool) -> None:
        """Power off; the model is on disk, or not."""
        kept = self.slot.current if keeps_model and self.running and self.slot is not None else None
        await self.crash(silently=True)
        self.kept = kept
