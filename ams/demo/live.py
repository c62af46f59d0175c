"""The live relay: takes the agent's preview and passes it on to the browsers that look at the page.

One connection to the agent, kept while a browser looks; each browser gets the newest message when it is ready for one,
so a slow one misses some and nobody's memory grows. Reads of a message only its header, for the page's own figures.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

log = logging.getLogger(__name__)

RETRY_S = 0.5
MAX_MESSAGE_BYTES = 8 << 20


class LiveRelay:
    """The newest message of the agent's preview at `url` (empty: there is none), for any number of watchers."""

    def __init__(self, url: str, heard: Callable[[dict[str, Any]], None]) -> None:
        self._url = url
        self._heard = heard
        self._message = b""
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Listen to the agent until cancelled, connecting again as often as it takes."""
        while self._url:
            try:
                async with connect(
                    self._url, compression=None, max_size=MAX_MESSAGE_BYTES, origin=None, proxy=None
                ) as socket:
                    async for message in socket:
                        if isinstance(message, bytes):
                            self._take(message)
            except (OSError, WebSocketException, TimeoutError) as error:
                log.debug("no preview at %s: %s", self._url, error)
            await asyncio.sleep(RETRY_S)

    async def next(self, seen: bytes) -> bytes:
        """The newest message that is not `seen`; waits for one."""
        while self._message is seen or not self._message:
            await self._arrived.wait()
        return self._message

    def _take(self, message: bytes) -> None:
        try:
            (length,) = struct.unpack_from("<I", message)
            self._heard(json.loads(message[4 : 4 + length], parse_constant=_refuse))
        except (struct.error, ValueError, KeyError, TypeError) as error:
            log.warning("a preview message cannot be read: %r", error)
            return
        self._message = message
        self._arrived.set()
        self._arrived = asyncio.Event()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
