"""`ams run`: the whole system on one video, as separate processes, on this machine.

Starts gateway, labeler, trainer and one agent over a real broker, shows what happens in one live line and sums it up.
Knows which processes there are and how they are wired; what they do is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json as json_module
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ams.cli.children import Child, Children
from ams.cli.devices import hash_of
from ams.cli.models import ModelsDir
from ams.cli.progress import live_line
from ams.cli.trainer_options import selection_options
from ams.errors import AmsError, BrokerUnavailableError, ConfigError, ModelError
from ams.ports import Broker
from ams.run_record import RunRecord, summary

READY_S = 120.0
"""Real seconds that a process may take to start; importing torch on a busy machine takes many."""

LAST_SCORE_S = 90.0
"""Real seconds to wait, after the video has ended, for the last clips to be labelled and scored."""

STREAM = "cam0"


@dataclass(frozen=True)
class Plan:
    """What `ams run` was asked for."""

    video: Path
    teacher: str
    student: str
    models_dir: Path
    broker_url: str
    speed: float
    log_dir: Path
    threads: int
    device: str
    trainer: dict[str, object]

    @property
    def sid(self) -> str:
        """The session's id."""
        return f"{self.device}/{STREAM}"


def run(
    video: Annotated[Path, typer.Option(help="A video file; it plays once, as if it were a camera.")],
    teacher: Annotated[str, typer.Option(help="Teacher: name, model_id or directory (see `ams models list`).")],
    student: Annotated[str, typer.Option(help="Student: name, model_id or directory.")],
    models_dir: ModelsDir,
    broker: Annotated[
        str | None,
        typer.Option(envvar="AMS_BROKER_URL", help="Redis to use, redis://HOST:PORT/DB. By default one is started."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(min=0.01, max=100, help="Stream seconds per real second: below 1 for a machine that cannot keep "
                     "up. All rates and intervals are in stream time."),
    ] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="Training steps per phase.")] = 20,
    batch: Annotated[int, typer.Option(min=1, help="Frames per training step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Adam's step size.")] = 1e-3,
    fraction: Annotated[
        float | None,
        typer.Option(min=0.001, max=1, help="Share of the weights that a phase may change (gamma), as in the paper; by "
                     "default as many as the downlink's budget is good for."),
    ] = None,
    downlink_kbps: Annotated[float, typer.Option(min=0, help="Downlink budget; 0 for none.")] = 100.0,
    interval: Annotated[float, typer.Option(help="Training interval T_update in stream seconds.")] = 10.0,
    uplink_kbps: Annotated[float, typer.Option(help="Uplink budget.")] = 200.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each process. By default the cores are shared out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws from the horizon.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a picture of what happened (PNG).")] = None,
    log_dir: Annotated[Path | None, typer.Option(help="Keep the logs of all processes here.")] = None,
) -> None:  # fmt: skip
    """Stream a video through the real system and watch a small network get better on it.

    \b
    ams run --video street.mp4 --teacher big --student small
    ams run --video street.mp4 --teacher big --student small --speed 0.25 --json --report street.png
    """
    _check(video, teacher, student, models_dir, report)
    with contextlib.ExitStack() as stack:
        logs = (log_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ams-run-")))).resolve()
        logs.mkdir(parents=True, exist_ok=True)
        plan = Plan(
            video=video,
            teacher=teacher,
            student=student,
            models_dir=models_dir,
            broker_url=broker or stack.enter_context(_own_broker(logs)),
            speed=speed,
            log_dir=logs,
            threads=threads or max(1, (os.cpu_count() or 1) // 3),
            device=f"run-{secrets.token_hex(4)}",
            trainer={
                "steps": steps,
                "batch": batch,
                "learning_rate": learning_rate,
                **selection_options(fraction, downlink_kbps),
                "training_interval_s": interval,
                "uplink_kbps": uplink_kbps,
                "seed": seed,
            },
        )
        interrupted = asyncio.run(_run(plan, as_json=json, report=report))
    if interrupted:
        raise typer.Exit(130)


def _check(video: Path, teacher: str, student: str, models_dir: Path, report: Path | None) -> None:
    """Find what cannot work before anything is started."""
    from ams.core.class_map import class_map
    from ams.models.store import DirectoryStore
    from ams.video import probe

    probe(video)
    store = DirectoryStore(models_dir)
    for ref in (teacher, student):
        if ref.endswith(".onnx"):
            raise ModelError(f"{ref} is a bare ONNX file: import it first with `ams models import {ref} --role ...`")
    teacher_card, student_card = store.get(teacher).card, store.get(student).card
    for card, role in ((teacher_card, "teacher"), (student_card, "student")):
        if card.role != role:
            raise ModelError(f"--{role} {card.name} was imported as a {card.role}; import it again with --role {role}")
    class_map(teacher_card, student_card)
    if report is not None and not report.resolve().parent.is_dir():
        raise ConfigError(f"--report {report}: there is no directory {report.resolve().parent}")


@contextlib.contextmanager
def _own_broker(directory: Path) -> Iterator[str]:
    from ams.broker.server import RedisServer

    data = directory / "redis"
    data.mkdir(exist_ok=True)
    with RedisServer(data) as server:
        yield server.url


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Broker]:
    from ams.broker import connect

    broker = connect(url)
    try:
        await broker.connection.ping()
        yield broker
    finally:
        await broker.connection.close()


async def _run(plan: Plan, *, as_json: bool, report: Path | None) -> bool:
    """Run to the end of the video or Ctrl-C; returns whether it was interrupted."""
    from ams.models.store import DirectoryStore

    store = DirectoryStore(plan.models_dir)
    student, teacher = store.get(plan.student), store.get(plan.teacher)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with _connected(plan.broker_url) as broker:
        token = secrets.token_urlsafe(32)
        await broker.devices.enrol(plan.device, hash_of(token))
        store.put(student)
        store.put(teacher)
        record = RunRecord(broker, plan.sid)
        try:
            agent = await _play(plan, record, stop, token, student.model_id, teacher.model_id)
        finally:
            await broker.devices.revoke(plan.device)
        figures = summary(record, next((m for m in reversed(agent.messages) if "frames" in m), {}) if agent else {})
        if as_json:
            print(json_module.dumps(figures), flush=True)
        else:
            for name, value in figures.items():
                print(f"{name:>22}  {value}")
        if report is not None:
            from ams.cli.report import draw

            print(f"drawing {report}", file=sys.stderr)
            try:
                await draw(report, broker, plan.sid, student, record)
            except AmsError as error:
                if not stop.is_set():
                    raise
                print(f"no picture: {error}", file=sys.stderr)
    return stop.is_set()


async def _play(
    plan: Plan, record: RunRecord, stop: asyncio.Event, token: str, student_id: str, teacher_id: str
) -> Child | None:
    """Start everything, watch it to its end, stop it; returns the agent, None when stopped before it began."""
    with Children(plan.log_dir) as children:
        agent = await asyncio.to_thread(_start_all, plan, children, token, student_id, teacher_id, stop.is_set)
        if agent is None:
            return None
        await _watch(plan, children, agent, record, stop)
        if not stop.is_set():
            await _wait_for_last_score(children, agent, record, stop)
        for child in reversed(children.all):
            await asyncio.to_thread(child.stop)
    with contextlib.suppress(BrokerUnavailableError):  # then the figures are those of the last look
        await record.refresh()
    # Interrupted while it starts, the agent dies of our signal: that is no failure.
    if agent.returncode not in (0, None) and not stop.is_set():
        raise agent.failure("failed")
    return agent


def _start_all(
    plan: Plan, children: Children, token: str, student_id: str, teacher_id: str, stopped: Callable[[], bool]
) -> Child | None:
    """Start the services side by side, wait for all, then start the agent; returns it, None once `stopped`."""
    common = {"broker_url": plan.broker_url}
    models = {"models_dir": plan.models_dir}
    speed = {"speed": plan.speed}
    gateway = children.start(
        "gateway", "services.gateway", {**common, **speed, "teacher": teacher_id, "port": 0}, threads=1
    )
    # The camera comes first: labeler and trainer yield to it where cores are few.
    labeler = children.start(
        "labeler", "services.labeler",
        {**common, **models, "teacher": teacher_id, "threads": plan.threads}, threads=plan.threads, nice=5,
    )  # fmt: skip
    trainer = children.start(
        "trainer", "services.trainer",
        {**common, **models, **speed, **plan.trainer, "threads": plan.threads}, threads=plan.threads, nice=10,
    )  # fmt: skip
    ready = [service.wait_ready(READY_S, stopped) for service in (gateway, labeler, trainer)]
    if stopped():
        return None
    port = ready[0]["port"]
    return children.start(
        "agent", "edge_agent",
        {
            **speed,
            "server_url": f"ws://127.0.0.1:{port}/v1/device",
            "device": plan.device,
            "stream": STREAM,
            "model": plan.models_dir / student_id,
            "source": plan.video,
            "threads": plan.threads,
        },
        threads=plan.threads,
        environment={"AMS_EDGE_TOKEN": token},
    )  # fmt: skip


async def _watch(plan: Plan, children: Children, agent: Child, record: RunRecord, stop: asyncio.Event) -> None:
    """Show the live line until the agent has finished or somebody presses Ctrl-C."""
    with live_line(plan.video.name) as show:
        while agent.returncode is None and not stop.is_set():
            children.check(except_for=agent)
            try:
                await record.refresh()
                show(record.line())
            except BrokerUnavailableError as error:
                show(f"broker is away, the camera goes on: {error}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)
    if agent.returncode not in (0, None):
        raise agent.failure("failed")


async def _wait_for_last_score(children: Children, agent: Child, record: RunRecord, stop: asyncio.Event) -> None:
    """The last clips are on their way through labeler and trainer when the video ends: give them time."""
    sent = next((message["clips"] for message in reversed(agent.messages) if "clips" in message), 0)
    end = time.monotonic() + LAST_SCORE_S
    while record.clips_seen < sent and time.monotonic() < end and not stop.is_set():
        children.check(except_for=agent)
        with contextlib.suppress(BrokerUnavailableError):
            await record.refresh()
        await asyncio.sleep(0.5)
