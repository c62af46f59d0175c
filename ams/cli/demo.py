"""`ams demo`: the whole system on this machine, with a page that shows a small network learning.

Finds out what there is (Redis or not, world or webcam), starts everything, shows one live line and the page's address,
and ends cleanly. Which processes there are is `demo_system`'s; what the page shows is `ams.demo`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json as json_module
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ams.cli.children import ChildError, Children
from ams.cli.demo_system import DemoPlan, DemoSystem, describe_redis, enrol, start
from ams.cli.page_client import PageClient
from ams.cli.progress import live_line
from ams.cli.trainer_options import selection_options
from ams.errors import ConfigError, ModelError

NEEDED_BYTES = 64 << 20
"""Room for models, logs and a margin in the directory for temporary files."""

LAST_SCORE_S = 60.0
"""Real seconds to wait, after the camera has stopped, for the last clips to be labelled and scored."""

LOOK_S = 0.5
DEFAULT_WORLD = "world:street?seed=7&camera=moving&script=demo"
PORT = 8600


@dataclass(frozen=True)
class _Wish:
    source: str
    teacher: str | None
    student: str | None
    models_dir: Path
    broker: str | None
    host: str
    port: int
    duration: float | None
    as_json: bool
    log_dir: Path | None
    threads: int
    trainer: dict[str, Any]


def demo(
    source: Annotated[
        str,
        typer.Option(help="What to watch: world:street?seed=N&camera=moving|fixed&script=... , a webcam by its number "
                     "(0) or path, or a video file. For anything but the world, name --teacher and --student."),
    ] = DEFAULT_WORLD,
    teacher: Annotated[
        str | None, typer.Option(help="Teacher: name, model_id or directory. By default the one that ships.")
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="Student: name, model_id or directory. By default the one that ships.")
    ] = None,
    models_dir: Annotated[
        Path, typer.Option(envvar="AMS_MODELS_DIR", help="Directory of the models that are named.")
    ] = Path("models"),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the page; 0 for a free one.")] = PORT,
    host: Annotated[str, typer.Option(help="Address of the page; 0.0.0.0 shows your camera to the network.")]
    = "127.0.0.1",
    duration: Annotated[
        float | None, typer.Option(min=1, help="End after so many seconds; by default it runs until Ctrl-C.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="End with one line of JSON on stdout: the figures of the last minute.")
    ] = False,
    broker: Annotated[
        str | None,
        typer.Option(envvar="AMS_BROKER_URL", help="Redis to use, redis://HOST:PORT/DB, or 'embedded'. By default a "
                     "Redis from PATH is started, else the embedded broker."),
    ] = None,
    interval: Annotated[float, typer.Option(min=1, max=600, help="Training interval T_update in seconds.")] = 6.0,
    fraction: Annotated[
        float | None,
        typer.Option(min=0.001, max=1, help="Share of the weights that a phase may change (gamma), as in the paper; by "
                     "default as many as the downlink's budget is good for."),
    ] = None,
    downlink_kbps: Annotated[float, typer.Option(min=0, help="Downlink budget; 0 for none.")] = 100.0,
    learning_rate: Annotated[float, typer.Option(help="Adam's step size.")] = 1e-3,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of each process.")] = 1,
    log_dir: Annotated[Path | None, typer.Option(help="Keep the logs of all processes here.")] = None,
) -> None:  # fmt: skip
    """Watch a small network learn, live, on this machine: a page shows camera, labels, accuracy and bandwidth.

    \b
    ams demo                                              a street that turns from day to dusk to rain
    ams demo --source 'world:street?seed=9&camera=fixed&script=day 30, night 90'
    ams demo --source 0 --teacher big --student small     your webcam, your networks
    ams demo --duration 180 --json                        three minutes, then the figures
    """
    wish = _Wish(source, teacher, student, models_dir, broker, host, port, duration, json, log_dir, threads, {
        "training_interval_s": interval, "learning_rate": learning_rate, **selection_options(fraction, downlink_kbps),
    })  # fmt: skip
    try:
        with contextlib.ExitStack() as stack:
            work = Path(stack.enter_context(_working_directory()))
            interrupted = asyncio.run(_run(stack, wish, work))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConfigError(_full(Path(tempfile.gettempdir()))) from error
        raise
    if interrupted:
        raise typer.Exit(130)


@contextlib.contextmanager
def _working_directory() -> Iterator[str]:
    """A temporary directory with room in it. Raises ConfigError when there is none."""
    directory = Path(tempfile.gettempdir())
    if shutil.disk_usage(directory).free < NEEDED_BYTES:
        raise ConfigError(_full(directory))
    with tempfile.TemporaryDirectory(prefix="ams-demo-") as work:
        yield work


def _full(directory: Path) -> str:
    return (
        f"the disk is full: {directory} needs {NEEDED_BYTES >> 20} MiB for models and logs; free some room, or set "
        "TMPDIR to a directory on another disk"
    )


def _plan(stack: contextlib.ExitStack, wish: _Wish, work: Path) -> DemoPlan:
    """Look everything up before anything is started, so that what cannot work is said at once."""
    from ams.core.class_map import class_map
    from ams.models.store import DirectoryStore
    from worlds.shipped import STUDENT, TEACHER

    source_name = _check_source(wish)
    named = DirectoryStore(wish.models_dir)
    teacher, student = named.get(wish.teacher or str(TEACHER)), named.get(wish.student or str(STUDENT))
    for bundle, role in ((teacher, "teacher"), (student, "student")):
        if bundle.card.role != role:
            raise ModelError(f"--{role} {bundle.card.name} was imported as a {bundle.card.role}; import it as a {role}")
    class_map(teacher.card, student.card)
    _check_port(wish.host, wish.port)
    store = DirectoryStore(work / "models")
    teacher_id, student_id = store.put(teacher), store.put(student)
    url, broker_name = _broker(stack, wish, work)
    return DemoPlan(
        source=wish.source, source_name=source_name, redis_url=url, broker_name=broker_name, models_dir=store.root,
        student_id=student_id, teacher_id=teacher_id, host=wish.host, port=wish.port, threads=wish.threads,
        trainer=wish.trainer,
    )  # fmt: skip


def _check_source(wish: _Wish) -> str:
    """What people are told of the source. Raises AmsError for one that cannot work."""
    kind, _, rest = wish.source.partition(":")
    if kind == "world":
        from worlds import open_world

        world = open_world(rest)
        return f"street world, {world.mount} camera, seed {world.seed}, {world.width}x{world.height}"
    if wish.teacher is None or wish.student is None:
        raise ConfigError(
            f"--source {wish.source}: the networks that ship know drawn streets only. Name yours with --teacher and "
            "--student (`ams models import FILE.onnx --role ...` adds them, `ams models list` shows them)"
        )
    if wish.source.isdigit() or wish.source.startswith("/dev/video"):
        return f"camera {wish.source}"
    from ams.video import probe

    probe(Path(wish.source))
    return Path(wish.source).name


def _check_port(host: str, port: int) -> None:
    """Raises ConfigError when the page's port is taken: better now than after half a minute of starting."""
    from services.gateway.server import listen

    try:
        listen(host, port).close()
    except OSError as error:
        raise ConfigError(
            f"the page cannot be shown on {host}:{port} ({error.strerror or error}); is a demo running already? Give "
            "another one with --port, or --port 0 for any free one"
        ) from error


