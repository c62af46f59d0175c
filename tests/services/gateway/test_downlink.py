"""What goes down over a real socket: patches in order and in parts, after cuts and refusals; rates and notices."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import httpx
import pytest

from ams.core.messages import Ack, Notice, Patch, Rates, Refused, Welcome
from ams.core.transfer import PART_BYTES, WINDOW_PARTS, Inbox
from ams.ports import PatchEntry
from tests.services.gateway.conftest import (
    DIGEST0,
    MODEL,
    SID,
    Device,
    Gateway,
    digest_of,
    entry,
    running,
    serving,
)

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]


async def next_patch(device: Device) -> tuple[int, int, bytes]:
    patch, payload = await device.hear(Patch)
    return patch.base, patch.target, payload


async def apply(device: Device, version: int) -> None:
    await device.say(Ack(stream="cam0", of="patch", version=version, digest=digest_of(version)))


async def no_patch(device: Device) -> None:
    """Nothing but rates, notices and pings comes for a while."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await device.hear(Patch)


async def test_a_published_patch_reaches_the_device_byte_for_byte(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await gateway.publish(entry(0, 1, b"\x00\xffanything"))
        assert await next_patch(device) == (0, 1, b"\x00\xffanything")
        lease = await gateway.broker.leases.acquire(SID, "trainer", ttl_s=60)
        assert lease is not None
        await apply(device, 1)
        events = await gateway.events(2)
        assert events[1] == ("applied", {"version": 1, "digest": digest_of(1)})
        assert await gateway.broker.bell.wait("trainer", wait_s=1) == {SID}
        await gateway.state(device_version="1", device_digest=digest_of(1))
        assert gateway.sample("ams_gateway_patches_relayed_total") == 1


async def test_a_patch_is_found_without_a_ring(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await gateway.broker.patches.append(SID, entry(0, 1))
        assert (await next_patch(device))[1] == 1


async def test_a_large_patch_comes_in_parts(gateway: Gateway) -> None:
    keyframe = bytes(range(256)) * 1000
    async with gateway.welcomed() as device:
        await gateway.publish(entry(0, 1, keyframe))
        assert await next_patch(device) == (0, 1, keyframe)


async def test_a_patch_cut_in_mid_transfer_goes_on_where_it_was(gateway: Gateway) -> None:
    keyframe = bytes(range(256)) * 2000
    await gateway.broker.patches.append(SID, entry(0, 1, keyframe))
    inbox = Inbox(1 << 24)
    async with gateway.device(inbox=inbox) as device:
        await device.hear(Welcome)
        while not inbox.progress() or inbox.progress()[0].next < 20:
            await device.receive()
    sent = gateway.sample("ams_gateway_bytes_total", direction="down")
    async with gateway.device(inbox=inbox) as device:
        assert await next_patch(device) == (0, 1, keyframe)
    assert gateway.sample("ams_gateway_bytes_total", direction="down") - sent < len(keyframe) - 18 * PART_BYTES


async def test_a_device_behind_the_log_gets_the_chain_two_at_a_time(gateway: Gateway) -> None:
    for version in range(1, 6):
        await gateway.broker.patches.append(SID, entry(version - 1, version, b"p%d" % version))
    async with gateway.welcomed(running(1)) as device:
        assert (await next_patch(device), await next_patch(device)) == ((1, 2, b"p2"), (2, 3, b"p3"))
        await no_patch(device)
        await apply(device, 2)
        assert await next_patch(device) == (3, 4, b"p4")
        await apply(device, 4)
        assert await next_patch(device) == (4, 5, b"p5")
        await apply(device, 5)
        await no_patch(device)
    assert (await gateway.events(1))[0] == ("resume", {"version": 1, "digest": digest_of(1), "log_reaches": True})


async def test_a_log_longer_than_one_read_is_walked_through(gateway: Gateway) -> None:
    for version in range(1, 81):
        await gateway.broker.patches.append(SID, entry(version - 1, version, b"p%d" % version))
    async with gateway.welcomed(running(2)) as device:
        for version in range(3, 81):
            assert await next_patch(device) == (version - 1, version, b"p%d" % version)
            await apply(device, version)


async def test_a_device_ahead_of_the_log_waits_for_the_owners_keyframe(gateway: Gateway) -> None:
    await gateway.broker.patches.append(SID, entry(0, 1))
    async with gateway.welcomed(running(7)) as device:
        events = await gateway.events(1)
        assert events == [("resume", {"version": 7, "digest": digest_of(7), "log_reaches": False})]
        await gateway.publish(entry(0, 8, b"keyframe"))
        assert await next_patch(device) == (0, 8, b"keyframe")


async def test_after_a_refusal_only_what_the_owner_adds_is_sent(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await gateway.publish(entry(0, 1))
        await next_patch(device)
        refused = Refused(stream="cam0", version=1, reason="canary", running_version=0, running_digest=DIGEST0)
        await device.say(refused)
        kind, body = (await gateway.events(2))[1]
        assert (kind, body["version"], body["reason"], body["running_version"]) == ("refused", 1, "canary", 0)
        await no_patch(device)
        await gateway.publish(entry(1, 2, b"the rollback"))
        await gateway.publish(entry(0, 2, b"from where it is"))
        assert await next_patch(device) == (0, 2, b"from where it is")


async def test_a_trimmed_log_is_read_again(gateway: Gateway) -> None:
    for version in range(1, 5):
        await gateway.broker.patches.append(SID, entry(version - 1, version))
    async with gateway.welcomed() as device:
        await next_patch(device)
        await next_patch(device)
        keyframe = await gateway.broker.patches.append(SID, entry(0, 5, b"a keyframe larger than the chain" * 9))
        await gateway.broker.patches.trim(SID, before=keyframe)
        await apply(device, 2)
        assert (await next_patch(device))[:2] == (0, 5)


async def test_a_broker_that_forgot_what_the_device_runs_is_told_again(gateway: Gateway) -> None:
    async with gateway.welcomed(running(2)):
        await gateway.state(device_version="2")
        await gateway.events(1)
        await gateway.broker.directory.update(SID, {"device_version": "1", "device_digest": digest_of(1)})
        _, (kind, body) = await gateway.events(2)
        assert kind == "resume"
        assert (body["version"], body["digest"]) == (2, digest_of(2))
        await gateway.state(device_version="2", device_digest=digest_of(2))


async def test_a_broker_that_forgot_everything_is_told_again(gateway: Gateway) -> None:
    await gateway.broker.patches.append(SID, entry(0, 1))
    async with gateway.welcomed() as device:
        await next_patch(device)
        await apply(device, 1)
        await gateway.events(2)
        gateway.away.go_away()
        gateway.away.come_back(empty=True)
        events = await gateway.events(1)
        assert events == [("resume", {"version": 1, "digest": digest_of(1), "log_reaches": False})]
        state = await gateway.state(gateway="g1", connected="1", device_version="1")
        assert state["model_id"] == MODEL
        await gateway.publish(entry(0, 2, b"keyframe", fence=1))
        assert await next_patch(device) == (0, 2, b"keyframe")


async def test_an_owner_is_asked_again_for_what_the_log_lacks(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.relay.ASK_AGAIN_S", 0.05)
    async with gateway.welcomed(running(3)):
        await gateway.events(1)
        await asyncio.sleep(0.2)
        assert len(await gateway.broker.upstream.read(SID)) == 1, "nobody there to ask"
        await gateway.broker.leases.acquire(SID, "trainer", ttl_s=60)
        assert {kind for kind, _ in await gateway.events(3)} == {"resume"}


async def test_patches_come_after_a_broker_that_was_away(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await gateway.events(1)
        gateway.away.go_away()
        await no_patch(device)
        gateway.away.come_back()
        await gateway.publish(entry(0, 1))
        assert (await next_patch(device))[1] == 1


async def test_rates_are_the_owners_from_the_first_word_on(gateway: Gateway) -> None:
    wanted = Rates(stream="cam0", sampling_hz=0.5, clip_interval_s=4, uplink_kbps=90)
    await gateway.broker.directory.update(SID, {"rates": wanted.model_dump_json()})
    async with gateway.device() as device:
        welcome, _ = await device.hear(Welcome)
        assert welcome.streams[0].rates == wanted
        slower = wanted.model_copy(update={"sampling_hz": 0.1})
        await gateway.broker.directory.update(SID, {"rates": slower.model_dump_json()})
        await gateway.ring()
        assert (await device.hear(Rates))[0] == slower
        await gateway.broker.directory.update(SID, {"rates": "nonsense"})
        await gateway.ring()
        await gateway.broker.directory.update(SID, {"rates": wanted.model_dump_json()})
        await gateway.ring()
        assert (await device.hear(Rates))[0] == wanted


async def test_a_notice_is_told_once_even_over_connections(gateway: Gateway) -> None:
    notice = json.dumps({"code": "clip", "text": "clip 7 is truncated", "clip_id": "7"})
    await gateway.broker.directory.update(SID, {"notice": notice})
    async with gateway.welcomed() as device:
        told, _ = await device.hear(Notice)
        assert (told.code, told.text, told.stream) == ("clip", "clip 7 is truncated", "cam0")
        await gateway.state(notice_told=notice)
    async with gateway.welcomed() as device:
        await gateway.broker.directory.update(SID, {"notice": "no JSON"})
        await gateway.ring()
        await gateway.broker.directory.update(SID, {"notice": json.dumps({"code": "model", "text": "t" * 999})})
        await gateway.ring()
        told, _ = await device.hear(Notice)
        assert (told.code, len(told.text)) == ("model", 500)


async def test_a_device_that_does_not_acknowledge_parts_gets_only_a_window(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await gateway.publish(entry(0, 1, b"\x01" * (1 << 20)))
        await gateway.publish(entry(1, 2, b"\x02" * (1 << 20)))
        parts = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    data = await device.socket.recv(decode=False)
                    parts += b'"type":"part"' in data[:200]
        assert parts == WINDOW_PARTS


async def test_takeovers_are_not_relayed(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await gateway.publish(PatchEntry("takeover", 3, 0, 0))
        await gateway.publish(entry(0, 1, fence=3))
        assert (await next_patch(device))[:2] == (0, 1)


async def test_health_readiness_and_metrics(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        gateway.away.go_away()
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert "broker" in answer.json()["reason"]
        assert (await client.get("/healthz")).status_code == 200
        gateway.away.come_back()
        assert (await client.get("/readyz")).status_code == 200
        await gateway.service.drain()
        assert (await client.get("/readyz")).json()["reason"] == "draining"
        metrics = await client.get("/metrics")
    assert "ams_gateway_connections 0.0" in metrics.text


async def test_a_broker_that_hangs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.service.READY_DEADLINE_S", 0.05)
    async with serving() as gateway:
        monkeypatch.setattr(gateway.away, "ping", lambda: asyncio.sleep(60))
        assert "did not answer" in await gateway.service.why_not_ready()
