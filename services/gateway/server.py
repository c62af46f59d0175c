"""The HTTP server: uvicorn, run by our own `__main__` instead of the other way round.

Says when it listens and leaves signals alone, so that devices are told before the socket closes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from ams.core.envelope import MAX_FRAME_BYTES

BACKLOG = 1024
SHUTDOWN_S = 3


class GatewayServer(uvicorn.Server):
    """Serves one app on one listening socket; `on_listening` is called once it accepts connections."""

    def __init__(self, app: FastAPI, on_listening: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="websockets-sansio",
                ws_max_size=MAX_FRAME_BYTES,
                ws_per_message_deflate=False,
                ws_ping_interval=None,  # the protocol has its own heartbeats, which scale with the bytes under way
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        self._on_listening = on_listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `__main__`'s."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self._on_listening()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
