"""The live preview: a WebSocket on which programs of this device watch what the student sees and says.

    inference thread --> slot of one --> preview thread --> event loop --> viewers
                         newest wins     draws, encodes     newest wins for each

Nothing here can hold inference up or make memory grow: while nobody watches, nothing is drawn, and whoever is slow
misses messages. No web page can watch: a browser always says which page opened a WebSocket (Origin), and a
connection that says so is refused. Does not know what a message looks like (`shot`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ams.errors import ConfigError
from edge_agent.shot import Shot, ShotEncoder

log = logging.getLogger(__name__)

PREVIEW_HZ = 10
"""Messages per real second at most: enough to watch, and a few percent of one core to draw."""

MAX_VIEWERS = 4

TRY_AGAIN_LATER = 1013
"""WebSocket's close code for a server that is full."""

SEND_TIMEOUT_S = 10.0
"""A viewer that does not take one message within so many real seconds is cut off; pings would wait behind it."""

CLOSE_TIMEOUT_S = 2.0
HEARD_BYTES = 1024
"""Largest message that a viewer may send; none of them is heeded."""


class Preview:
    """Takes shots from the agent and serves them; `show` from one thread, the rest in the event loop."""

    def __init__(self, encoder: ShotEncoder, *, host: str, port: int) -> None:
        self._encoder = encoder
        self._host = host
        self._port = port
        self._viewers: set[ServerConnection] = set()
        self._slot: Shot | None = None
        self._arrived = threading.Event()
        self._closing = threading.Event()
        self._message = b""
        self._published = asyncio.Event()
        """Set and replaced with every message."""

    @property
    def watched(self) -> bool:
        """Whether anybody is there to see a shot."""
        return bool(self._viewers)

    def show(self, shot: Shot) -> None:
        """Leave a shot for the viewers, in the place of one that was not drawn yet. Never waits."""
        if self.watched:
            self._slot = shot
            self._arrived.set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve while the block runs, once; gives the port. Raises ConfigError when it cannot listen there."""
        loop = asyncio.get_running_loop()
        drawing = threading.Thread(target=self._draw, args=(loop,), name="preview", daemon=True)
        try:
            server = await serve(
                self._serve, self._host, self._port,
                origins=[None], compression=None, max_size=HEARD_BYTES, close_timeout=CLOSE_TIMEOUT_S,
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(
                f"the preview cannot listen on {self._host} port {self._port}: {error.strerror or error}; give another "
                "address with --preview HOST:PORT, port 0 for any free one"
            ) from error
        drawing.start()
        try:
            yield next(iter(server.sockets)).getsockname()[1]
        finally:
            self._closing.set()
            self._arrived.set()
            drawing.join()  # at most the one message that it is at
            await self._close(server)

    # -- the preview thread ------------------------------------------------------------------------------------

    def _draw(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            self._arrived.wait()
            self._arrived.clear()
            if self._closing.is_set():
                return
            shot, self._slot = self._slot, None
            if shot is None:  # taken already, just before it was announced
                continue
            next_s = time.monotonic() + 1 / PREVIEW_HZ
            loop.call_soon_threadsafe(self._publish, self._encoder.encode(shot))
            self._closing.wait(max(0.0, next_s - time.monotonic()))

    # -- the event loop ----------------------------------------------------------------------------------------

    def _publish(self, message: bytes) -> None:
        self._message = message
        self._published.set()
        self._published = asyncio.Event()

    async def _serve(self, viewer: ServerConnection) -> None:
        if len(self._viewers) >= MAX_VIEWERS:
            await viewer.close(TRY_AGAIN_LATER, f"{MAX_VIEWERS} viewers are watching already; close one of them")
            return
        self._viewers.add(viewer)
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send_newest(viewer))
                async for _ in viewer:  # read, so that its leaving is noticed
                    pass
                sending.cancel()
        except* ConnectionClosed:
            pass
        finally:
            self._viewers.discard(viewer)

    async def _close(self, server: Server) -> None:
        """Say goodbye to the viewers; cut off those that do not hear it."""
        server.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await server.wait_closed()
        except TimeoutError:
            # The goodbye of a viewer that reads nothing waits behind what it did not read, without a deadline.
            for viewer in self._viewers:
                viewer.transport.abort()
            await server.wait_closed()

    async def _send_newest(self, viewer: ServerConnection) -> None:
        """Send the newest message again and again; what came while one was under way is left out but for the last."""
        published = self._published
        while True:
            await published.wait()
            published = self._published
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await viewer.send(self._message)
            except TimeoutError:
                log.info("a viewer of the preview takes nothing any more and is cut off")
                viewer.transport.abort()
                return
