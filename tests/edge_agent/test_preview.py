"""The live preview over a loopback socket: who may watch, how many, and what a slow viewer gets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

import edge_agent.preview
from ams.errors import ConfigError
from ams.models.bundle import ModelBundle
from edge_agent.label_times import LabelTimes
from edge_agent.preview import MAX_VIEWERS, Preview
from edge_agent.shot import PREFIX, Shot, ShotEncoder

pytestmark = pytest.mark.e2e


def shot(version: int, *, side: int = 16) -> Shot:
    rng = np.random.default_rng(0)
    image_HWC = rng.integers(0, 256, (side, side, 3), np.uint8)
    labels_HW = rng.integers(0, 5, (side, side), np.uint8)
    return Shot(10**9, 10**9, version, image_HWC, labels_HW, "", frames=1, late=0, dropped=0, label_times=LabelTimes())


def version_of(message: bytes | str) -> int:
    assert isinstance(message, bytes)
    (size,) = PREFIX.unpack_from(message)
    return int(json.loads(message[4 : 4 + size])["version"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def watch(port: int, *, queue: int = 16) -> connect:
    return connect(f"ws://127.0.0.1:{port}/", compression=None, max_size=None, max_queue=queue)


@pytest.fixture
def preview(student: ModelBundle) -> Preview:
    return Preview(ShotEncoder(student.card), host="127.0.0.1", port=0)


def test_a_viewer_gets_what_comes_while_it_watches(preview: Preview) -> None:
    async def scenario() -> None:
        async with preview.serving() as port, asyncio.timeout(20):
            assert not preview.watched
            preview.show(shot(1))  # nobody is there
            async with watch(port) as viewer:
                await until(lambda: preview.watched)
                await viewer.send("hello")  # not heeded
                preview.show(shot(2))
                assert version_of(await viewer.recv()) == 2
                preview.show(shot(3))
                assert version_of(await viewer.recv()) == 3
            await until(lambda: not preview.watched)

    asyncio.run(scenario())


def test_nothing_is_drawn_while_nobody_watches(student: ModelBundle) -> None:
    drawn: list[int] = []

    class Counting(ShotEncoder):
        def encode(self, shot: Shot) -> bytes:
            drawn.append(shot.version)
            return super().encode(shot)

    preview = Preview(Counting(student.card), host="127.0.0.1", port=0)

    async def scenario() -> None:
        async with preview.serving() as port, asyncio.timeout(20):
            for version in range(5):
                preview.show(shot(version))
            async with watch(port) as viewer:
                await until(lambda: preview.watched)
                preview.show(shot(5))
                await viewer.recv()

    asyncio.run(scenario())
    assert drawn == [5]


def test_messages_are_few_and_always_the_newest(preview: Preview) -> None:
    async def scenario() -> list[int]:
        async with preview.serving() as port, asyncio.timeout(20), watch(port) as viewer:
            await until(lambda: preview.watched)
            loop = asyncio.get_running_loop()
            versions: list[int] = []
            start_s = loop.time()
            reading = asyncio.create_task(_read(viewer, versions))
            while (passed_s := loop.time() - start_s) < 0.55:
                preview.show(shot(int(passed_s * 1000)))
                await asyncio.sleep(0.005)
            reading.cancel()
            return versions

    versions = asyncio.run(scenario())
    assert 2 <= len(versions) <= 6  # at 0, 100, ... 500 ms
    assert min(np.diff(versions)) >= 80


async def _read(viewer: ClientConnection, versions: list[int]) -> None:
    async for message in viewer:
        versions.append(version_of(message))


def test_a_slow_viewer_misses_messages_and_holds_nobody_up(preview: Preview, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.preview, "PREVIEW_HZ", 10_000)
    large = shot(0, side=512)  # noise, about half a megabyte as a message
    count = 60

    async def scenario() -> list[int]:
        async with preview.serving() as port, asyncio.timeout(60), watch(port) as quick, watch(port, queue=1) as slow:
            await until(lambda: len(preview._viewers) == 2)
            for version in range(count):
                preview.show(replace(large, version=version))
                assert version_of(await quick.recv()) == version
            got: list[int] = []
            while not got or got[-1] < count - 1:
                got.append(version_of(await slow.recv()))
            return got

    got = asyncio.run(scenario())
    assert got == sorted(set(got))
    assert len(got) < count / 2


async def show_until_stuck(preview: Preview) -> None:
    """Send large messages until the one viewer's buffers are full and stay so."""
    (viewer,) = preview._viewers
    waiting_bytes, still = 0, 0
    while still < 20 and preview.watched:
        preview.show(shot(0, side=512))
        await asyncio.sleep(0.01)
        before_bytes, waiting_bytes = waiting_bytes, viewer.transport.get_write_buffer_size()
        still = still + 1 if waiting_bytes == before_bytes > 0 else 0


