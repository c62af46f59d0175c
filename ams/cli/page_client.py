"""A client of the demo's page: asks its process what it knows of the session. Knows HTTP and nothing that is said."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 5.0


class PageClient:
    """Asks the page's process what it knows."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # never through a proxy

    async def get(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON; with a body it is a POST. Raises ConnectionError."""
        return await asyncio.to_thread(self._ask, path, body)

    def _ask(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with self._open(request, timeout=TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except (OSError, urllib.error.URLError, ValueError) as error:
            raise ConnectionError(str(error)) from error
