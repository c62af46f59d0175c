"""The page as a process of its own: `python -m ams.demo`, beside gateway, labeler and trainer on a Redis.

Prints `{"ready": true, "port": N}` once the page can be opened. Exit code 0 after SIGTERM or SIGINT, 2 for a
configuration that cannot work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys

from ams.broker import connect
from ams.demo.config import PageSettings
from ams.demo.serving import PageServer, bind
from ams.errors import BrokerError
from ams.settings import exit_code, parse
from ams.telemetry import configure_logging


async def _serve(settings: PageSettings) -> None:
    listener = bind(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    broker = connect(settings.broker_url)
    ready = json.dumps({"ready": True, "port": listener.getsockname()[1]})
    try:
        await PageServer(settings, broker, listener).run(stopping, lambda: print(ready, flush=True))
    finally:
        with contextlib.suppress(BrokerError):
            await broker.connection.close()


def _start(arguments: list[str] | None) -> None:
    settings = parse(PageSettings, arguments, program="python -m ams.demo")
    configure_logging("page", level=settings.log_level)
    asyncio.run(_serve(settings))


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 2 for a configuration that cannot work."""
    return exit_code("page", lambda: _start(arguments))


if __name__ == "__main__":
    sys.exit(main())
