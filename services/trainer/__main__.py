"""The trainer process: `python -m services.trainer`. The one place that wires it together."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import sys

from ams.broker import connect
from ams.clock import ScaledClock
from ams.models.store import DirectoryStore
from ams.settings import exit_code, parse
from ams.telemetry import configure_logging, serve_metrics
from services.trainer.config import TrainerSettings
from services.trainer.metrics import TrainerMetrics

log = logging.getLogger(__name__)


async def _serve(settings: TrainerSettings) -> None:
    import torch

    from services.trainer.service import TrainerService

    torch.set_num_threads(settings.threads)
    metrics = TrainerMetrics()
    serve_metrics(metrics.registry, port=settings.metrics_port, host=settings.metrics_host)
    broker = connect(settings.broker_url)
    service = TrainerService(
        broker, DirectoryStore(settings.models_dir), ScaledClock(settings.speed), settings, metrics
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, service.stop)
    print(json.dumps({"ready": True}), flush=True)
    log.info("trainer %s runs", settings.name)
    try:
        await service.run()
    finally:
        await broker.connection.close()


def _start(arguments: list[str] | None) -> None:
    settings = parse(TrainerSettings, arguments, program="python -m services.trainer")
    if not settings.name:
        settings = settings.model_copy(update={"name": f"trainer-{secrets.token_hex(4)}"})
    configure_logging("trainer", level=settings.log_level, form=settings.log_format)
    # Before torch and its maths library start their thread pools.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    asyncio.run(_serve(settings))


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 2 for a configuration that cannot work."""
    return exit_code("trainer", lambda: _start(arguments))


if __name__ == "__main__":
    sys.exit(main())
