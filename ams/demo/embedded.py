"""Gateway, labeler, trainer and page in one process, on a broker in its memory: `python -m ams.demo.embedded`.

For a machine without Redis. The same services as in separate processes, wired here once more; what is lost is that
they share one interpreter, and that everything ends with it. Prints `{"ready": true, "port": N, "page_port": M}`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from functools import partial

from ams.broker import connect
from ams.clock import ScaledClock
from ams.demo.config import EmbeddedSettings
from ams.demo.serving import PageServer, bind
from ams.models.store import DirectoryStore
from ams.settings import exit_code, parse
from ams.telemetry import configure_logging

log = logging.getLogger(__name__)


async def _serve(settings: EmbeddedSettings) -> None:
    import torch

    from services.gateway.app import create_app
    from services.gateway.config import GatewaySettings
    from services.gateway.metrics import GatewayMetrics
    from services.gateway.server import GatewayServer, listen
    from services.gateway.service import GatewayService
    from services.labeler.config import LabelerSettings
    from services.labeler.metrics import LabelerMetrics
    from services.labeler.service import LabelerService
    from services.labeler.teacher import Teacher
    from services.trainer.config import TrainerSettings
    from services.trainer.metrics import TrainerMetrics
    from services.trainer.service import TrainerService

    torch.set_num_threads(1)
    page_socket, device_socket = bind(settings), listen("127.0.0.1", 0)
    store = DirectoryStore(settings.models_dir)
    bundle = store.get(settings.teacher)
    broker = connect(settings.broker_url)
    await broker.devices.enrol(settings.device, settings.token_hash)
    url, models = settings.broker_url, settings.models_dir
    gateway = GatewayService(
        broker, GatewaySettings(broker_url=url, teacher=bundle.model_id, name="gateway"), GatewayMetrics()
    )
    teacher = await asyncio.to_thread(Teacher, bundle, settings.teacher_threads)
    labeler = LabelerService(
        broker, store, teacher, broker.clips(bundle.model_id),
        LabelerSettings(broker_url=url, models_dir=models, teacher=bundle.model_id, name="labeler"), LabelerMetrics(),
    )  # fmt: skip
    options = json.loads(settings.trainer_options)
    trainer = TrainerService(
        broker, store, ScaledClock(), TrainerSettings(broker_url=url, models_dir=models, name="trainer", **options),
        TrainerMetrics(),
    )  # fmt: skip
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    device_server = GatewayServer(create_app(gateway))
    ready = {"ready": True, "port": device_socket.getsockname()[1], "page_port": page_socket.getsockname()[1]}
    page = PageServer(settings, broker, page_socket)
    async with asyncio.TaskGroup() as tasks:
        rings = tasks.create_task(gateway.run())
        devices = tasks.create_task(device_server.serve(sockets=[device_socket]))
        services = [tasks.create_task(labeler.run()), tasks.create_task(trainer.run())]
        showing = tasks.create_task(page.run(stopping, partial(print, json.dumps(ready), flush=True)))
        await stopping.wait()
        await gateway.drain()
        device_server.should_exit = True
        labeler.stop()
        trainer.stop()
        await asyncio.wait([devices, showing, *services])
        rings.cancel()
    await broker.connection.close()


def _start(arguments: list[str] | None) -> None:
    settings = parse(EmbeddedSettings, arguments, program="python -m ams.demo.embedded")
    configure_logging("services", level=settings.log_level)
    # Before torch and its maths library start their thread pools.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    asyncio.run(_serve(settings))


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 2 for a configuration that cannot work."""
    return exit_code("services", lambda: _start(arguments))


if __name__ == "__main__":
    sys.exit(main())
