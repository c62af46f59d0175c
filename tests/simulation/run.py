"""One seed from its beginning to its end: chaos, then quiet, then an orderly stop; and what came of it."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from dataclasses import dataclass, field

from services.trainer.publisher import MAX_ANSWERS
from tests.simulation.chaos import Chaos
from tests.simulation.expectations import check_bounds, unsettled
from tests.simulation.loop import LivelockError
from tests.simulation.stand_ins import installed
from tests.simulation.world import World

CHAOS_S = 120.0
FILMING_S = 45.0
"""How long the cameras go on after the faults have ended: the system must learn again in this time."""

SETTLING_S = 900.0
"""Longer than anything that heals by itself needs: the longest is a lost credit, after 600 s."""

LOOK_EVERY_S = 5.0


@dataclass
class Outcome:
    """What one seed came to."""

    seed: int
    violations: list[str]
    lines: list[str]
    digest: str
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    settled_s: float = 0.0
    callbacks: int = 0

    @property
    def ok(self) -> bool:
        """True when nothing went wrong."""
        return not self.violations


def run_seed(seed: int, *, chaos_s: float = CHAOS_S) -> Outcome:
    """Run one seed. The same seed gives the same outcome, line by line."""
    world = World(seed)
    settled_s = 0.0
    with (
        world.diary.listening(),
        installed(world.loop, world.rngs.code, world.fails, connect=world.connect, take_over=world.take_over()),
    ):
        try:
            settled_s = world.loop.run_until_complete(_live(world, chaos_s))
        except LivelockError as error:
            world.diary.violation(f"livelock: {error}")
        finally:
            _clear(world)
    counts = world.ledger.counts
    return Outcome(
        seed, world.diary.violations, world.diary.lines, world.diary.digest, world.faults, counts, settled_s,
        world.loop.callbacks,
    )  # fmt: skip


async def _live(world: World, chaos_s: float) -> float:
    world.loop.on_second = lambda: check_bounds(world)
    chaos = Chaos(world)
    await world.begin()
    await chaos.run(chaos_s)
    await chaos.heal()
    world.diary.note("the faults have ended")
    ended_s = world.loop.now_s
    published = {device.sid: world.ledger.books[device.sid].published for device in world.devices}
    open_points: list[str] = []
    while world.loop.now_s < ended_s + SETTLING_S and not world.diary.violations:
        await asyncio.sleep(LOOK_EVERY_S)
        learnt = all(world.ledger.books[sid].published > before for sid, before in published.items())
        if world.loop.now_s > ended_s + FILMING_S and learnt:
            for device in world.devices:
                device.films = False
        call_technician(world)
        open_points = unsettled(world, published)
        if not open_points and not any(device.films for device in world.devices):
            break
    settled_s = world.loop.now_s - ended_s
    for point in open_points:
        world.diary.violation(f"not settled after {settled_s:.0f} s: {point}")
    world.diary.note(f"settled after {settled_s:.1f} s")
    for hosts in (world.devices, world.gateways, world.labelers, world.trainers):
        for host in hosts:
            await host.end()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()]
    if left:
        world.diary.violation(f"tasks are left: {[task.get_coro().__qualname__ for task in left]}")  # type: ignore[union-attr]
    return settled_s


def call_technician(world: World) -> None:
    """A device that refused too often gets no more until it connects again (docs/protocol.md): somebody comes."""
    for _, sid, session in world.workers():
        if session.publisher._in_a_row > MAX_ANSWERS:
            for connected in world.links:
                if f"{connected.link.device}/cam0" == sid and not connected.link.over:
                    world.diary.note(f"{sid} is left alone by its owner: the technician comes")
                    world.ledger.counts["devices that were left alone"] += 1
                    connected.link.cut()


def _clear(world: World) -> None:
    """Leave nothing behind that the interpreter would complain about."""
    world.diary.violations = list(world.diary.violations)
    for host in world.hosts:
        if host.process is not None:
            host.process.dying = True

    async def end_all() -> None:
        for _ in range(50):
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            if not others:
                break
            for task in others:
                task.cancel()
            await asyncio.sleep(0)

    if not world.loop.is_closed():
        world.loop.callbacks = 0
        world.loop.on_second = lambda: None
        world.loop.run_until_complete(end_all())
        world.loop.close()
    if world.seed % 50 == 0:
        gc.collect()
