"""A world: the hosts, network, broker and clocks of one seed. What must hold in it is in `expectations`."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

import services.trainer.worker
from tests.simulation.broker import Storage
from tests.simulation.device import DeviceHost
from tests.simulation.diary import Diary
from tests.simulation.hosts import GatewayHost, Host, LabelerHost, TrainerHost
from tests.simulation.ledger import Ledger
from tests.simulation.link import AgentSocket, GatewaySocket, Link, Weather
from tests.simulation.loop import PROCESS, Process, VirtualLoop
from tests.simulation.stand_ins import STUDENTS, TEACHER

REMEMBERED_FRAMES = 64
"""Messages that a confused peer may say again."""

PATCH_START = b'{"type":"patch"'
REPLAYED = tuple(b'{"type":"%s"' % kind for kind in b"patch ack nack refused stats rates clip".split())


class Rngs:
    """One stream of randomness per concern, so that a change in one leaves the others as they were."""

    def __init__(self, seed: int) -> None:
        def stream(name: str) -> random.Random:
            return random.Random(f"{seed} {name}")

        self.loop, self.network, self.broker = stream("loop"), stream("network"), stream("broker")
        self.chaos, self.host, self.device = stream("chaos"), stream("host"), stream("device")
        self.code, self.failures = stream("code"), stream("failures")


@dataclass
class Connected:
    """A link and who is on it."""

    link: Link
    agent: Process
    gateway: Process


class World:
    """Everything of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rngs = Rngs(seed)
        self.loop = VirtualLoop(self.rngs.loop)
        self.diary = Diary(self.loop)
        shape = random.Random(f"{seed} shape")
        self.bundle = STUDENTS[shape.random() < 0.1]
        self.ledger = Ledger(self.bundle, self.diary.violation)
        self.storage = Storage(self.loop, self.ledger, self.rngs.broker, self.diary.note)
        self.storage.broker.clips(TEACHER.model_id)
        self.storage.fence_of = lambda sid: self._owned(sid)[0]
        self.storage.fence_now = lambda sid: self._owned(sid)[1].publisher.fence
        self.faults: Counter[str] = Counter()
        self.failing: dict[str, float] = {}  # kind of failure: how often
        self.corruption = 0.0
        self.http_errors = 0.0
        self.links: list[Connected] = []
        self.said: dict[str, deque[bytes]] = {}
        self.owners: dict[tuple[str, str], tuple[int, Any]] = {}  # (process, session): fence of takeover, session
        self.devices = [DeviceHost(self, f"cam{n}") for n in range(shape.choice((1, 1, 2)))]
        self.gateways = [GatewayHost(self, f"gateway{n}") for n in range(shape.choice((1, 2)))]
        self.labelers = [LabelerHost(self, f"labeler{n}") for n in range(shape.choice((1, 1, 2)))]
        self.trainers = [TrainerHost(self, f"trainer{n}") for n in range(shape.choice((1, 2, 2)))]
        self.weather = {device.name: Weather() for device in self.devices}

    @property
    def hosts(self) -> list[Host]:
        """All machines."""
        return [*self.devices, *self.gateways, *self.labelers, *self.trainers]

    async def begin(self) -> None:
        """Enrol the devices and start everything."""
        for device in self.devices:
            token_hash = hashlib.sha256(f"token of {device.name}".encode()).hexdigest()
            await self.storage.broker.devices.enrol(device.name, token_hash)
        for host in self.hosts:
            host.start()

    def new_process(self, name: str) -> Process:
        """A process on a machine whose clocks are its own."""
        rng = self.rngs.host
        return Process(
            self.loop, name, offset_s=rng.uniform(0, 1e5), rate=1 + rng.choice((0.0, 1e-5, -1e-5, 3e-4, -3e-4)),
            wall_offset_s=rng.choice((0.0, 0.5, -3.0, 20.0, -20.0)),
        )  # fmt: skip

    # -- failures that the stand-ins ask for -------------------------------------------------------------------

    def fails(self, kind: str) -> bool:
        """Whether something fails now."""
        share = self.failing.get(kind, 0.0)
        if not share or self.rngs.failures.random() >= share:
            return False
        self.faults[kind] += 1
        self.diary.note(f"fault: {kind}")
        return True

    # -- the network -------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def connect(self, url: str, **options: Any) -> AsyncIterator[AgentSocket]:
        """`websockets.asyncio.client.connect`: a socket to one of the gateways."""
        agent = PROCESS.get()
        assert agent is not None
        device, rng = agent.name.partition(".")[0], self.rngs.network
        weather = self.weather[device]
        await asyncio.sleep(weather.latency_s * rng.uniform(2, 4))
        if not weather.online:
            await asyncio.sleep(options["open_timeout"] if weather.hangs else 0.0)
            raise TimeoutError("timed out during opening handshake") if weather.hangs else OSError("no route")
        up = [gateway for gateway in self.gateways if gateway.running and hasattr(gateway, "service")]
        if not up:
            raise ConnectionRefusedError("connection refused")
        if self.http_errors and rng.random() < self.http_errors:
            self.faults["http_error"] += 1
            raise InvalidStatus(Response(rng.choice((502, 503, 404)), "", Headers()))
        gateway = rng.choice(up)
        assert gateway.process is not None
        link = Link(self.loop, weather, rng, self._tap, device)
        connected = Connected(link, agent, gateway.process)
        self.links = [*(c for c in self.links if not c.link.over), connected]
        gateway.process.spawn(gateway.service.serve(GatewaySocket(link)))
        self.diary.note(f"connects to {gateway.process.name}")
        socket = AgentSocket(link)
        try:
            yield socket
        finally:
            await socket.close()

    def sever(self, process: Process, *, silently: bool) -> None:
        """A process is gone: its connections are reset, or, with its machine, fall silent."""
        for connected in self.links:
            if process in (connected.agent, connected.gateway) and not connected.link.over:
                connected.link.cut(agent_notices=not silently, gateway_notices=not silently)

    def _tap(self, device: str, way: str, data: bytes) -> bytes:
        """Remember what was said; spoil a patch now and then."""
        if data[6:].startswith(REPLAYED):
            said = self.said.setdefault(f"{way} {device}", deque(maxlen=REMEMBERED_FRAMES))
            said.append(data)
        spoils = way == "down" and (data[6:].startswith(PATCH_START) or b'{"type":"part"' in data[6:21])
        if spoils and self.corruption and self.rngs.network.random() < self.corruption:
            self.faults["corrupt_patch"] += 1
            header_end = 6 + int.from_bytes(data[4:6], "little")
            place = self.damaged_byte(header_end, len(data))
            self.diary.note(f"fault: corrupt_patch, byte {place} of {len(data)}")
            return data[:place] + bytes([data[place] ^ (1 << self.rngs.network.randrange(8))]) + data[place + 1 :]
        return data

    def damaged_byte(self, start: int, end: int) -> int:
        """Which byte of a payload is spoilt."""
        return self.rngs.network.randrange(start, end)

    # -- the sessions that trainers own ------------------------------------------------------------------------

    def take_over(self) -> Any:
        """`services.trainer.ownership.take_over`, which notes the session that it makes."""
        real = services.trainer.worker.take_over

        async def noting(broker: Any, lease: Any, *rest: Any) -> Any:
            session, cursors = await real(broker, lease, *rest)
            process = PROCESS.get()
            assert process is not None
            self.owners[process.name, lease.sid] = lease.fence, session
            publish = session.publisher.publish

            def counted(delta: Any) -> Any:
                entry = publish(delta)
                history = session.history
                waiting = [version for version in history._steps if version > history.acknowledged]
                self.ledger.decided(lease.sid, len(waiting))
                return entry

            session.publisher.publish = counted
            return session, cursors

        return noting

    def _owned(self, sid: str) -> tuple[int, Any]:
        process = PROCESS.get()
        assert process is not None
        return self.owners[process.name, sid]

    def workers(self) -> list[tuple[Process, str, Any]]:
        """Process, session id and session of every worker that lives."""
        found = []
        for trainer in self.trainers:
            if trainer.running and hasattr(trainer, "service"):
                assert trainer.process is not None
                for sid in trainer.service._workers:
                    owned = self.owners.get((trainer.process.name, sid))
                    if owned is not None:
                        found.append((trainer.process, sid, owned[1]))
        return found
