"""The uplink without a gateway: how a connection ends."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from ams.clock import ScaledClock
from ams.core.messages import Stats
from ams.core.session import Connection, Role
from ams.core.transfer import Inbox, Outbox
from ams.models.bundle import ModelBundle
from edge_agent.counters import Counters
from edge_agent.model_slot import ModelSlot
from edge_agent.spool import Spool
from edge_agent.uplink import Identity, Uplink


@pytest.mark.parametrize("turns", range(5))
def test_transmitting_ends_when_the_end_and_news_come_together(student: ModelBundle, tiny: type, turns: int) -> None:
    """Whatever lies between the two: a task that swallowed its cancellation would keep the agent off the network."""

    async def scenario() -> None:
        identity = Identity("ws://nowhere", "cam", "token", "boot", "cam0", student.model_id, "h264", 1 << 20)
        slot = ModelSlot(student, lambda weights: tiny.Runtime(0))
        uplink = Uplink(
            identity, slot, Spool(max_clips=4, max_bytes=1 << 20), Counters(), ScaledClock(),
            on_welcome=lambda welcome: None, on_rates=lambda rates: None,
            report=lambda: Stats(stream="cam0", sent_ns=0, version=0),
        )  # fmt: skip
        connection = Connection(Role.DEVICE, Inbox(1 << 20), Outbox(), now_s=time.monotonic(), heartbeat_s=math.inf)
        transmitting = asyncio.create_task(uplink._transmit(None, connection))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        uplink._wake.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        transmitting.cancel()
        _, left = await asyncio.wait([transmitting], timeout=1)
        assert not left

    asyncio.run(scenario())
