"""A stream's way down without a connection: what it reads from a log that is not what it was."""

from __future__ import annotations

import pytest

from ams.broker.memory import new_memory
from ams.broker.memory_connection import MemoryConnection
from ams.core.messages import Message, Patch
from services.gateway import relay as relay_module
from services.gateway.metrics import GatewayMetrics
from services.gateway.postbox import Postbox
from services.gateway.relay import StreamRelay
from tests.services.gateway.conftest import SID, digest_of, entry, running

pytestmark = pytest.mark.anyio


async def test_a_log_that_gives_its_ids_out_once_more_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, metrics = new_memory(), GatewayMetrics()
    sent: list[Message] = []
    relay = StreamRelay(
        broker, metrics, Postbox(broker, metrics, SID), SID, running(0), lambda message, payload: sent.append(message)
    )
    for base, version in ((0, 1), (1, 2), (2, 3)):
        await broker.patches.append(SID, entry(base, version))
    assert await relay.read_log()
    relay.applied(3, digest_of(3))
    assert isinstance(broker.connection, MemoryConnection)
    broker.connection.come_back(empty=True)
    for base, version in ((0, 4), (4, 5)):
        await broker.patches.append(SID, entry(base, version))  # ids that the relay has passed already
    await relay.read_log()
    await relay.advance()
    assert not sent
    monkeypatch.setattr(relay_module, "LOOK_BACK_S", 0.0)
    await relay.read_log()
    await relay.advance()
    assert [message.target for message in sent if isinstance(message, Patch)] == [4, 5]


async def test_looking_back_at_a_log_that_was_trimmed_or_not_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "LOOK_BACK_S", 0.0)
    broker, metrics = new_memory(), GatewayMetrics()
    relay = StreamRelay(broker, metrics, Postbox(broker, metrics, SID), SID, running(0), lambda message, payload: None)
    for base, version in ((0, 1), (1, 2)):
        await broker.patches.append(SID, entry(base, version))
    await relay.read_log()
    await relay.read_log()
    assert [held.version for held in relay._log] == [1, 2]
    await broker.patches.trim(SID, before=await broker.patches.append(SID, entry(0, 3)))
    await relay.read_log()
    assert [held.version for held in relay._log] == [1, 2, 3]
