"""The page over HTTP: its files, what the feed knows, the pictures of moments, the live view. Decides nothing.

A browser may only talk to the page that it was given: a WebSocket from another site is refused, and everything the page
loads comes from here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Query, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ams.demo.feed import LAST_MINUTE_S, Feed
from ams.demo.live import LiveRelay
from ams.demo.moments import PICTURES
from ams.run_record import summary

WEB = Path(__file__).parent / "web"
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
FOREIGN = 1008
"""WebSocket's close code for a policy that was broken."""

Known = Annotated[int, Query(ge=0)]


def create_page(feed: Feed, live: LiveRelay, *, hosts: Sequence[str] = ("*",)) -> FastAPI:
    """The app that serves the page of one session to browsers that ask for it by one of these host names."""
    app = FastAPI(title="AMS demo", docs_url=None, redoc_url=None, openapi_url=None)
    # A foreign name that leads to this address would make a foreign page one of ours.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)

    @app.middleware("http")
    async def protect(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        if not request.url.path.endswith((".jpg", ".png")):
            response.headers["Cache-Control"] = "no-cache"
        return response

    @app.get("/api/state")
    async def state(frames: Known = 0, phases: Known = 0, links: Known = 0) -> JSONResponse:
        """What the page shows; of the lists what is new."""
        return JSONResponse(feed.state(frames=frames, phases=phases, links=links))

    @app.get("/api/line")
    async def line() -> JSONResponse:
        """One line for a terminal, and how many clips have been scored."""
        return JSONResponse({"line": feed.record.line(last_s=LAST_MINUTE_S), "clips_seen": feed.record.clips_seen})

    @app.post("/api/summary")
    async def figures(agent: Annotated[dict[str, Any], Body()]) -> JSONResponse:
        """The figures of the last minute, with the totals that the agent printed."""
        return JSONResponse(summary(feed.record, agent, last_s=LAST_MINUTE_S))

    @app.get("/api/moments/{moment_id}/{picture}")
    async def picture(moment_id: str, picture: str) -> Response:
        """A picture of a moment; it never changes."""
        moment = feed.reel.find(moment_id)
        if picture not in PICTURES or moment is None or picture not in moment.pictures:
            raise HTTPException(404, "no such picture, or it is too old")
        kind = "image/jpeg" if picture.endswith(".jpg") else "image/png"
        return Response(moment.pictures[picture], media_type=kind, headers={"Cache-Control": "private, max-age=60"})

    @app.websocket("/api/live")
    async def watch(socket: WebSocket) -> None:
        if not _is_ours(socket):
            await socket.close(FOREIGN)
            return
        await socket.accept()
        sending = asyncio.create_task(_send_newest(socket, live))
        try:
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass  # nothing is expected; reading notices that the browser is gone
        finally:
            sending.cancel()

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """The process is alive."""
        return JSONResponse({"status": "alive"})

    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(WEB / "index.html")

    app.mount("/", StaticFiles(directory=WEB))
    return app


async def _send_newest(socket: WebSocket, live: LiveRelay) -> None:
    message = b""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the browser has gone, in the middle of a message
        while True:
            message = await live.next(message)
            await socket.send_bytes(message)


def _is_ours(socket: WebSocket) -> bool:
    """Whether a WebSocket comes from this page: browsers say which page opened it."""
    origin = socket.headers.get("origin")
    return origin is None or origin.partition("://")[2] == socket.headers.get("host")