def _broker(stack: contextlib.ExitStack, wish: _Wish, work: Path) -> tuple[str, str]:
    """URL and description of the broker; the URL is empty for the embedded one."""
    from ams.broker.server import RedisServer, find_redis_server

    if wish.broker is not None and wish.broker != "embedded":
        return wish.broker, f"{wish.broker.rpartition('@')[2]}, one process for each service"
    executable = None if wish.broker == "embedded" else find_redis_server(wheel=False)
    if executable is None:
        return "", "embedded broker, one process for all services"
    data = work / "redis"
    data.mkdir()
    server = stack.enter_context(RedisServer(data, executable=executable))
    return server.url, describe_redis(executable)


async def _run(stack: contextlib.ExitStack, wish: _Wish, work: Path) -> bool:
    """Run until Ctrl-C or the end of `duration`; returns whether it was interrupted."""
    plan = await asyncio.to_thread(_plan, stack, wish, work)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    logs = (wish.log_dir or work / "logs").resolve()
    logs.mkdir(parents=True, exist_ok=True)
    _say(f"{plan.source_name}; {plan.broker_name}. Starting...")
    async with _enrolled(plan):
        with Children(logs) as children:
            system = await asyncio.to_thread(start, plan, children, stop.is_set)
            figures: dict[str, Any] = {}
            if system is not None:
                page = PageClient(system.page_port)
                address = f"http://{'localhost' if plan.host == '127.0.0.1' else plan.host}:{system.page_port}"
                _say(f"\n    Open {address} and watch the student learn. Ctrl-C ends it.\n")
                await _watch(wish, children, system, page, stop)
                figures = await _finish(children, system, page, stop)
            for child in reversed(children.all):
                await asyncio.to_thread(child.stop)
    if wish.as_json:
        print(json_module.dumps(figures), flush=True)
    else:
        for name, value in figures.items():
            print(f"{name:>22}  {value}")
    return stop.is_set()


@contextlib.asynccontextmanager
async def _enrolled(plan: DemoPlan) -> Any:
    """Let the agent in for as long as this lasts, where the broker is a Redis."""
    if not plan.redis_url:
        yield
        return
    from ams.broker import connect

    broker = connect(plan.redis_url)
    try:
        await broker.connection.ping()
        await enrol(plan, broker)
        try:
            yield
        finally:
            await broker.devices.revoke(plan.device)
    finally:
        await broker.connection.close()


async def _watch(wish: _Wish, children: Children, system: DemoSystem, page: PageClient, stop: asyncio.Event) -> None:
    """Show the live line until it is time to end. Raises ChildError when a process dies."""
    end_s = time.monotonic() + wish.duration if wish.duration else float("inf")
    with live_line("demo") as show:
        while not stop.is_set() and time.monotonic() < end_s and system.agent.returncode is None:
            children.check(except_for=system.agent)
            try:
                show((await page.get("/api/line"))["line"])
            except ConnectionError as error:
                show(f"the page does not answer: {error}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(LOOK_S, max(0.0, end_s - time.monotonic())))
    if system.agent.returncode not in (0, None) and not stop.is_set():
        raise system.agent.failure("failed")


async def _finish(children: Children, system: DemoSystem, page: PageClient, stop: asyncio.Event) -> dict[str, Any]:
    """Stop the camera, wait for the scores of its last clips unless interrupted, and sum up."""
    await asyncio.to_thread(system.agent.stop)
    totals: dict[str, Any] = next((m for m in reversed(system.agent.messages) if "frames" in m), {})
    end_s = time.monotonic() + LAST_SCORE_S
    with contextlib.suppress(ConnectionError, ChildError):
        while not stop.is_set() and time.monotonic() < end_s:
            children.check(except_for=system.agent)
            if (await page.get("/api/line"))["clips_seen"] >= totals.get("clips", 0):
                break
            await asyncio.sleep(LOOK_S)
        return await page.get("/api/summary", totals)
    return {}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
