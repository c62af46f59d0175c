"""SessionDirectory, Doorbell and Devices: what every adapter promises."""

from __future__ import annotations

import asyncio

import pytest

from ams.broker import keys
from ams.ports import Broker

pytestmark = pytest.mark.anyio

MOST_RINGS = keys.BELL.maxlen or 0


async def test_directory_lists_latest_first(broker: Broker) -> None:
    for sid, seen_s in (("a/x", 100.0), ("b/x", 300.5), ("c/x", 200.0)):
        await broker.directory.touch(sid, seen_s)
    assert await broker.directory.seen_since(0) == ["b/x", "c/x", "a/x"]
    assert await broker.directory.seen_since(200.0) == ["b/x", "c/x"]
    assert await broker.directory.seen_since(300.6) == []


async def test_directory_never_goes_back_in_time(broker: Broker) -> None:
    await broker.directory.touch("a/x", 100.0)
    await broker.directory.touch("a/x", 50.0)
    assert await broker.directory.seen_since(100.0) == ["a/x"]


async def test_directory_forgets(broker: Broker) -> None:
    for sid, seen_s in (("a/x", 100.0), ("b/x", 300.0), ("c/x", 200.0)):
        await broker.directory.touch(sid, seen_s)
    assert await broker.directory.forget_before(200.0) == 1
    assert await broker.directory.seen_since(0) == ["b/x", "c/x"]
    assert await broker.directory.forget_before(200.0) == 0


async def test_directory_is_bounded(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_SESSIONS", 3)
    monkeypatch.setattr(keys, "MAX_LISTED_SESSIONS", 2)
    for n in range(5):
        await broker.directory.touch(f"d{n}/x", 100.0 + n)
    assert await broker.directory.seen_since(0) == ["d4/x", "d3/x"]
    assert await broker.directory.forget_before(1e9) == 3


async def test_state_keeps_the_latest_of_each_field(broker: Broker) -> None:
    assert await broker.directory.state("a/x") == {}
    await broker.directory.update("a/x", {"rate_hz": "1.0", "notice": "grüß Gott"})
    await broker.directory.update("a/x", {"rate_hz": "0.5"})
    await broker.directory.update("a/x", {})
    assert await broker.directory.state("a/x") == {"rate_hz": "0.5", "notice": "grüß Gott"}
    assert await broker.directory.state("b/x") == {}


async def test_bell_tells_who_rang(broker: Broker) -> None:
    for sid in ("a/x", "b/x", "a/x"):
        await broker.bell.ring("trainer-1", sid)
    await broker.bell.ring("trainer-2", "c/x")
    assert await broker.bell.wait("trainer-1", wait_s=1) == {"a/x", "b/x"}
    assert await broker.bell.wait("trainer-1", wait_s=0) == set()
    await broker.bell.ring("trainer-1", "a/x")
    assert await broker.bell.wait("trainer-1", wait_s=0) == {"a/x"}


async def test_bell_wakes_who_waits(broker: Broker) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(broker.bell.wait("trainer-1", wait_s=30))
        await asyncio.sleep(0.01)
        await broker.bell.ring("trainer-1", "a/x")
    assert waiting.result() == {"a/x"}


async def test_bell_that_nobody_rings(broker: Broker) -> None:
    assert await broker.bell.wait("trainer-1", wait_s=0.01) == set()


async def test_rings_beyond_the_bound_are_lost(broker: Broker) -> None:
    for n in range(MOST_RINGS + 200):
        await broker.bell.ring("trainer-1", f"d{n}/x")
    heard = await broker.bell.wait("trainer-1", wait_s=0)
    assert MOST_RINGS <= len(heard) <= MOST_RINGS + 100
    assert f"d{MOST_RINGS + 199}/x" in heard
    assert "d0/x" not in heard


async def test_devices(broker: Broker) -> None:
    assert await broker.devices.token_hash("pi") is None
    await broker.devices.enrol("pi", "ab" * 32)
    assert await broker.devices.token_hash("pi") == "ab" * 32
    await broker.devices.enrol("pi", "cd" * 32)
    assert await broker.devices.token_hash("pi") == "cd" * 32
    await broker.devices.revoke("pi")
    await broker.devices.revoke("pi")
    assert await broker.devices.token_hash("pi") is None


async def test_ping_and_close(broker: Broker) -> None:
    await broker.connection.ping()
    await broker.connection.close()
    await broker.connection.close()
