"""The live relay: the newest message for everybody, whatever the agent sends."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

import ams.demo.live
from ams.demo.feed import Feed
from ams.demo.live import LiveRelay


def message(t_s: Any = 1.0, **more: Any) -> bytes:
    header = json.dumps({"t_s": t_s, "caption": "day", **more}).encode()
    return struct.pack("<I", len(header)) + header + b"pictures"


def headed(header: bytes) -> bytes:
    return struct.pack("<I", len(header)) + header


BROKEN = {
    "nothing": b"",
    "too short for a length": b"\x01\x00",
    "a length beyond the end": struct.pack("<I", 2**32 - 1) + b'{"t_s": 1.0',
    "no header": struct.pack("<I", 0) + b"pictures",
    "no JSON": headed(b"not json"),
    "no UTF-8": headed(b'{"caption": "\xff\xfe"}'),
    "a list": headed(b"[1, 2]"),
    "a number": headed(b"5"),
    "null": headed(b"null"),
    "no time": headed(b"{}"),
    "a time that is none": headed(b'{"t_s": "soon"}'),
    "no time at all": headed(b'{"t_s": null}'),
    "not a number": headed(b'{"t_s": NaN}'),
    "endless": headed(b'{"t_s": 1.0, "latency_ms": Infinity}'),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_message_is_survived_and_passed_on_to_nobody(feed: Feed, what: str) -> None:
    relay = LiveRelay("", feed.hear)

    async def scenario() -> bytes:
        relay._take(message(1.0))
        relay._take(BROKEN[what])
        return await relay.next(b"")

    assert asyncio.run(scenario()) == message(1.0)
    assert [scene["t_s"] for scene in feed.state(frames=0, phases=0, links=0)["scenes"]] == [0.0]
    json.dumps(feed.state(frames=0, phases=0, links=0), allow_nan=False)


def test_a_first_message_that_is_broken_leaves_no_trace(feed: Feed) -> None:
    relay = LiveRelay("", feed.hear)
    for broken in BROKEN.values():
        relay._take(broken)
    assert feed.state(frames=0, phases=0, links=0)["device"] is None
    relay._take(message(7.0))
    state = feed.state(frames=0, phases=0, links=0)
    assert state["scenes"] == [{"t_s": 0.0, "name": "day"}]
    assert state["now_s"] == 93.0


def test_headers_are_heard_before_the_message_is_passed_on() -> None:
    heard: list[dict[str, Any]] = []
    relay = LiveRelay("", heard.append)
    relay._take(message(1.0, version=3))
    relay._take(message(2.0, version=4))
    assert [(header["t_s"], header["version"]) for header in heard] == [(1.0, 3), (2.0, 4)]


def test_whoever_comes_gets_the_newest_message_at_once() -> None:
    relay = LiveRelay("", lambda header: None)

    async def scenario() -> bytes:
        for t_s in (1.0, 2.0, 3.0):
            relay._take(message(t_s))
        return await relay.next(b"")

    assert asyncio.run(scenario()) == message(3.0)


def test_who_has_seen_the_newest_waits_for_the_next() -> None:
    relay = LiveRelay("", lambda header: None)

    async def scenario() -> None:
        waiting = asyncio.create_task(relay.next(b""))
        await asyncio.sleep(0)
        assert not waiting.done(), "there is none yet"
        relay._take(message(1.0))
        seen = await waiting
        waiting = asyncio.create_task(relay.next(seen))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        relay._take(message(2.0))
        assert await waiting == message(2.0)

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_frame_that_looks_the_same_is_a_new_one() -> None:
    relay = LiveRelay("", lambda header: None)

    async def scenario() -> None:
        relay._take(message(1.0))
        seen = await relay.next(b"")
        relay._take(message(1.0))
        assert await relay.next(seen) is not seen

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_slow_watcher_misses_messages_and_all_watchers_get_the_newest() -> None:
    relay = LiveRelay("", lambda header: None)

    async def scenario() -> None:
        relay._take(message(0.0))
        first = await relay.next(b"")
        watchers = [asyncio.create_task(relay.next(first)) for _ in range(3)]
        await asyncio.sleep(0)
        for t_s in (1.0, 2.0, 3.0):
            relay._take(message(t_s))
        assert await asyncio.gather(*watchers) == [message(3.0)] * 3

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_without_a_preview_there_is_nothing_to_do() -> None:
    asyncio.run(asyncio.wait_for(LiveRelay("", lambda header: None).run(), 10))


@pytest.mark.e2e
def test_it_listens_again_after_broken_messages_and_after_the_agent_went_away(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ams.demo.live, "RETRY_S", 0.01)
    visits = 0

    async def agent(socket: ServerConnection) -> None:
        nonlocal visits
        visits += 1
        assert socket.request is not None
        assert "Origin" not in socket.request.headers, "the agent's preview refuses web pages"
        await socket.send("text is not heeded")
        for broken in BROKEN.values():
            await socket.send(broken)
        await socket.send(message(float(visits)))
        if visits > 1:
            await socket.wait_closed()

    async def scenario() -> None:
        async with serve(agent, "127.0.0.1", 0) as server, asyncio.timeout(20):
            port = server.sockets[0].getsockname()[1]
            relay = LiveRelay(f"ws://127.0.0.1:{port}", feed.hear)
            running = asyncio.create_task(relay.run())
            seen = b""
            while seen != message(2.0):
                seen = await relay.next(seen)
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()

    asyncio.run(scenario())
    assert visits == 2


@pytest.mark.e2e
def test_an_agent_that_is_not_there_yet_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ams.demo.live, "RETRY_S", 0.01)

    async def agent(socket: ServerConnection) -> None:
        await socket.send(message(5.0))
        await socket.wait_closed()

    async def scenario() -> None:
        async with serve(agent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
        relay = LiveRelay(f"ws://127.0.0.1:{port}", lambda header: None)
        running = asyncio.create_task(relay.run())
        await asyncio.sleep(0.05)
        assert not running.done()
        async with serve(agent, "127.0.0.1", port), asyncio.timeout(20):
            assert await relay.next(b"") == message(5.0)
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(scenario())
