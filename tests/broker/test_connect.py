"""Which URLs are accepted, and what is said about the others. No server is needed."""

from __future__ import annotations

import gc
import socket
from typing import Any

import pytest
from redis._parsers.base import BaseParser

from ams.broker import connect
from ams.broker.redis_connection import RedisConnection, explain
from ams.errors import BrokerError, BrokerUnavailableError, ConfigError


def test_memory_brokers_are_shared_by_name() -> None:
    first = connect("memory://demo")
    assert connect("memory://demo") is first
    assert connect("memory://other") is not first


def test_memory_broker_goes_with_its_last_user() -> None:
    broker = connect("memory://gone")
    queue = broker.clips("teacher")
    del broker, queue
    gc.collect()
    fresh = connect("memory://gone")
    assert fresh.clips("teacher") is fresh.clips("teacher")


@pytest.mark.parametrize(
    "url",
    ["redis://host:6379/0", "redis://host", "rediss://u:p@host:6380/2?ssl_ca_certs=ca.pem", "unix:///run/r.sock?db=1"],
)
def test_redis_urls(url: str) -> None:
    assert isinstance(connect(url).connection, RedisConnection)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", "accepted are redis://"),
        ("localhost:6379", "accepted are redis://"),
        ("", "accepted are redis://"),
        ("memory://", "memory://NAME"),
        ("redis://host/zero", "number of a database"),
        ("redis://host:port/0", "cannot be used"),
        ("redis://host/0?decode_responses=true", "decode_responses"),
        ("redis://host/0?protocol=3", "protocol"),
    ],
)
def test_other_urls_are_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        connect(url)


def test_shards_are_at_least_one() -> None:
    with pytest.raises(ConfigError, match="at least one shard"):
        connect("memory://demo", shards=0)


def test_password_is_never_shown() -> None:
    connection = RedisConnection("redis://user:secret@host:6379/0")
    assert connection.place == "host:6379/0"


@pytest.mark.anyio
async def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = connect(f"redis://user:secret@127.0.0.1:{port}/0")
    with pytest.raises(BrokerUnavailableError, match="can be reached") as raised:
        await broker.connection.ping()
    assert "secret" not in str(raised.value)
    await broker.connection.close()


def _redis_error(reply: str) -> Exception:
    parser: Any = BaseParser
    error = parser.parse_error(reply)
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize(
    ("reply", "kind", "advice"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", BrokerUnavailableError, "maxmemory"),
        ("READONLY You can't write against a read only replica.", BrokerUnavailableError, "primary"),
        ("LOADING Redis is loading the dataset in memory", BrokerUnavailableError, "wait"),
        ("MISCONF Redis is configured to save RDB snapshots", BrokerUnavailableError, "disk"),
        ("CLUSTERDOWN The cluster is down", BrokerUnavailableError, "try again"),
        ("MOVED 3999 127.0.0.1:6381", BrokerError, "Cluster"),
        ("NOAUTH Authentication required.", BrokerError, "password"),
        ("WRONGPASS invalid username-password pair", BrokerError, "password"),
        ("NOPERM this user has no permissions to run the 'xadd' command", BrokerError, "ACL"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", BrokerError, "Another program"),
        ("ERR unknown command 'XAUTOCLAIM'", BrokerError, "6.2"),
        ("ERR something new", BrokerError, "something new"),
    ],
)
def test_refusals_say_what_to_do(reply: str, kind: type[BrokerError], advice: str) -> None:
    error = explain(_redis_error(reply), "XADD", "host:6379/0")
    assert type(error) is kind
    assert advice in str(error)
    assert "host:6379/0" in str(error)
    assert "XADD" in str(error)
