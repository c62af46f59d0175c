"""The gateway process: `python -m services.gateway`. The one place that wires it together.

Prints `{"ready": true, "port": N}` once devices can connect. Exit code 0 after SIGTERM or SIGINT, 2 for a
configuration that cannot work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import signal
import sys

from ams.broker import connect
from ams.errors import BrokerError, ConfigError
from ams.settings import exit_code, parse
from ams.telemetry import configure_logging
from services.gateway.app import create_app
from services.gateway.config import GatewaySettings
from services.gateway.metrics import GatewayMetrics
from services.gateway.server import GatewayServer, listen
from services.gateway.service import GatewayService

log = logging.getLogger(__name__)


async def _serve(settings: GatewaySettings) -> None:
    broker = connect(settings.broker_url)
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); "
            "choose another --host or --port"
        ) from error
    port = listener.getsockname()[1]
    service = GatewayService(broker, settings, GatewayMetrics())

    def listening() -> None:
        log.info("gateway listening on http://%s:%d", settings.host, port)
        print(json.dumps({"ready": True, "port": port}), flush=True)

    server = GatewayServer(create_app(service), listening)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with asyncio.TaskGroup() as tasks:
            bell = tasks.create_task(service.run())
            serving = tasks.create_task(server.serve(sockets=[listener]))
            await stopping.wait()
            await service.drain()
            server.should_exit = True
            await serving
            bell.cancel()
    finally:
        with contextlib.suppress(BrokerError):
            await broker.connection.close()


def _start(arguments: list[str] | None) -> None:
    settings = parse(GatewaySettings, arguments, program="python -m services.gateway")
    if not settings.name:
        settings = settings.model_copy(update={"name": f"gateway-{secrets.token_hex(4)}"})
    configure_logging("gateway", level=settings.log_level, form=settings.log_format)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    asyncio.run(_serve(settings))


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 2 for a configuration that cannot work."""
    return exit_code("gateway", lambda: _start(arguments))


if __name__ == "__main__":
    sys.exit(main())
