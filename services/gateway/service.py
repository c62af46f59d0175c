"""The gateway's shell: takes connections in, passes the broker's rings on, and goes down gracefully.

Knows which connections there are; what happens on one is `connection`'s. When the broker is away, devices stay
connected, their clips are refused with a time to come back, and what else they say is kept for a while.
"""

from __future__ import annotations

import asyncio
import logging
import random

from ams.errors import BrokerError
from ams.ports import Broker
from services.gateway.config import GatewaySettings
from services.gateway.connection import DeviceConnection, Socket, say_goodbye
from services.gateway.ending import CLOSED, DRAINING, FULL
from services.gateway.metrics import GatewayMetrics
from services.gateway.shared import Shared

log = logging.getLogger(__name__)

BELL_WAIT_S = 5.0
RETRY_S = 1.0
READY_DEADLINE_S = 1.0
DRAIN_DEADLINE_S = 5.0


class GatewayService:
    """One gateway process."""

    def __init__(self, broker: Broker, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._shared = Shared(broker, settings, metrics)
        self._open: set[DeviceConnection] = set()
        self._draining = False
        self._empty = asyncio.Event()

    @property
    def metrics(self) -> GatewayMetrics:
        """What `/metrics` shows."""
        return self._shared.metrics

    async def serve(self, socket: Socket) -> None:
        """One accepted WebSocket, until it is over."""
        if self._draining or len(self._open) >= self._shared.settings.max_connections:
            ending = CLOSED if self._draining else FULL
            self.metrics.handshakes.labels(ending.result).inc()
            await say_goodbye(socket, ending)
            return
        connection = DeviceConnection(socket, self._shared)
        self._open.add(connection)
        self.metrics.connections.set(len(self._open))
        try:
            await connection.run()
        finally:
            self._open.discard(connection)
            self.metrics.connections.set(len(self._open))
            if not self._open:
                self._empty.set()

    async def run(self) -> None:
        """Pass rings on until cancelled."""
        away = False
        while True:
            try:
                rung = await self._shared.broker.bell.wait(self._shared.name, wait_s=BELL_WAIT_S)
            except BrokerError as error:
                self.metrics.broker_errors.inc()
                if not away:
                    log.warning("broker is away, devices stay connected: %s", error)
                away = True
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))  # noqa: S311  # not a secret
                continue
            if away:
                log.info("broker is back")
                away = False
            for sid in rung:
                self._shared.devices.ring(sid)

    async def why_not_ready(self) -> str:
        """Why no device should be sent here now, or "" when all is well."""
        if self._draining:
            return "draining"
        try:
            async with asyncio.timeout(READY_DEADLINE_S):
                await self._shared.broker.connection.ping()
        except TimeoutError:
            return f"the broker did not answer within {READY_DEADLINE_S:g} s"
        except BrokerError as error:
            return str(error)
        return ""

    async def drain(self) -> None:
        """Refuse new devices and send those that are here away, each with a word; returns when they have gone."""
        self._draining = True
        if not self._open:
            return
        self._empty.clear()
        log.info("draining: %d devices are asked to connect again", len(self._open))
        for connection in list(self._open):
            connection.end(DRAINING)
        try:
            async with asyncio.timeout(DRAIN_DEADLINE_S):
                await self._empty.wait()
        except TimeoutError:
            log.warning("%d connections did not end in time", len(self._open))
