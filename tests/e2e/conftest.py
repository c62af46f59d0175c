"""The system under test: real processes, a real Redis, a film with exact labels and two tiny networks."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ams.broker import connect
from ams.broker.server import RedisServer
from ams.cli.children import Child, Children
from ams.models.bundle import ModelBundle
from ams.models.store import DirectoryStore
from ams.ports import Broker
from ams.run_record import RunRecord
from tests.blocks import networks
from tests.blocks.films import film
from tests.blocks.street import BlockStreet

FILM_S = 50.0


@dataclass(frozen=True)
class World:
    """A film at dusk, a teacher that is right, a student that has only seen the day."""

    film: Path
    store: DirectoryStore
    teacher: ModelBundle
    student: ModelBundle


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("world")
    street = BlockStreet(light="dusk", seed=3)
    store = DirectoryStore(directory / "models")
    teacher, student = networks.teacher(directory, street), networks.student(directory, street)
    store.put(teacher)
    store.put(student)
    return World(film(directory / "dusk.mp4", street, seconds=FILM_S), store, teacher, student)


@dataclass
class System:
    """Services on one Redis, started and killed one by one."""

    world: World
    redis: RedisServer
    children: Children
    log_dir: Path
    device: str = field(default_factory=lambda: f"test-{secrets.token_hex(3)}")
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    speed: float = 2.0

    @property
    def sid(self) -> str:
        return f"{self.device}/cam0"

    def gateway(self, name: str = "gateway", port: int = 0) -> tuple[Child, int]:
        options = {"broker_url": self.redis.url, "teacher": self.world.teacher.model_id, "port": port}
        child = self.children.start(name, "services.gateway", options, threads=1)
        return child, child.wait_ready(60)["port"]

    def labeler(self, name: str = "labeler") -> Child:
        options = {
            "broker_url": self.redis.url,
            "models_dir": self.world.store.root,
            "teacher": self.world.teacher.model_id,
            "reclaim_idle_s": 3,
        }
        return self.children.start(name, "services.labeler", options, threads=1)

    def trainer(self, name: str = "trainer", **more: Any) -> Child:
        options = {
            "broker_url": self.redis.url,
            "models_dir": self.world.store.root,
            "speed": self.speed,
            "training_interval_s": 5,
            "batch": 4,
            "selection": "gradient",
            "coordinate_fraction": 0.3,
            "learning_rate": 3e-3,
            "lease_ttl_real_s": 2,
            "adapt_rates": False,  # one frame a second to the end, so that a lost one shows
            **more,
        }
        return self.children.start(name, "services.trainer", options, threads=1)

    def agent(self, port: int, name: str = "agent", source: Path | None = None, **more: Any) -> Child:
        options = {
            "server_url": f"ws://127.0.0.1:{port}/v1/device",
            "device": self.device,
            "model": self.world.store.root / self.world.student.model_id,
            "source": source or self.world.film,
            "speed": self.speed,
            **more,
        }
        environment = {"AMS_EDGE_TOKEN": self.token}
        return self.children.start(name, "edge_agent", options, threads=1, environment=environment)

    async def enrol(self) -> None:
        broker = connect(self.redis.url)
        await broker.devices.enrol(self.device, hashlib.sha256(self.token.encode()).hexdigest())
        await broker.connection.close()

    async def until(self, what: str, done: Callable[[RunRecord], bool], deadline_s: float) -> RunRecord:
        """Watch the session until `done`, with a deadline in real seconds."""
        broker: Broker = connect(self.redis.url)
        record = RunRecord(broker, self.sid)
        try:
            async with asyncio.timeout(deadline_s):
                while not done(record):
                    await record.refresh()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            logs = "\n".join(f"--- {c.name}\n" + c.log_path.read_text()[-1500:] for c in self.children.all)
            pytest.fail(f"not within {deadline_s} s: {what}; {record.line()}\n{logs}")
        finally:
            await broker.connection.close()
        return record


async def finished(agent: Child, deadline_s: float) -> dict[str, Any]:
    """The agent's closing figures, once its film has ended."""
    async with asyncio.timeout(deadline_s):
        while agent.returncode is None:
            await asyncio.sleep(0.1)
    assert agent.returncode == 0, agent.failure("failed")
    return next(m for m in reversed(agent.messages) if "frames" in m)


Wait = Callable[[Child, float], Awaitable[dict[str, Any]]]


@pytest.fixture
def system(world: World, tmp_path: Path) -> Iterator[System]:
    logs = tmp_path / "logs"
    logs.mkdir()
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis", appendonly=True) as redis, Children(logs) as children:
        yield System(world, redis, children, logs)
