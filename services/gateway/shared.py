"""What all connections of one gateway process share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ams.core.envelope import MAX_FRAME_BYTES
from ams.ports import Broker, ClipQueue
from services.gateway.config import GatewaySettings
from services.gateway.metrics import GatewayMetrics
from services.gateway.registry import DeviceRegistry

BROKER_TURNS = 16
"""Connections that use the broker at the same time, apart from clips: half of the Redis adapter's connections."""

SWEPT_PER_INTERVAL = 64
"""Connections that look for news without a ring in one `sweep_s`; with more of them each looks less often."""


@dataclass
class Shared:
    """The process: its name on the broker, its settings, its devices."""

    broker: Broker
    settings: GatewaySettings
    metrics: GatewayMetrics
    clips: ClipQueue = field(init=False)
    devices: DeviceRegistry = field(init=False)
    turns: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.clips = self.broker.clips(self.settings.teacher)
        # A clip's header travels with it in parts; a clip a little too large is refused by name, not by hanging up.
        self.devices = DeviceRegistry(self.settings.max_clip_bytes + MAX_FRAME_BYTES)
        self.turns = asyncio.Semaphore(BROKER_TURNS)

    @property
    def name(self) -> str:
        """The name that owners ring."""
        return self.settings.name

    def sweep_interval_s(self) -> float:
        """How long a connection waits before it looks for news by itself."""
        return self.settings.sweep_s * max(1.0, len(self.devices) / SWEPT_PER_INTERVAL)
