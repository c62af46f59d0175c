"""The processes of `ams demo`: on a Redis one each, without one all services in one; the agent is always its own.

Knows how they are wired; what is shown and when it ends is `demo`'s.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ams.cli.children import Child, Children
from ams.cli.devices import hash_of
from ams.ports import Broker

READY_S = 120.0
"""Real seconds that a process may take to start; importing torch on a busy machine takes many."""

STREAM = "cam0"
BUSY_NICE = 10
LABELER_NICE = 5
"""The camera comes first: what labels and trains yields to it where cores are few."""


@dataclass(frozen=True)
class DemoPlan:
    """What `ams demo` was asked for, with everything looked up. `redis_url` "" means the embedded broker."""

    source: str
    source_name: str
    redis_url: str
    broker_name: str
    models_dir: Path
    student_id: str
    teacher_id: str
    host: str
    port: int
    threads: int
    trainer: dict[str, Any]
    device: str = field(default_factory=lambda: f"demo-{secrets.token_hex(4)}")
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def sid(self) -> str:
        """The session's id."""
        return f"{self.device}/{STREAM}"


@dataclass(frozen=True)
class DemoSystem:
    """The running processes: the agent, and the port that the page is shown on."""

    agent: Child
    page_port: int


def start(plan: DemoPlan, children: Children, stopped: Callable[[], bool]) -> DemoSystem | None:
    """Start everything and wait until it works; None once `stopped`. Raises ChildError with the end of a log."""
    preview = f"127.0.0.1:{_free_port()}"
    page = {
        "broker_name": plan.broker_name, "source_name": plan.source_name, "models_dir": plan.models_dir,
        "student": plan.student_id, "teacher": plan.teacher_id, "device": plan.device, "stream": STREAM,
        "preview_url": f"ws://{preview}", "host": plan.host, "port": plan.port,
    }  # fmt: skip
    ports = _start_services(plan, children, page, stopped) if plan.redis_url else _start_embedded(
        plan, children, page, stopped
    )  # fmt: skip
    if ports is None:
        return None
    gateway_port, page_port = ports
    agent = children.start(
        "agent", "edge_agent",
        {
            "server_url": f"ws://127.0.0.1:{gateway_port}/v1/device", "device": plan.device, "stream": STREAM,
            "model": plan.models_dir / plan.student_id, "source": plan.source, "threads": plan.threads,
            "preview": preview,
        },
        threads=plan.threads, environment={"AMS_EDGE_TOKEN": plan.token},
    )  # fmt: skip
    return DemoSystem(agent, page_port)


def _start_embedded(
    plan: DemoPlan, children: Children, page: dict[str, Any], stopped: Callable[[], bool]
) -> tuple[int, int] | None:
    services = children.start(
        "services", "ams.demo.embedded",
        {**page, "token_hash": hash_of(plan.token), "teacher_threads": plan.threads,
         "trainer_options": json.dumps({**plan.trainer, "threads": plan.threads})},
        threads=plan.threads, nice=BUSY_NICE,
    )  # fmt: skip
    ready = services.wait_ready(READY_S, stopped)
    return None if stopped() else (ready["port"], ready["page_port"])


def _start_services(
    plan: DemoPlan, children: Children, page: dict[str, Any], stopped: Callable[[], bool]
) -> tuple[int, int] | None:
    common, models = {"broker_url": plan.redis_url}, {"models_dir": plan.models_dir}
    gateway = children.start(
        "gateway", "services.gateway", {**common, "teacher": plan.teacher_id, "port": 0}, threads=1
    )
    labeler = children.start(
        "labeler", "services.labeler",
        {**common, **models, "teacher": plan.teacher_id, "threads": plan.threads}, threads=plan.threads,
        nice=LABELER_NICE,
    )  # fmt: skip
    trainer = children.start(
        "trainer", "services.trainer", {**common, **models, **plan.trainer, "threads": plan.threads},
        threads=plan.threads, nice=BUSY_NICE,
    )  # fmt: skip
    shown = children.start("page", "ams.demo", {**common, **page}, threads=1, nice=LABELER_NICE)
    ready = [child.wait_ready(READY_S, stopped) for child in (shown, gateway, labeler, trainer)]
    return None if stopped() else (ready[1]["port"], ready[0]["port"])


async def enrol(plan: DemoPlan, broker: Broker) -> None:
    """Let the agent in; on the embedded broker its process does so itself."""
    await broker.devices.enrol(plan.device, hash_of(plan.token))


def describe_redis(executable: Path) -> str:
    """What the page says of a Redis server that we start."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
        said = subprocess.run([str(executable), "--version"], capture_output=True, text=True, timeout=5, check=True)
        version = said.stdout.split("v=")[1].split()[0]
        name = "Valkey" if "valkey" in said.stdout.lower() else "Redis"
        return f"{name} {version}, one process for each service"
    return f"{executable.name}, one process for each service"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
