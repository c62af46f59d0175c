"""The labeler process: `python -m services.labeler`. The one place that wires it together.

Prints `{"ready": true}` once the teacher is loaded. Exit code 0 after SIGTERM or SIGINT, 2 for a configuration or a
teacher that cannot work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sys

from ams.broker import connect
from ams.errors import BrokerError
from ams.models.store import DirectoryStore
from ams.settings import exit_code, parse
from ams.telemetry import configure_logging, serve_metrics
from services.labeler.config import LabelerSettings
from services.labeler.metrics import LabelerMetrics

log = logging.getLogger(__name__)


async def _serve(settings: LabelerSettings) -> None:
    from services.labeler.service import LabelerService
    from services.labeler.teacher import Teacher

    store = DirectoryStore(settings.models_dir)
    bundle = store.get(settings.teacher)
    teacher = Teacher(bundle, settings.threads)
    metrics = LabelerMetrics()
    serve_metrics(metrics.registry, port=settings.metrics_port, host=settings.metrics_host)
    broker = connect(settings.broker_url)
    service = LabelerService(broker, store, teacher, broker.clips(bundle.model_id), settings, metrics)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, service.stop)
    print(json.dumps({"ready": True}), flush=True)
    log.info("labeler %s runs teacher %s (%s)", settings.name, bundle.card.name, teacher.provider)
    try:
        await service.run()
    finally:
        with contextlib.suppress(BrokerError):
            await broker.connection.close()


def _start(arguments: list[str] | None) -> None:
    settings = parse(LabelerSettings, arguments, program="python -m services.labeler")
    if not settings.name:
        settings = settings.model_copy(update={"name": f"labeler-{secrets.token_hex(4)}"})
    configure_logging("labeler", level=settings.log_level, form=settings.log_format)
    # Before NumPy, OpenCV and ONNX Runtime start their thread pools.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    asyncio.run(_serve(settings))


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 2 for a configuration or a teacher that cannot work."""
    return exit_code("labeler", lambda: _start(arguments))


if __name__ == "__main__":
    sys.exit(main())
