"""One Redis server as AMS uses it: bounded pools, a deadline on every wait, and errors that say what to do.

Commands go out as plain tuples and come back as Redis's own RESP2 replies (lists, bytes, integers): one shape over
all versions of the client and the server. Nothing is repeated here; a caller that gets BrokerUnavailableError keeps
what it has and tries again, and by then a fresh connection is made.

Knows redis-py and how Redis fails. Does not know keys or what AMS stores. No Lua and no INFO: both are often
forbidden on managed servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ams.errors import BrokerError, BrokerUnavailableError, ConfigError

Command: TypeAlias = tuple[str | bytes | int | float, ...]

COMMAND_TIMEOUT_S = 5.0
"""For a connection, for a free place in the pool, and for each reply."""

MAX_BLOCK_S = 10.0
"""Longest blocking read; a longer wait is several. A server that vanished without a word is noticed after this."""

COMMAND_CONNECTIONS = 32
BLOCKING_CONNECTIONS = 16

WATCH_ATTEMPTS = 8

ONE_OF_A_CLUSTER = "It is one node of a Redis Cluster: point the broker URL at a proxy for the cluster"
FAILING_OVER = "It is failing over: try again"


class RedisConnection:
    """The connections of one process to one Redis server."""

    def __init__(self, url: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        self.place = _place(url)
        self._timeout_s = timeout_s
        self._commands = self._client(url, COMMAND_CONNECTIONS, timeout_s)
        # A blocking read holds its connection, so these have their own: a bell never waits behind a clip, and the
        # socket's deadline lies beyond the longest block.
        self._blocking = self._client(url, BLOCKING_CONNECTIONS, MAX_BLOCK_S + timeout_s)

    def _client(self, url: str, connections: int, read_timeout_s: float) -> Any:
        # Any: the client's raw commands carry no types.
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=connections,
                timeout=self._timeout_s,
                socket_timeout=read_timeout_s,
                socket_connect_timeout=self._timeout_s,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
                protocol=2,
                client_name="ams",
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(f"broker URL for {self.place} cannot be used: {error}") from error
        client = Redis.from_pool(pool)
        client.response_callbacks.clear()
        return client

    async def call(self, *command: str | bytes | int | float) -> Any:
        """One command and its raw reply."""
        with self._explained(str(command[0])):
            return await self._commands.execute_command(*command)

    async def block(self, *command: str | bytes | int | float) -> Any:
        """One command that may block at the server for up to MAX_BLOCK_S."""
        with self._explained(str(command[0])):
            return await self._blocking.execute_command(*command)

    async def batch(self, *commands: Command, atomic: bool = True) -> list[Any]:
        """Several commands in one round trip; `atomic` ones need keys of one slot. Raises for the first refused."""
        with self._explained(str(commands[0][0])):
            async with self._commands.pipeline(transaction=atomic) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                # Errors come as results: raising here would format every argument, payloads included.
                replies: list[Any] = await pipe.execute(raise_on_error=False)
                for reply in replies:
                    if isinstance(reply, Exception):
                        raise reply
        return replies

    async def batch_if(self, key: str, expected: bytes | None, *commands: Command) -> list[Any] | None:
        """An atomic batch that happens only while the string `key` has the value `expected`; else None."""
        with self._explained("WATCH"):
            async with self._commands.pipeline(transaction=True) as pipe:
                for _ in range(WATCH_ATTEMPTS):
                    await pipe.watch(key)
                    if await pipe.immediate_execute_command("GET", key) != expected:
                        return None
                    pipe.multi()
                    for command in commands:
                        pipe.execute_command(*command)
                    try:
                        replies: list[Any] = await pipe.execute()
                    except exceptions.WatchError:
                        continue
                    return replies
        return None

    async def ping(self) -> None:
        """Raises BrokerUnavailableError when the server does not answer."""
        await self.call("PING")

    async def close(self) -> None:
        """Give all connections back."""
        with self._explained("closing"):
            await self._commands.aclose()
            await self._blocking.aclose()

    @contextmanager
    def _explained(self, command: str) -> Iterator[None]:
        """What redis-py raises, as AMS's errors; and a cancellation, also where redis-py has lost it.

        redis-py sends under `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes together
        with the result: the task that was to end would go on for ever.
        """
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            yield
        except (exceptions.RedisError, OSError) as error:
            if task and task.cancelling() > before:
                raise asyncio.CancelledError from error
            raise explain(error, command, self.place) from error
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


def refused_with(error: BrokerError, text: str) -> bool:
    """Whether Redis itself refused a command, with this text in its reply."""
    return isinstance(error.__cause__, exceptions.ResponseError) and text in str(error.__cause__)


def explain(error: Exception, command: str, place: str) -> BrokerError:
    """The error of our tree for one of redis-py's, with what came and what to do about it."""
    said = str(error)[:200].rstrip(".")
    came = f"{type(error).__name__}: {said}" if said else type(error).__name__
    what = f"Redis at {place}, {command}: {came}"
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError | exceptions.NoPermissionError):
        return BrokerError(f"{what}. Check the user and password in the broker URL and the user's ACL")
    if isinstance(error, exceptions.BusyLoadingError):
        return BrokerUnavailableError(f"{what}. It is loading its data: wait until it is done")
    if isinstance(error, exceptions.OutOfMemoryError):
        return BrokerUnavailableError(f"{what}. Raise its maxmemory, or add labelers so that the queue drains")
    if isinstance(error, exceptions.ReadOnlyError):
        return BrokerUnavailableError(f"{what}. It is a replica: point the broker URL at the primary")
    if isinstance(error, exceptions.MovedError | exceptions.AskError):
        return BrokerError(f"{what}. {ONE_OF_A_CLUSTER}")
    if isinstance(error, exceptions.ClusterDownError | exceptions.TryAgainError | exceptions.MasterDownError):
        return BrokerUnavailableError(f"{what}. {FAILING_OVER}")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return BrokerUnavailableError(f"{what}. Check that it runs and can be reached from here; trying again may help")
    if isinstance(error, exceptions.ResponseError):
        if str(error).startswith("MISCONF"):
            return BrokerUnavailableError(f"{what}. It cannot write to its disk: make room there")
        if str(error).startswith("WRONGTYPE"):
            return BrokerError(f"{what}. Another program uses this database: give AMS one of its own")
        # Older versions of redis-py have no classes for these.
        if str(error).startswith(("MOVED", "ASK")):
            return BrokerError(f"{what}. {ONE_OF_A_CLUSTER}")
        if str(error).startswith(("CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN")):
            return BrokerUnavailableError(f"{what}. {FAILING_OVER}")
        if "unknown command" in str(error).lower():
            return BrokerError(f"{what}. AMS needs Redis 6.2 or newer, or Valkey")
    return BrokerError(what)


def _place(url: str) -> str:
    """Where a URL points, without its user and password."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.netloc.rpartition('@')[2]}{parts.path}"
