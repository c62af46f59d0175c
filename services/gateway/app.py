"""The gateway over HTTP: the devices' WebSocket, health, readiness and metrics, as an ASGI app. Decides nothing."""

from __future__ import annotations

from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.gateway.service import GatewayService

DEVICE_PATH = "/v1/device"


class _AsgiSocket:
    """`services.gateway.connection.Socket` over Starlette's WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._open = True

    async def receive(self) -> bytes | str | None:
        """The next message, or None when the peer is gone."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            self._open = False
            return None
        data: bytes | str | None = message.get("bytes")
        return message.get("text", "") if data is None else data

    async def send(self, data: bytes) -> None:
        """Send a binary message. Raises ConnectionError when the peer is gone."""
        if not self._open:
            raise ConnectionError("the peer is gone")
        try:
            await self._websocket.send_bytes(data)
        except WebSocketDisconnect as error:
            self._open = False
            raise ConnectionError("the peer is gone") from error

    async def close(self, code: int) -> None:
        """Close with a code, if it is still open."""
        if not self._open:
            return
        self._open = False
        try:
            await self._websocket.close(code)
        except WebSocketDisconnect as error:
            raise ConnectionError("the peer is gone") from error


def create_app(service: GatewayService) -> FastAPI:
    """The app that serves one process's gateway."""
    app = FastAPI(title="AMS gateway", docs_url=None, redoc_url=None, openapi_url=None)

    @app.websocket(DEVICE_PATH)
    async def device(websocket: WebSocket) -> None:
        await websocket.accept()
        await service.serve(_AsgiSocket(websocket))

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """The process is alive."""
        return JSONResponse({"status": "alive"})

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """The process can do its work, or why not."""
        reason = await service.why_not_ready()
        if reason:
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics of this process."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app
