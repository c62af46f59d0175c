"""The faults: which kinds a seed suffers, when, and how they end.

Each seed draws its own subset of kinds and its own pace (swarm testing: a seed with few kinds goes deep where one
with all of them goes wide). `Chaos.run` lasts until its time is over; `heal` puts everything right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ams.core.envelope import ENVELOPE_VERSION, MAGIC, PREFIX, encode
from ams.core.messages import Hello, StreamHello
from tests.simulation.hosts import Host
from tests.simulation.link import AgentSocket, GatewaySocket, Link
from tests.simulation.world import Connected, World

FAILURES = (
    "canary_fails", "backend_fails", "runtime_fails", "phase_fails", "phase_learns_nothing", "teacher_fails",
    "teacher_broken", "bad_clip",
)  # fmt: skip

UNKNOWN = PREFIX.pack(MAGIC, ENVELOPE_VERSION, 24) + b'{"type":"from_tomorrow"}'
GARBAGE = PREFIX.pack(MAGIC, ENVELOPE_VERSION, 5) + b"nonsense"


class Chaos:
    """The faults of one seed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = rng = world.rngs.chaos
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            name.removeprefix("_fault_"): getattr(self, name) for name in dir(self) if name.startswith("_fault_")
        }
        chosen = [kind for kind in sorted(kinds) if rng.random() < 0.45] or ["cut"]
        self._kinds = {kind: kinds[kind] for kind in chosen}
        self._pace_s = rng.choice((2.0, 5.0, 10.0))
        self._going_on: list[asyncio.Task[None]] = []
        for kind in FAILURES:
            if rng.random() < 0.25:
                world.failing[kind] = rng.choice((0.02, 0.1, 0.3))
        world.failing["teacher_broken"] = min(world.failing.get("teacher_broken", 0.0), 0.1)
        world.failing["runtime_fails"] = min(world.failing.get("runtime_fails", 0.0), 0.05)
        world.corruption = rng.choice((0.0, 0.0, 0.05, 0.3))
        world.http_errors = rng.choice((0.0, 0.0, 0.0, 0.2))
        world.storage.troubles.lost_answers = rng.choice((0.0, 0.0, 0.01, 0.05))
        world.storage.troubles.lost_rings = rng.choice((0.0, 0.2, 1.0))
        world.storage.troubles.slow_s = rng.choice((0.0, 0.0, 0.3, 2.0))

    async def run(self, for_s: float) -> None:
        """Suffer for so many seconds."""
        world, rng = self._world, self._rng
        end_s = world.loop.now_s + for_s
        self._begin(self._supervise())
        if "broker_failover" in self._kinds:
            self._begin(self._replicate())
        while True:
            wait_s = rng.expovariate(1 / self._pace_s)
            if world.loop.now_s + wait_s >= end_s:
                await asyncio.sleep(max(0.0, end_s - world.loop.now_s))
                return
            await asyncio.sleep(wait_s)
            kind = rng.choice(list(self._kinds))
            world.diary.note(f"fault: {kind}")
            world.faults[kind] += 1
            await self._kinds[kind]()

    async def heal(self) -> None:
        """The faults end: everything is put right, and nothing bad begins any more."""
        world = self._world
        for task in self._going_on:
            task.cancel()
        await asyncio.gather(*self._going_on, return_exceptions=True)
        world.failing.clear()
        world.corruption = world.http_errors = 0.0
        troubles = world.storage.troubles
        troubles.lost_answers = troubles.lost_rings = troubles.slow_s = 0.0
        world.storage.cut_off.clear()
        if world.storage.away:
            world.storage.come_back()
        for weather in world.weather.values():
            weather.online, weather.stalled_until_s, weather.bytes_per_s, weather.latency_s = True, 0.0, 1e6, 0.02
        for host in world.hosts:
            if host.process is not None and host.process.paused:
                host.process.resume()
        await self._restart_all()

    # -- how things go on --------------------------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._going_on = [task for task in self._going_on if not task.done()]
        self._going_on.append(asyncio.get_running_loop().create_task(work))

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay_s)
            act()

        self._begin(wait())

    async def _supervise(self) -> None:
        """Start again what has ended by itself."""
        while True:
            await asyncio.sleep(3)
            await self._restart_all(only_ended=True)

    async def _restart_all(self, *, only_ended: bool = False) -> None:
        for host in self._world.hosts:
            if host.ending:
                continue
            if host.running and host.main is not None and host.main.done():
                await host.crash(silently=False)
                host.start()
            elif not host.running and not only_ended:
                host.start()

    async def _replicate(self) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(0.2, 4))
            self._world.storage.keep_copy()

    def _a_host(self, hosts: list[Any]) -> Host | None:
        running = [host for host in hosts if host.running and not host.ending]
        return self._rng.choice(running) if running else None

    def _a_link(self) -> Connected | None:
        alive = [connected for connected in self._world.links if not connected.link.over]
        return self._rng.choice(alive) if alive else None

    async def _die(self, hosts: list[Any], *, orderly: bool = False) -> None:
        host = self._a_host(hosts)
        if host is None:
            return
        if orderly:
            await host.end()
        else:
            await host.crash(silently=self._rng.random() < 0.5)
        self._later(self._rng.choice((0.1, 2.0, 20.0)), lambda: None if host.running else host.start())

    # -- the network -------------------------------------------------------------------------------------------

    async def _fault_cut(self) -> None:
        if connected := self._a_link():
            connected.link.cut()

    async def _fault_half_open(self) -> None:
        if connected := self._a_link():
            noticed = self._rng.choice(((False, False), (True, False), (False, True)))
            connected.link.cut(agent_notices=noticed[0], gateway_notices=noticed[1])

    async def _fault_offline(self) -> None:
        name = self._rng.choice(sorted(self._world.weather))
        weather = self._world.weather[name]
        weather.online, weather.hangs = False, self._rng.random() < 0.5
        for connected in self._world.links:
            if connected.link.device == name and not connected.link.over:
                connected.link.cut(agent_notices=self._rng.random() < 0.5, gateway_notices=self._rng.random() < 0.5)
        self._later(self._rng.choice((5.0, 30.0, 90.0)), lambda: setattr(weather, "online", True))

    async def _fault_slow_link(self) -> None:
        weather = self._world.weather[self._rng.choice(sorted(self._world.weather))]
        weather.bytes_per_s = self._rng.choice((8e3, 25e3, 1e5))
        weather.latency_s = self._rng.choice((0.02, 0.3, 2.0))

        def better() -> None:
            weather.bytes_per_s, weather.latency_s = 1e6, 0.02

        self._later(self._rng.choice((10.0, 60.0)), better)

    async def _fault_stall(self) -> None:
        weather = self._world.weather[self._rng.choice(sorted(self._world.weather))]
        weather.stalled_until_s = self._world.loop.now_s + self._rng.choice((1.0, 10.0, 40.0))

    # -- a confused or hostile peer ----------------------------------------------------------------------------

    async def _fault_replay(self) -> None:
        """An old message comes again: patches, answers, clips, in either direction."""
        connected = self._a_link()
        if connected is None:
            return
        way = self._rng.choice(("up", "down", "down"))
        said = list(self._world.said.get(f"{way} {connected.link.device}", ()))
        for _ in range(self._rng.choice((1, 1, 4))):
            if said:
                connected.link.inject(way, self._rng.choice(said))

    async def _fault_strange_message(self) -> None:
        if connected := self._a_link():
            data = self._rng.choice((UNKNOWN, UNKNOWN, encode(self._hello(0, "0" * 64)), GARBAGE))
            connected.link.inject(self._rng.choice(("up", "down")), data)

    async def _fault_twin(self) -> None:
        """Somebody else connects as the device, claims to run something else, and goes."""
        world, rng = self._world, self._rng
        device, gateway = rng.choice(world.devices), self._a_host(world.gateways)
        if gateway is None or gateway.process is None or not hasattr(gateway, "service") or not device.running:
            return
        assert device.process is not None
        link = Link(world.loop, world.weather[device.name], world.rngs.network, _untouched, device.name)
        gateway.process.spawn(gateway.service.serve(GatewaySocket(link)))
        newest = world.ledger.books[device.sid].newest
        claim = rng.choice((0, max(0, newest - 1), newest, newest + 3))
        socket = AgentSocket(link)
        await socket.send(encode(self._hello(claim, f"{rng.getrandbits(256):064x}", device.name)))

        async def stay() -> None:
            await asyncio.sleep(rng.choice((0.5, 5.0)))
            link.cut()

        self._begin(stay())

    def _hello(self, version: int, digest: str, device: str = "cam0") -> Hello:
        stream = StreamHello(name="cam0", model_id=self._world.bundle.model_id, version=version, digest=digest)
        return Hello(device=device, token=f"token of {device}", boot_id="twin", sent_ns=1, streams=(stream,))

    # -- processes ---------------------------------------------------------------------------------------------

    async def _fault_gateway_crash(self) -> None:
        await self._die(self._world.gateways)

    async def _fault_labeler_crash(self) -> None:
        await self._die(self._world.labelers)

    async def _fault_trainer_crash(self) -> None:
        await self._die(self._world.trainers)

    async def _fault_gateway_restart(self) -> None:
        await self._die(self._world.gateways, orderly=True)

    async def _fault_labeler_restart(self) -> None:
        await self._die(self._world.labelers, orderly=True)

    async def _fault_trainer_restart(self) -> None:
        await self._die(self._world.trainers, orderly=True)

    async def _fault_reboot(self) -> None:
        device = self._rng.choice(self._world.devices)
        if device.running:
            await device.reboot(keeps_model=False)
            self._later(self._rng.choice((1.0, 15.0)), lambda: None if device.running else device.start())

    async def _fault_agent_restart_keeping_model(self) -> None:
        device = self._rng.choice(self._world.devices)
        if device.running:
            await device.reboot(keeps_model=True)
            self._later(self._rng.choice((1.0, 15.0)), lambda: None if device.running else device.start())

    async def _fault_pause(self) -> None:
        host = self._a_host(self._world.hosts)
        if host is None or host.process is None or host.process.paused:
            return
        process = host.process
        process.paused = True
        self._later(self._rng.choice((1.0, 8.0, 40.0)), lambda: process.resume() if process.paused else None)

    async def _fault_clock_jump(self) -> None:
        host = self._a_host(self._world.hosts)
        if host is not None and host.process is not None:
            host.process.wall_offset_s = self._rng.choice((0.0, 10.0, -10.0, 25.0, -25.0))

    # -- the broker --------------------------------------------------------------------------------------------

    async def _fault_broker_away(self) -> None:
        storage = self._world.storage
        if not storage.away:
            storage.go_away()
            self._later(self._rng.choice((0.5, 5.0, 30.0)), lambda: storage.come_back() if storage.away else None)

    async def _fault_partition(self) -> None:
        host = self._a_host([*self._world.gateways, *self._world.labelers, *self._world.trainers])
        if host is None or host.process is None:
            return
        name, cut_off = host.process.name, self._world.storage.cut_off
        cut_off.add(name)
        self._later(self._rng.choice((1.0, 8.0, 30.0)), lambda: cut_off.discard(name))

    async def _fault_broker_failover(self) -> None:
        storage = self._world.storage
        if storage.fail_over():
            self._world.diary.note("the broker lost what was newest")
            if self._rng.random() < 0.5 and not storage.away:
                storage.go_away()
                self._later(self._rng.choice((0.5, 4.0)), lambda: storage.come_back() if storage.away else None)

    async def _fault_log_tail_lost(self) -> None:
        """The slot of one session fails over: its patch log has lost what was newest, and gives the ids out again."""
        self._world.storage.lose_tail(self._rng.choice(self._world.devices).sid, self._rng.choice((1, 1, 2, 3)))

    async def _fault_broker_wiped(self) -> None:
        if self._rng.random() < 0.3:
            self._world.storage.forget_everything()
            self._world.diary.note("the broker came back empty")

    async def _fault_lease_stolen(self) -> None:
        """A lease ends early, so two trainers take the session for theirs."""
        self._world.storage.drop_lease(self._rng.choice(self._world.devices).sid)


def _untouched(device: str, way: str, data: bytes) -> bytes:
    return data
