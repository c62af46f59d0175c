"""The agent with real sockets: a gateway that speaks the server's role, cuts connections, refuses, or is not there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ams.clock import ScaledClock
from ams.core import label_map
from ams.core.envelope import decode
from ams.core.messages import (
    Ack,
    Clip,
    Error,
    Hello,
    Message,
    Part,
    Patch,
    Rates,
    Refused,
    Stats,
    StreamWelcome,
    Welcome,
)
from ams.core.session import Connection, Role
from ams.core.transfer import Inbox, Outbox
from ams.errors import BackendError
from ams.models.bundle import ModelBundle
from ams.video import ClipEncoder, decode_clip
from edge_agent.agent import Agent, Sizes
from edge_agent.backoff import Backoff
from edge_agent.model_slot import ModelSlot
from edge_agent.onnx_runtime import OnnxRuntimeStudent
from edge_agent.packer import ClipPacker
from edge_agent.sources import FileSource
from edge_agent.spool import Spool
from edge_agent.uplink import Identity

SPEED = 4.0
HEARTBEAT_S = 5.0


class Gateway:
    """One device's server: welcomes, acknowledges clips, sends what a test tells it to, cuts where it is told to."""

    def __init__(self) -> None:
        self.inbox, self.outbox = Inbox(1 << 22), Outbox()
        self.hellos: list[Hello] = []
        self.messages: list[Message] = []
        self.clips: list[tuple[Clip, bytes]] = []
        self.parts_sent: list[int] = []
        self.cut_after_parts: int | None = None
        self.refuse_with: Error | None = None
        self.on_message: Callable[[Connection, Message], None] = lambda connection, message: None
        self.url = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with serve(self._serve, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/v1/device"
            yield

    async def _serve(self, ws: ServerConnection) -> None:
        connection = Connection(Role.SERVER, self.inbox, self.outbox, now_s=time.monotonic())
        with contextlib.suppress(ConnectionClosed):
            async for data in ws:
                assert isinstance(data, bytes)
                for event in connection.receive(data, time.monotonic()):
                    self._hear(connection, event.message, event.payload)
                while (reply := connection.data_to_send(time.monotonic())) is not None:
                    await ws.send(reply)
                    message, _ = decode(reply)
                    if isinstance(message, Error):
                        return
                    if isinstance(message, Part):
                        self.parts_sent.append(message.index)
                        if self.cut_after_parts is not None and len(self.parts_sent) >= self.cut_after_parts:
                            self.cut_after_parts = None
                            ws.transport.abort()
                            return

    def _hear(self, connection: Connection, message: Message, payload: bytes) -> None:
        self.messages.append(message)
        if isinstance(message, Hello):
            self.hellos.append(message)
            if self.refuse_with is not None:
                connection.send(self.refuse_with)
                return
            rates = Rates(stream="cam0", sampling_hz=2, clip_interval_s=2, uplink_kbps=400)
            ours = StreamWelcome(name="cam0", session="pi/cam0", rates=rates, max_clip_bytes=1 << 20)
            connection.send(Welcome(streams=(ours,), heartbeat_s=HEARTBEAT_S, partial=self.inbox.progress()))
        elif isinstance(message, Clip):
            self.clips.append((message, payload))
            connection.send(Ack(stream="cam0", of="clip", clip_id=message.clip_id))
        self.on_message(connection, message)


def make_agent(bundle: ModelBundle, video: Path, url: str, **more: object) -> Agent:
    clock = ScaledClock(SPEED)
    build = more.pop("build", None) or (
        lambda weights: OnnxRuntimeStudent(bundle.card, bundle.graph, bundle.layout, weights)
    )
    identity = Identity(
        server_url=url,
        device="pi",
        token="secret",
        boot_id="boot1",
        stream="cam0",
        model_id=bundle.model_id,
        codec="h264",
        patch_limit_bytes=1 << 22,
    )
    packer = ClipPacker(ClipEncoder(), stream="cam0", model_id=bundle.model_id, boot_id="boot1", uplink_kbps=200)
    return Agent(
        FileSource(video, clock),
        ModelSlot(bundle, build),
        packer,
        Spool(max_clips=8, max_bytes=1 << 20),
        identity,
        clock,
        Sizes(64, 48, int(more.pop("clip_width", 64)), int(more.pop("clip_height", 48))),
        drain_real_s=float(more.pop("drain_real_s", 5.0)),
        backoff=Backoff(first_s=0.05, longest_s=0.2, refused_s=0.2, rng=random.Random(0)),
    )


@pytest.fixture(scope="module")
def large(tiny: type) -> ModelBundle:
    """A student whose patches are larger than one WebSocket message."""
    return tiny.make_student(channels=64)


@pytest.mark.e2e
def test_clips_go_up_and_a_patch_comes_down_through_a_cut(large: ModelBundle, video: Path, tiny: type) -> None:
    gateway = Gateway()
    target = tiny.changed(large, large.version0, seed=1)
    patch = tiny.patch_bytes(large, (0, large.version0), (7, target))
    assert len(patch) > 65_536
    sent = False

    def on_message(connection: Connection, message: Message) -> None:
        nonlocal sent
        if isinstance(message, Clip) and not sent:
            sent = True
            gateway.cut_after_parts = 3
            connection.send(Patch(stream="cam0", base=0, target=7), patch)

    gateway.on_message = on_message

    async def scenario() -> dict[str, float | int | str]:
        async with gateway.serving(), asyncio.timeout(20):
            return await make_agent(large, video, gateway.url).run()

    totals = asyncio.run(scenario())

    # Every clip can be read, its frames are half a second apart, its labels are there.
    frames = [frame for clip, _ in gateway.clips for frame in clip.frames]
    spacing = np.diff([frame.t_ns for frame in frames])
    assert spacing.min() >= 500_000_000
    assert np.median(spacing) == 500_000_000
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    for clip, payload in gateway.clips:
        assert clip.model_id == large.model_id
        assert clip.labels is not None
        video_bytes = payload[: -clip.labels.bytes]
        decode_clip(video_bytes, codec=clip.codec, frames=len(clip.frames), width=clip.width, height=clip.height)
        assert label_map.decode(payload[-clip.labels.bytes :]).shape == (1, 48, 64)
    assert len(gateway.clips) >= 4

    # The transfer was cut and went on where it stopped.
    assert len(gateway.hellos) == 2
    (progress,) = gateway.hellos[1].partial
    assert 1 <= progress.next <= 3
    assert gateway.parts_sent[3] == progress.next
    assert len(gateway.parts_sent) <= len(patch) // 16_384 + 1 + 3

    # The version runs, is acknowledged with its digest, and is stamped on later frames.
    digest = large.layout.digest(target).hex()
    acks = [message for message in gateway.messages if isinstance(message, Ack)]
    assert [(ack.version, ack.digest) for ack in acks] == [(7, digest)]
    assert frames[0].version == 0
    assert frames[-1].version == 7
    assert (totals["version"], totals["digest"], totals["patches"]) == (7, digest, 1)
    assert totals["digest_mismatches"] == totals["patches_refused"] == totals["clips_dropped"] == 0
    assert totals["clips"] == len(gateway.clips)
    assert totals["frames"] == 80
    assert 0 < totals["inferences"] <= 80
    assert totals["bytes_down"] > len(patch)
    stats = [message for message in gateway.messages if isinstance(message, Stats)]
    assert stats
    assert stats[-1].camera_fps == pytest.approx(10, rel=0.3)


@pytest.mark.e2e
def test_bad_patch_is_refused_and_the_old_model_goes_on(student: ModelBundle, video: Path, tiny: type) -> None:
    gateway = Gateway()
    target = tiny.changed(student, student.version0, seed=1)
    good = tiny.patch_bytes(student, (0, student.version0), (1, target))

    def on_message(connection: Connection, message: Message) -> None:
        if isinstance(message, Hello):
            damaged = bytearray(good)
            damaged[60] ^= 1
            connection.send(Patch(stream="cam0", base=0, target=1), bytes(damaged))
            connection.send(Patch(stream="cam0", base=0, target=1), b"no patch")
            connection.send(Patch(stream="cam0", base=0, target=1), good)

    gateway.on_message = on_message

    async def scenario() -> dict[str, float | int | str]:
        async with gateway.serving(), asyncio.timeout(20):
            agent = make_agent(student, video, gateway.url, clip_width=96, clip_height=64)
            gateway_done = asyncio.create_task(_stop_when(agent, lambda: agent.counters.patches_applied == 1))
            totals = await agent.run()
            await gateway_done
            return totals

    totals = asyncio.run(scenario())
    refusals = [(m.reason, m.running_version) for m in gateway.messages if isinstance(m, Refused)]
    assert refusals == [("digest", 0), ("corrupt", 0)]
    assert (totals["version"], totals["patches"], totals["patches_refused"]) == (1, 1, 2)
    assert totals["digest_mismatches"] == 1
    assert all((clip.width, clip.height) == (96, 64) for clip, _ in gateway.clips)


async def _stop_when(agent: Agent, condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)
    agent.stop()


@pytest.mark.e2e
def test_without_a_gateway_it_infers_and_says_so(
    student: ModelBundle, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"ws://127.0.0.1:{port}/v1/device"

    async def scenario() -> dict[str, float | int | str]:
        async with asyncio.timeout(20):
            return await make_agent(student, video, url, drain_real_s=0.1).run()

    with caplog.at_level(logging.WARNING):
        totals = asyncio.run(scenario())
    assert totals["frames"] == 80
    assert totals["inferences"] > 60
    assert totals["inference_fps"] == pytest.approx(10, rel=0.3)
    assert totals["clips"] == totals["bytes_up"] == 0
    lines = [record.getMessage() for record in caplog.records if "not reachable" in record.getMessage()]
    assert len(lines) > 2
    assert lines[0].startswith(f"gateway not reachable at {url}: ")
    assert "; still inferring, next try in 0." in lines[0]
    assert "did not reach the gateway within" in caplog.text


@pytest.mark.e2e
def test_refused_device_keeps_inferring_and_says_what_to_do(
    student: ModelBundle, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway()
    gateway.refuse_with = Error(code="token", text="this token is not known; enrol the device again")

    async def scenario() -> dict[str, float | int | str]:
        async with gateway.serving(), asyncio.timeout(20):
            agent = make_agent(student, video, gateway.url, drain_real_s=0.0)
            stopper = asyncio.create_task(_stop_when(agent, lambda: len(gateway.hellos) == 3))
            totals = await agent.run()
            await stopper
            return totals

    with caplog.at_level(logging.ERROR):
        totals = asyncio.run(scenario())
    assert totals["inferences"] > 0
    assert "refuses this device (token): this token is not known; enrol the device again; still inf" in caplog.text


@pytest.mark.e2e
def test_version_that_fails_while_it_runs_gives_way_to_the_one_before(
    student: ModelBundle, video: Path, tiny: type
) -> None:
    gateway = Gateway()
    target = tiny.changed(student, student.version0, seed=1)

    def on_message(connection: Connection, message: Message) -> None:
        if isinstance(message, Hello):
            patch = tiny.patch_bytes(student, (0, student.version0), (1, target))
            connection.send(Patch(stream="cam0", base=0, target=1), patch)

    gateway.on_message = on_message
    built = 0

    class Fragile(tiny.Runtime):
        def predict(self, frame_HWC: np.ndarray) -> np.ndarray:
            if self.label == 2:
                raise BackendError("CUDA error")
            return super().predict(frame_HWC)

    def build(weights: np.ndarray) -> Fragile:
        nonlocal built
        built += 1
        return Fragile(built)

    async def scenario() -> dict[str, float | int | str]:
        async with gateway.serving(), asyncio.timeout(20):
            agent = make_agent(student, video, gateway.url, build=build)
            stopper = asyncio.create_task(
                _stop_when(agent, lambda: any(isinstance(m, Refused) for m in gateway.messages))
            )
            totals = await agent.run()
            await stopper
            return totals

    totals = asyncio.run(scenario())
    refused = next(m for m in gateway.messages if isinstance(m, Refused))
    assert (refused.version, refused.reason, refused.running_version) == (1, "backend", 0)
    assert totals["version"] == 0


@pytest.mark.e2e
def test_model_that_never_runs_ends_the_agent(student: ModelBundle, video: Path, tiny: type) -> None:
    class Broken(tiny.Runtime):
        def predict(self, frame_HWC: np.ndarray) -> np.ndarray:
            raise BackendError("CUDA error")

    async def scenario() -> None:
        async with asyncio.timeout(20):
            await make_agent(student, video, "ws://127.0.0.1:9/v1/device", build=lambda w: Broken(0)).run()

    with pytest.raises(BackendError, match="CUDA error"):
        asyncio.run(scenario())


@pytest.mark.e2e
def test_cancelling_ends_all_threads(student: ModelBundle, video: Path) -> None:
    gateway = Gateway()

    async def scenario() -> None:
        async with gateway.serving():
            task = asyncio.create_task(make_agent(student, video, gateway.url).run())
            async with asyncio.timeout(10):
                while not gateway.hellos:
                    await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    started_s = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - started_s < 5
