"""Clips over connections that break: both ends of the protocol in memory, no sockets."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from ams.clock import ScaledClock
from ams.core.messages import Clip, FrameStamp, Hello, Nack, Rates, StreamHello, StreamWelcome, Welcome
from ams.core.session import Connection, Role
from ams.core.transfer import Inbox, Outbox
from edge_agent.clip_dispatch import CLIPS_IN_FLIGHT, ClipDispatch
from edge_agent.counters import Counters
from edge_agent.spool import Spool, SpooledClip


class Pair:
    """A device with a dispatch and a server that keeps its inbox, over one connection after another."""

    def __init__(self) -> None:
        self.spool = Spool(max_clips=8, max_bytes=4 << 20)
        self.outbox = Outbox()
        self.counters = Counters()
        self.woken = 0
        self.clips = ClipDispatch(self.spool, self.outbox, self.counters, ScaledClock(), wake=self._woken)
        self.inbox = Inbox(4 << 20)
        self.arrived: list[tuple[Clip, bytes]] = []
        self.parts = 0
        self.connect()

    def connect(self) -> None:
        """A new connection: Hello, Welcome with what the server has of unfinished transfers."""
        self.clips.connection_lost()
        self.device = Connection(Role.DEVICE, Inbox(1 << 20), self.outbox, now_s=0)
        self.server = Connection(Role.SERVER, self.inbox, Outbox(), now_s=0)
        stream = StreamHello(name="cam0", model_id="0" * 64, digest="0" * 64)
        self.device.send(Hello(device="d", token="t", boot_id="b", sent_ns=0, streams=(stream,)))
        hello = self.device.data_to_send(0)
        assert hello is not None
        self.server.receive(hello, 0)
        rates = Rates(stream="cam0", sampling_hz=1, clip_interval_s=1, uplink_kbps=100)
        ours = StreamWelcome(name="cam0", session="d/cam0", rates=rates, max_clip_bytes=1 << 20)
        self.server.send(Welcome(streams=(ours,), partial=self.inbox.progress()))
        self.to_device()
        self.clips.welcomed(0)

    def to_device(self) -> None:
        while (data := self.server.data_to_send(0)) is not None:
            self.device.receive(data, 0)

    def to_server(self, limit: int = 1000) -> None:
        """Move up to `limit` messages up, and the answers down."""
        for _ in range(limit):
            data = self.device.data_to_send(0)
            if data is None:
                return
            self.parts += b'"type":"part"' in data[:200]
            for event in self.server.receive(data, 0):
                assert isinstance(event.message, Clip)
                self.arrived.append((event.message, event.payload))
            self.to_device()

    def _woken(self) -> None:
        self.woken += 1


def clip(number: int, size: int) -> SpooledClip:
    header = Clip(
        stream="cam0",
        clip_id=f"{number:032x}",
        model_id="0" * 64,
        width=64,
        height=48,
        boot_id="boot",
        sent_ns=0,
        frames=(FrameStamp(seq=number, t_ns=number, version=0),),
    )
    return SpooledClip(header, np.random.default_rng(number).bytes(size))


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_clips_stay_until_acknowledged(pair: Pair) -> None:
    pair.clips.offer(clip(1, 500))
    assert pair.woken == 1
    pair.clips.feed(pair.device, 0)
    pair.to_server()
    assert [header.clip_id for header, _ in pair.arrived] == [clip(1, 0).clip_id]
    assert len(pair.spool) == 1
    pair.clips.acknowledged(clip(1, 0).clip_id)
    pair.clips.acknowledged(clip(1, 0).clip_id)  # twice is once
    assert len(pair.spool) == 0
    assert pair.counters.clips_acknowledged == 1


def test_clip_is_stamped_when_it_is_sent(pair: Pair) -> None:
    pair.clips.offer(clip(1, 500))
    pair.clips.feed(pair.device, 0)
    pair.to_server()
    assert pair.arrived[0][0].sent_ns > 0


def test_only_so_many_clips_are_under_way(pair: Pair) -> None:
    for number in range(7):
        pair.clips.offer(clip(number, 100))
    pair.clips.feed(pair.device, 0)
    pair.to_server()
    assert len(pair.arrived) == CLIPS_IN_FLIGHT
    pair.clips.acknowledged(clip(0, 0).clip_id)
    pair.clips.feed(pair.device, 0)
    pair.to_server()
    assert len(pair.arrived) == CLIPS_IN_FLIGHT + 1


def test_only_one_large_clip_is_in_parts(pair: Pair) -> None:
    for number in range(3):
        pair.clips.offer(clip(number, 200_000))
    pair.clips.feed(pair.device, 0)
    assert len(pair.outbox) == 1
    pair.to_server()
    pair.clips.feed(pair.device, 0)
    assert len(pair.outbox) == 1
    pair.to_server()
    assert len(pair.arrived) == 2


def test_cut_transfer_goes_on_where_it_stopped(pair: Pair) -> None:
    big = clip(1, 300_000)  # 19 parts
    pair.clips.offer(big)
    pair.clips.feed(pair.device, 0)
    pair.to_server(limit=10)
    pair.connect()
    pair.clips.feed(pair.device, 0)
    pair.to_server()
    assert [payload for _, payload in pair.arrived] == [big.payload]
    assert pair.parts == 19
    pair.clips.feed(pair.device, 0)
    assert pair.device.data_to_send(0) is None  # it awaits its acknowledgement and is not sent again


def test_clip_without_acknowledgement_is_sent_again_on_the_next_connection(pair: Pair) -> None:
    pair.clips.offer(clip(1, 500))
    pair.clips.feed(pair.device, 0)
    pair.to_server()
    pair.connect()
    pair.clips.feed(pair.device, 0)
    pair.to_server()
    assert [header.clip_id for header, _ in pair.arrived] == [clip(1, 0).clip_id] * 2


def test_nack_with_a_delay_sends_the_clip_again_after_it(pair: Pair) -> None:
    pair.clips.offer(clip(1, 500))
    pair.clips.feed(pair.device, 0)
    pair.to_server()
    pair.clips.not_taken(Nack(stream="cam0", clip_id=clip(1, 0).clip_id, code="busy", retry_after_s=20), 0)
    assert pair.clips.due_in_s(0) == 20
    pair.clips.feed(pair.device, 19)
    assert pair.device.data_to_send(0) is None
    pair.clips.feed(pair.device, 20)
    pair.to_server()
    assert len(pair.arrived) == 2


def test_nack_without_a_delay_ends_a_clip(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.clips.offer(clip(1, 500))
    with caplog.at_level(logging.WARNING):
        pair.clips.not_taken(Nack(stream="cam0", clip_id=clip(1, 0).clip_id, code="model", text="other model"), 0)
    assert len(pair.spool) == 0
    assert pair.counters.clips_dropped == 1
    assert "does not take a clip: other model (model)" in caplog.text


def test_full_spool_is_counted_and_said(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(10):
            pair.clips.offer(clip(number, 10))
    assert pair.counters.clips_dropped == 2
    assert "the spool is full" in caplog.text


def test_drained_waits_for_the_last_acknowledgement(pair: Pair) -> None:
    async def scenario() -> None:
        assert await pair.clips.drained(0.01)
        pair.clips.offer(clip(1, 10))
        assert not await pair.clips.drained(0.01)
        asyncio.get_running_loop().call_soon(pair.clips.acknowledged, clip(1, 0).clip_id)
        assert await pair.clips.drained(5)

    asyncio.run(scenario())
