"""Devices over real sockets: who gets in, what a clip meets, how a connection ends."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ams.core.envelope import PREFIX
from ams.core.messages import Ack, Clip, Error, Nack, Notice, Ping, Refused, Stats, StreamHello, Welcome
from ams.core.transfer import PART_BYTES, Inbox, Outbox
from tests.services.gateway.conftest import DIGEST0, MODEL, SID, TEACHER, Device, Gateway, clip, hello, serving

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]


async def refusal_of(device: Device) -> tuple[Error, int | None]:
    """The Error that ends a connection, and its close code."""
    error, _ = await device.hear(Error)
    with pytest.raises(ConnectionClosed):
        await device.receive()
    return error, device.socket.close_code


async def until_closed(device: Device) -> None:
    with suppress(ConnectionClosed):
        while True:
            await device.receive()


async def test_a_device_is_welcomed(gateway: Gateway) -> None:
    async with gateway.device() as device:
        welcome, _ = await device.hear(Welcome)
        (stream,) = welcome.streams
        assert (stream.name, stream.session, stream.max_clip_bytes) == ("cam0", SID, 1 << 20)
        rates = stream.rates
        assert (rates.stream, rates.sampling_hz, rates.clip_interval_s, rates.uplink_kbps) == ("cam0", 1, 10, 200)
        state = await gateway.state(connected="1")
        assert state["model_id"] == MODEL
        assert state["gateway"] == "g1"
        assert (state["device_version"], state["device_digest"]) == ("0", DIGEST0)
        assert list(await gateway.broker.directory.seen_since(time.time() - 60)) == [SID]
        assert await gateway.events(1) == [("resume", {"version": 0, "digest": DIGEST0, "log_reaches": True})]
        assert gateway.sample("ams_gateway_connections") == 1
    await gateway.state(connected="0")


async def test_every_stream_of_a_device_has_its_session(gateway: Gateway) -> None:
    names = ("front", "back")
    streams = tuple(StreamHello(name=name, model_id=MODEL, digest=DIGEST0) for name in names)
    async with gateway.device(hello(*streams)) as device:
        welcome, _ = await device.hear(Welcome)
        assert [stream.session for stream in welcome.streams] == ["cam/front", "cam/back"]
        await device.say(clip(stream="back"), b"video")
        assert (await device.hear(Ack))[0].stream == "back"
    (queued,) = await gateway.broker.clips(TEACHER).take("l", count=9, wait_s=0)
    assert queued.sid == "cam/back"


@pytest.mark.parametrize("changes", [{"token": "wrong"}, {"token": ""}, {"device": "stranger"}])
async def test_wrong_tokens_and_unknown_devices_get_the_same_answer(
    gateway: Gateway, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway.device(hello(**changes)) as device:
        error, code = await refusal_of(device)
    assert (error.code, error.retry, code) == ("token", False, 1008)
    assert "ams devices enrol" in error.text
    assert "wrong" not in caplog.text
    assert gateway.sample("ams_gateway_handshakes_total", result="token") == 1
    assert await gateway.broker.directory.seen_since(0) == []


async def test_another_protocol_is_refused_by_name(gateway: Gateway) -> None:
    async with gateway.device(hello(protocols=(7, 8))) as device:
        error, _ = await refusal_of(device)
    assert error.code == "protocol"
    assert "7, 8" in error.text


async def test_a_device_that_says_nothing() -> None:
    async with serving(hello_timeout_s=0.05) as gateway, connect(f"ws://127.0.0.1:{gateway.port}/v1/device") as socket:
        assert b'"hello_timeout"' in await socket.recv(decode=False)
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_another_message_before_hello(gateway: Gateway) -> None:
    async with connect(f"ws://127.0.0.1:{gateway.port}/v1/device") as socket:
        await socket.send(envelope(b'{"type":"ping"}'))
        assert b'"order"' in await socket.recv(decode=False)


def envelope(header: bytes) -> bytes:
    return PREFIX.pack(b"AMS", 1, len(header)) + header


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1", envelope(b"{"), envelope(b'{"type":"hello"}'), "a text"])
async def test_malformed_bytes_before_hello(gateway: Gateway, data: bytes | str) -> None:
    async with connect(f"ws://127.0.0.1:{gateway.port}/v1/device") as socket:
        await socket.send(data)
        assert b'"malformed"' in await socket.recv(decode=False)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1002


@pytest.mark.parametrize("data", [b"AMS?", "a text", envelope(b'{"type":"clip"}')])
async def test_malformed_bytes_later(gateway: Gateway, data: bytes | str) -> None:
    async with gateway.welcomed() as device:
        await device.socket.send(data)
        error, code = await refusal_of(device)
    assert (error.code, code) == ("malformed", 1002)


async def test_a_websocket_message_over_the_limit_is_cut_off(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await device.socket.send(b"\0" * (64 * 1024 + 1))
        await until_closed(device)
        assert device.socket.close_code == 1009


async def test_an_unknown_message_is_answered_and_skipped(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await device.socket.send(envelope(b'{"type":"telepathy"}'))
        notice, _ = await device.hear(Notice)
        assert notice.code == "unknown_message"
        await device.say(clip(), b"video")
        await device.hear(Ack)


async def test_messages_that_a_device_should_not_send_are_answered(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await device.say(Stats(stream="elsewhere", sent_ns=1, version=0))
        assert (await device.hear(Notice))[0].code == "unknown_stream"
        await device.say(Nack(stream="cam0", clip_id="0" * 32, code="no"))
        assert (await device.hear(Notice))[0].code == "unexpected"


async def test_a_second_hello_is_against_the_order(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        device.connection.send(hello())
        await device.flush()
        assert (await refusal_of(device))[0].code == "order"


async def test_a_clip_is_acknowledged_once_it_is_queued(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await device.say(clip(3), b"the video")
        ack, _ = await device.hear(Ack)
        assert (ack.of, ack.clip_id) == ("clip", clip(3).clip_id)
        (queued,) = await gateway.broker.clips(TEACHER).take("l", count=9, wait_s=0)
        assert (queued.sid, queued.clip_id, queued.payload) == (SID, clip(3).clip_id, b"the video")
        assert Clip.model_validate_json(queued.meta) == clip(3)


async def test_a_clip_that_comes_again_is_queued_once(gateway: Gateway) -> None:
    for _ in range(2):
        async with gateway.welcomed() as device:
            await device.say(clip(3), b"video")
            await device.hear(Ack)
            await device.say(clip(3), b"video")
            await device.hear(Ack)
    assert await gateway.broker.clips(TEACHER).depth() == 1
    assert gateway.sample("ams_gateway_clips_total", result="repeated") == 3


async def test_a_large_clip_comes_in_parts(gateway: Gateway) -> None:
    video = bytes(range(256)) * 1200
    async with gateway.welcomed() as device:
        await device.say(clip(), video)
        await device.hear(Ack)
    (queued,) = await gateway.broker.clips(TEACHER).take("l", count=9, wait_s=0)
    assert queued.payload == video


async def test_a_clip_cut_in_mid_transfer_goes_on_where_it_was(gateway: Gateway) -> None:
    video = bytes(range(256)) * 2000
    inbox, outbox = Inbox(1 << 24), Outbox()
    async with gateway.device(inbox=inbox, outbox=outbox) as device:
        await device.hear(Welcome)
        device.connection.send(clip(), video)
        await device.flush()
        while outbox.bytes_waiting > len(video) / 2:
            await device.receive()
    await gateway.state(connected="0")
    received = gateway.sample("ams_gateway_bytes_total", direction="up")
    async with gateway.device(inbox=inbox, outbox=outbox) as device:
        welcome, _ = await device.hear(Welcome)
        assert welcome.partial[0].next >= len(video) / 2 // PART_BYTES
        await device.flush()
        await device.hear(Ack)
    assert gateway.sample("ams_gateway_bytes_total", direction="up") - received < 0.7 * len(video)
    (queued,) = await gateway.broker.clips(TEACHER).take("l", count=9, wait_s=0)
    assert queued.payload == video


async def test_a_session_without_credit_is_told_when_to_come_back() -> None:
    async with serving(credit=2, credit_retry_s=7) as gateway, gateway.welcomed() as device:
        for number in (1, 2):
            await device.say(clip(number), b"video")
            await device.hear(Ack)
        await device.say(clip(3), b"video")
        nack, _ = await device.hear(Nack)
        assert (nack.code, nack.clip_id, nack.retry_after_s) == ("credit", clip(3).clip_id, 7)
        queue = gateway.broker.clips(TEACHER)
        await queue.done((await queue.take("l", count=1, wait_s=0))[0])
        await device.say(clip(3), b"video")
        await device.hear(Ack)


async def test_clips_that_can_never_be_taken_are_refused_for_good() -> None:
    async with serving(max_clip_bytes=1024) as gateway, gateway.welcomed() as device:
        for refused, payload, code in (
            (clip(1, stream="elsewhere"), b"video", "unknown_stream"),
            (clip(2, model_id="b" * 64), b"video", "model"),
            (clip(3), b"v" * 1025, "too_large"),
        ):
            await device.say(refused, payload)
            nack, _ = await device.hear(Nack)
            assert (nack.code, nack.clip_id, nack.retry_after_s) == (code, refused.clip_id, None)
        assert await gateway.broker.clips(TEACHER).depth() == 0


async def test_while_the_broker_is_away_clips_wait_and_devices_stay(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await gateway.events(1)
        gateway.away.go_away()
        await device.say(clip(), b"video")
        nack, _ = await device.hear(Nack)
        assert (nack.code, nack.retry_after_s) == ("broker_unavailable", 2)
        refused = Refused(stream="cam0", version=1, reason="corrupt", running_version=0, running_digest=DIGEST0)
        await device.say(refused)
        await device.say(Stats(stream="cam0", sent_ns=1, version=0, camera_fps=30))
        await device.say(clip(), b"video")
        await device.hear(Nack)
        gateway.away.come_back()
        assert [kind for kind, _ in await gateway.events(2)] == ["resume", "refused"], "nothing said was lost"
        assert '"camera_fps":30' in (await gateway.state())["stats"]
        await device.say(clip(), b"video")
        await device.hear(Ack)


async def test_clips_keep_their_order_when_one_is_told_to_come_back(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        gateway.away.go_away()
        await device.say(clip(2), b"video")
        assert (await device.hear(Nack))[0].code == "broker_unavailable"
        gateway.away.come_back()
        await device.say(clip(3), b"video")
        nack, _ = await device.hear(Nack)
        assert (nack.code, nack.clip_id) == ("order", clip(3).clip_id)
        assert nack.retry_after_s == pytest.approx(2, abs=0.5)
        for number in (1, 2, 3):
            await device.say(clip(number), b"video")
            await device.hear(Ack)
    queued = await gateway.broker.clips(TEACHER).take("l", count=9, wait_s=0)
    assert [item.clip_id for item in queued] == [clip(number).clip_id for number in (1, 2, 3)]


async def test_a_hello_while_the_broker_is_away_is_to_come_again(gateway: Gateway) -> None:
    gateway.away.go_away()
    async with gateway.device() as device:
        error, code = await refusal_of(device)
    assert (error.code, error.retry, code) == ("broker_unavailable", True, 1013)


async def test_a_second_connection_takes_over_from_the_first(gateway: Gateway) -> None:
    async with gateway.welcomed() as first, gateway.welcomed() as second:
        error, _ = await refusal_of(first)
        assert error.code == "replaced"
        await second.say(clip(), b"video")
        await second.hear(Ack)
        await gateway.state(connected="1", gateway="g1")
        assert gateway.sample("ams_gateway_connections") == 1


async def test_a_device_that_went_to_another_gateway_is_let_go(gateway: Gateway) -> None:
    async with serving(gateway.broker, name="g2") as other, gateway.welcomed() as first, other.welcomed():
        assert (await refusal_of(first))[0].code == "replaced"
        await asyncio.sleep(0.02)
        assert (await gateway.state())["connected"] == "1", "the one that left must not write over the newer one"


async def test_a_revoked_device_is_cut_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.connection.TOKEN_CHECK_S", 0.0)
    async with gateway.welcomed() as device:
        await gateway.broker.devices.revoke("cam")
        assert (await refusal_of(device))[0].code == "token"


async def test_a_silent_device_is_taken_for_dead_and_a_living_one_is_not() -> None:
    async with serving(heartbeat_s=0.05) as gateway, gateway.welcomed() as device, gateway.welcomed() as living:
        assert (await refusal_of(device))[0].code == "replaced"
        for _ in range(8):
            await asyncio.sleep(0.03)
            await living.say(Ping())
        assert gateway.sample("ams_gateway_connections") == 1
        await until_closed(living)


async def test_the_gateway_pings_when_it_has_nothing_to_say() -> None:
    async with serving(heartbeat_s=0.05) as gateway, gateway.welcomed() as device:
        data = await device.socket.recv(decode=False)
        assert b'"type":"ping"' in data


async def test_a_full_gateway_refuses_for_now() -> None:
    async with serving(max_connections=1) as gateway, gateway.welcomed(), gateway.device() as second:
        error, _ = await refusal_of(second)
    assert (error.code, error.retry) == ("full", True)


async def test_draining_tells_devices_and_takes_no_new_ones(gateway: Gateway) -> None:
    async with gateway.welcomed() as device:
        await gateway.service.drain()
        notice, _ = await device.hear(Notice)
        assert notice.code == "draining"
        with pytest.raises(ConnectionClosed):
            await device.receive()
        assert device.socket.close_code == 1012
        assert (await gateway.state())["connected"] == "0"
    async with gateway.device() as late:
        error, code = await refusal_of(late)
    assert (error.code, error.retry, code) == ("draining", True, 1012)
