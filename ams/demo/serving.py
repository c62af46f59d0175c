"""What both processes behind the demo share: the page of one session, served until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass

import onnx

from ams.clock import ScaledClock
from ams.demo.config import PageSettings
from ams.demo.feed import Feed, Subject
from ams.demo.live import LiveRelay
from ams.demo.page import create_page
from ams.errors import ConfigError
from ams.models.bundle import ModelBundle
from ams.models.store import DirectoryStore
from ams.ports import Broker
from services.gateway.server import GatewayServer, listen

LOOPBACK = ("localhost", "127.0.0.1")


def bind(settings: PageSettings) -> socket.socket:
    """The page's listening socket. Raises ConfigError when the port is taken."""
    try:
        return listen(settings.host, settings.port)
    except OSError as error:
        raise ConfigError(
            f"the page cannot be shown on {settings.host}:{settings.port} ({error.strerror or error}); is a demo "
            "running already? Give another one with --port"
        ) from error


@dataclass
class PageServer:
    """The page on a bound socket."""

    settings: PageSettings
    broker: Broker
    listener: socket.socket

    async def run(self, stopping: asyncio.Event, on_listening: Callable[[], None]) -> None:
        """Serve until `stopping`."""
        feed = Feed(self.broker, self._subject(), ScaledClock())
        live = LiveRelay(self.settings.preview_url, feed.hear)
        server = GatewayServer(create_page(feed, live, hosts=_names_of(self.settings.host)), on_listening)
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(feed.run()), tasks.create_task(live.run())]
            serving = tasks.create_task(server.serve(sockets=[self.listener]))
            await stopping.wait()
            server.should_exit = True
            for helper in helpers:
                helper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    def _subject(self) -> Subject:
        store = DirectoryStore(self.settings.models_dir)
        teacher = store.get(self.settings.teacher)
        return Subject(
            sid=self.settings.sid,
            source=self.settings.source_name,
            broker=self.settings.broker_name,
            student=store.get(self.settings.student),
            teacher_name=teacher.card.name,
            teacher_parameters=_parameters(teacher),
        )


def _names_of(host: str) -> tuple[str, ...]:
    """Names under which a page on this address may be asked for; any once it is open to the network."""
    return LOOPBACK if host in LOOPBACK else ("*",)


def _parameters(teacher: ModelBundle) -> int:
    """How many numbers a teacher consists of."""
    graph = onnx.load_model_from_string(teacher.graph).graph
    sizes = [1] * len(graph.initializer)
    for index, tensor in enumerate(graph.initializer):
        for dimension in tensor.dims:
            sizes[index] *= dimension
    return sum(sizes)