def test_a_viewer_that_never_reads_does_not_keep_the_agent_from_ending(
    preview: Preview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_agent.preview, "PREVIEW_HZ", 10_000)
    monkeypatch.setattr(edge_agent.preview, "CLOSE_TIMEOUT_S", 0.1)

    async def scenario() -> None:
        async with asyncio.timeout(10):
            async with preview.serving() as port:
                stuck = await watch(port, queue=1)
                await until(lambda: preview.watched)
                await show_until_stuck(preview)
            assert not preview.watched
            stuck.transport.abort()

    asyncio.run(scenario())


def test_a_viewer_that_never_reads_is_cut_off(preview: Preview, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.preview, "PREVIEW_HZ", 10_000)

    async def scenario() -> None:
        async with preview.serving() as port, asyncio.timeout(10):
            stuck = await watch(port, queue=1)
            await until(lambda: preview.watched)
            monkeypatch.setattr(edge_agent.preview, "SEND_TIMEOUT_S", 0.5)
            await show_until_stuck(preview)
            await until(lambda: not preview.watched)
            stuck.transport.abort()

    asyncio.run(scenario())


def test_a_web_page_may_not_watch(preview: Preview) -> None:
    async def scenario() -> None:
        async with preview.serving() as port:
            for origin in ("https://example.org", f"http://127.0.0.1:{port}", "null"):
                with pytest.raises(InvalidStatus) as refused:
                    await connect(f"ws://127.0.0.1:{port}/", origin=Origin(origin))
                assert refused.value.response.status_code == 403
            assert not preview.watched

    asyncio.run(scenario())


def test_the_fifth_viewer_is_sent_away(preview: Preview) -> None:
    async def scenario() -> None:
        async with preview.serving() as port, asyncio.timeout(20):
            viewers = [await watch(port) for _ in range(MAX_VIEWERS)]
            await until(lambda: len(preview._viewers) == MAX_VIEWERS)
            with pytest.raises(ConnectionClosed) as refused:
                await (await watch(port)).recv()
            assert refused.value.rcvd is not None
            assert refused.value.rcvd.code == 1013
            assert refused.value.rcvd.reason == "4 viewers are watching already; close one of them"
            # The others go on, and a place that gets free is taken.
            await viewers.pop().close()
            await until(lambda: len(preview._viewers) == MAX_VIEWERS - 1)
            viewers.append(await watch(port))
            await until(lambda: len(preview._viewers) == MAX_VIEWERS)
            preview.show(shot(9))
            assert [version_of(await viewer.recv()) for viewer in viewers] == [9] * MAX_VIEWERS

    asyncio.run(scenario())


def test_a_port_that_is_taken_is_said(student: ModelBundle) -> None:
    async def scenario() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            preview = Preview(ShotEncoder(student.card), host="127.0.0.1", port=port)
            with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .*--preview HOST:PORT"):
                async with preview.serving():
                    pass

    asyncio.run(scenario())
