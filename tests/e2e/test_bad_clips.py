"""A device that sends rubbish is told so, by name, through the real services, and its next good clip is scored."""

from __future__ import annotations

import asyncio
import json
import secrets
import time

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from ams.core.envelope import ENVELOPE_VERSION, MAGIC, PREFIX
from ams.core.messages import Clip, FrameStamp, Hello, Message, Notice, StreamHello
from ams.core.session import Connection, Received, Role
from ams.core.transfer import Inbox, Outbox
from ams.video import encode_clip
from tests.blocks.street import BlockStreet
from tests.e2e.conftest import System

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.anyio]


class Device:
    """A hand-driven device on a real socket."""

    def __init__(self, socket: ClientConnection, system: System) -> None:
        self.socket = socket
        self.connection = Connection(Role.DEVICE, Inbox(1 << 24), Outbox(), now_s=time.monotonic())
        student = system.world.student
        self.model_id = student.model_id
        self.connection.send(
            Hello(
                device=system.device,
                token=system.token,
                boot_id="boot",
                sent_ns=1,
                streams=(
                    StreamHello(
                        name="cam0",
                        model_id=student.model_id,
                        digest=student.layout.digest(student.version0).hex(),
                    ),
                ),
            )
        )

    async def flush(self) -> None:
        while (data := self.connection.data_to_send(time.monotonic())) is not None:
            await self.socket.send(data)

    async def until(self, kind: type[Message], deadline_s: float = 30.0) -> Message:
        """Wait for a message of a kind."""
        async with asyncio.timeout(deadline_s):
            while True:
                await self.flush()
                data = await self.socket.recv()
                assert isinstance(data, bytes)
                for received in self.connection.receive(data, time.monotonic()):
                    assert isinstance(received, Received)
                    if isinstance(received.message, kind):
                        return received.message

    def clip(self, first: int, *, width: int = 128, height: int = 64, cut: int = 0) -> tuple[Clip, bytes]:
        """Frames first..first+4 of the street; the header claims `width` x `height`, `cut` bytes are missing."""
        street = BlockStreet(light="dusk", seed=3)
        video = encode_clip(
            np.stack([street.frame(t) for t in range(first, first + 5)]), max_bytes=100_000, interval_s=1.0
        )
        header = Clip(
            stream="cam0",
            clip_id=secrets.token_hex(16),
            model_id=self.model_id,
            width=width,
            height=height,
            boot_id="boot",
            sent_ns=(first + 5) * 10**9,
            frames=tuple(FrameStamp(seq=t, t_ns=(t + 1) * 10**9, version=0) for t in range(first, first + 5)),
        )
        return header, video[: len(video) - cut]


async def test_rubbish_is_named_and_the_stream_goes_on(system: System) -> None:
    await system.enrol()
    _, port = system.gateway()
    system.labeler().wait_ready(60)
    system.trainer().wait_ready(60)
    async with connect(f"ws://127.0.0.1:{port}/v1/device", compression=None) as socket:
        device = Device(socket, system)

        truncated, video = device.clip(0, cut=700)
        device.connection.send(truncated, video)
        notice = await device.until(Notice)
        assert isinstance(notice, Notice)
        assert notice.code == "clip"
        assert truncated.clip_id[:8] in notice.text

        wrong_size, video = device.clip(10, width=320, height=240)
        device.connection.send(wrong_size, video)
        notice = await device.until(Notice)
        assert isinstance(notice, Notice)
        assert notice.code == "clip"
        assert "128x64" in notice.text
        assert "320x240" in notice.text

        header = json.dumps({"type": "teleport"}).encode()
        await socket.send(PREFIX.pack(MAGIC, ENVELOPE_VERSION, len(header)) + header)
        notice = await device.until(Notice)
        assert isinstance(notice, Notice)
        assert notice.code == "unknown_message"
        assert "teleport" in notice.text

        device.connection.send(*device.clip(20))
        await device.flush()
        progress = await system.until("the good clip is scored", lambda p: len(p.clips) == 1, 30)
    assert len(progress.frames) == 5
    assert int(progress.state["unusable_clips"]) == 2


async def test_a_wrong_token_is_refused_and_nothing_is_learned(system: System) -> None:
    await system.enrol()
    _, port = system.gateway()
    system.token = "guessed"
    agent = system.agent(port)
    await asyncio.sleep(5)
    assert agent.returncode is None, "the device goes on inferring"
    assert "token" in agent.log_path.read_text()
    assert "guessed" not in agent.log_path.read_text()
