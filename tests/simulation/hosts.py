"""The hosts: machines that run one of the programs, crash, and are started again. Devices have a file of their own.

The programs are the real ones. What a host adds is what a supervisor does: start, stop, start again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from ams.clock import ScaledClock
from ams.errors import AmsError
from services.gateway.config import GatewaySettings
from services.gateway.metrics import GatewayMetrics
from services.gateway.service import GatewayService
from services.labeler.config import LabelerSettings
from services.labeler.metrics import LabelerMetrics
from services.labeler.service import LabelerService
from services.trainer.config import TrainerSettings
from services.trainer.metrics import TrainerMetrics
from services.trainer.service import TrainerService
from tests.simulation.loop import Process, SimTask
from tests.simulation.stand_ins import TEACHER, StillTeacher, Store

if TYPE_CHECKING:
    from tests.simulation.world import World

CREDIT = 4
URL = "memory://simulation"


class Host:
    """A machine with one program on it."""

    kind = ""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.process: Process | None = None
        self.main: SimTask | None = None
        self.incarnation = 0
        self.ending = False

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and not self.process.dying

    def start(self) -> None:
        """Start the program."""
        assert not self.running
        self.incarnation += 1
        self.process = self.world.new_process(f"{self.name}.{self.incarnation}")
        self.world.diary.note(f"{self.process.name} starts")
        self.main = self.process.spawn(self._main(self.process))

    async def _main(self, process: Process) -> None:
        try:
            await self.run(process)
        except AmsError as error:  # a labeler whose teacher is broken
            self.world.diary.note(f"ended: {error}")
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not process.dying:
                self.world.diary.violation(f"{process.name} ended with {error!r}")

    async def run(self, process: Process) -> None:
        """The program."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Ask the program to stop, as SIGTERM does."""
        raise NotImplementedError

    async def crash(self, *, silently: bool) -> None:
        """The machine (`silently`) or the process dies."""
        process, self.process = self.process, None
        if process is None:
            return
        self.world.diary.note(f"{process.name} dies")
        process.dying = True
        self.world.sever(process, silently=silently)
        if not await process.bury():
            names = [task.get_coro().__qualname__ for task in process.living_tasks()]  # type: ignore[union-attr]
            self.world.diary.violation(f"{process.name} does not end when it is cancelled: {names}")

    async def end(self, deadline_s: float = 60.0) -> None:
        """Stop in an orderly way, and see that nothing of it is left."""
        if not self.running:
            return
        process, main = self.process, self.main
        assert process is not None
        assert main is not None
        self.ending = True
        await self.stop()
        await asyncio.wait([main], timeout=deadline_s)
        for _ in range(20):
            await asyncio.sleep(0.5)
            if not process.living_tasks():
                break
        for task in process.living_tasks():
            self.world.diary.violation(f"{process.name} leaves a task behind: {task.get_coro().__qualname__}")  # type: ignore[union-attr]
        self.ending = False
        await self.crash(silently=False)


class GatewayHost(Host):
    """`services.gateway`."""

    kind = "gateway"

    async def run(self, process: Process) -> None:
        settings = GatewaySettings(
            broker_url=URL, teacher=TEACHER.model_id, name=process.name, credit=CREDIT, credit_retry_s=3.0, sweep_s=4.0,
            clip_interval_s=5.0, max_clip_bytes=1 << 18,
        )  # fmt: skip
        self.service = GatewayService(self.world.storage.ports(process), settings, GatewayMetrics())
        self.service._open = _Ordered()  # type: ignore[assignment]
        await self.service.run()

    async def stop(self) -> None:
        process, main = self.process, self.main
        assert process is not None
        assert main is not None

        async def drain() -> None:
            await self.service.drain()
            main.cancel()

        process.spawn(drain())
        await asyncio.wait([main], timeout=30)


class _Ordered(dict):  # type: ignore[type-arg]
    """A set in order of insertion: the order in which connections are drained does not depend on addresses."""

    def add(self, item: object) -> None:
        self[item] = None

    def discard(self, item: object) -> None:
        self.pop(item, None)


class LabelerHost(Host):
    """`services.labeler`."""

    kind = "labeler"

    async def run(self, process: Process) -> None:
        ports = self.world.storage.ports(process)
        settings = LabelerSettings(
            broker_url=URL, models_dir=Path(), teacher="teacher", name=process.name, reclaim_idle_s=12.0, stop_s=5.0,
            batch=4,
        )  # fmt: skip
        self.service = LabelerService(
            ports, Store(self.world.bundle), StillTeacher(self.world.fails), ports.clips(TEACHER.model_id), settings,  # type: ignore[arg-type]
            LabelerMetrics(),
        )  # fmt: skip
        await self.service.run()

    async def stop(self) -> None:
        self.service.stop()


class TrainerHost(Host):
    """`services.trainer`."""

    kind = "trainer"

    async def run(self, process: Process) -> None:
        keeps_name = self.world.rngs.host.random() < 0.3  # as a pod of a StatefulSet does
        settings = TrainerSettings(
            broker_url=URL, models_dir=Path(), name=self.name if keeps_name else process.name, steps=2, batch=2,
            training_interval_s=6.0, gate_margin=-1.0, lease_ttl_real_s=6.0, sweep_real_s=3.0, horizon_s=60.0,
            adapt_rates=False,
        )  # fmt: skip
        ports = self.world.storage.ports(process)
        self.service = TrainerService(
            ports,
            Store(self.world.bundle),
            ScaledClock(),
            settings,
            TrainerMetrics(),  # type: ignore[arg-type]
        )
        await self.service.run()

    async def stop(self) -> None:
        self.service.stop()
