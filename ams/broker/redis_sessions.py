"""Who is there and who owns what, on Redis: session directory, leases, doorbells, enrolled devices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ams.broker import keys
from ams.broker.redis_connection import MAX_BLOCK_S, RedisConnection
from ams.broker.redis_logs import last_patch_id
from ams.broker.redis_stream import append, entries, expiring, text
from ams.errors import BrokerError, BrokerUnavailableError
from ams.ports import Lease


class RedisDirectory:
    """SessionDirectory."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def touch(self, sid: str, now_s: float) -> None:
        """Note that a session was seen; an older time than the one noted changes nothing."""
        sessions = keys.SESSIONS().name
        await self._redis.batch(
            ("ZADD", sessions, "GT", now_s, sid),
            ("ZREMRANGEBYRANK", sessions, 0, -keys.MAX_SESSIONS - 1),
        )

    async def seen_since(self, since_s: float) -> Sequence[str]:
        """Session ids seen at or after `since_s`, latest first."""
        reply = await self._redis.call(
            "ZREVRANGEBYSCORE", keys.SESSIONS().name, "+inf", since_s, "LIMIT", 0, keys.MAX_LISTED_SESSIONS
        )
        return [str(sid, "utf-8") for sid in reply]

    async def forget_before(self, before_s: float) -> int:
        """Drop sessions last seen before `before_s`; their other keys expire by themselves."""
        return int(await self._redis.call("ZREMRANGEBYSCORE", keys.SESSIONS().name, "-inf", f"({before_s}"))

    async def update(self, sid: str, fields: Mapping[str, str]) -> None:
        """Set fields of a session's state."""
        if not fields:
            return
        key = keys.STATE(sid)
        flat = [item for pair in fields.items() for item in pair]
        await self._redis.batch(("HSET", key.name, *flat), expiring(key))

    async def state(self, sid: str) -> dict[str, str]:
        """The state of a session; empty when unknown."""
        flat = await self._redis.call("HGETALL", keys.STATE(sid).name)
        words = [str(item, "utf-8") for item in flat]
        return dict(zip(words[::2], words[1::2], strict=True))


class RedisLeases:
    """Leases: a value that expires, changed only while it is what we last saw (WATCH, no scripts)."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def acquire(self, sid: str, owner: str, *, ttl_s: float) -> Lease | None:
        """Take a free session, or one that an earlier life of this owner held, with a fence above all before."""
        lease = keys.LEASE(sid).name
        seen = await self._redis.call("GET", lease)
        if seen is not None and _owner(seen) != owner:
            return None
        fence = await self._next_fence(sid)
        taken = Lease(sid, owner, fence)
        done = await self._redis.batch_if(lease, seen, ("SET", lease, _value(taken), "PX", _ttl_ms(ttl_s)))
        return taken if done is not None else None

    async def _next_fence(self, sid: str) -> int:
        """A new fence, above the patch log's too: the counter may have been lost where the log was not."""
        key = keys.FENCE(sid)
        fence, _ = await self._redis.batch(("INCR", key.name), expiring(key))
        logged, _ = await last_patch_id(self._redis, sid)
        if fence <= logged:
            fence = await self._redis.call("INCRBY", key.name, logged - fence + 1)
        return int(fence)

    async def renew(self, lease: Lease, *, ttl_s: float) -> bool:
        """Keep a session; False when it is no longer ours."""
        key, fence = keys.LEASE(lease.sid).name, keys.FENCE(lease.sid)
        replies = await self._redis.batch_if(
            key,
            _value(lease),
            ("PEXPIRE", key, _ttl_ms(ttl_s)),
            expiring(fence),
        )
        return replies is not None and replies[0] == 1

    async def release(self, lease: Lease) -> None:
        """Let a session go, if it is still ours."""
        key = keys.LEASE(lease.sid).name
        await self._redis.batch_if(key, _value(lease), ("DEL", key))

    async def owner(self, sid: str) -> str | None:
        """The current owner, or None."""
        value = await self._redis.call("GET", keys.LEASE(sid).name)
        return None if value is None else _owner(value)


class RedisDoorbell:
    """Doorbell: a short stream per process, read from where the last wait ended.

    The first wait reads from the oldest ring, so nothing that rang while the process was starting is missed; what it
    finds from an earlier life costs one look at a session each.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection
        self._heard: dict[str, str] = {}

    async def ring(self, process: str, sid: str) -> None:
        """Tell `process` that something happened in `sid`."""
        await append(self._redis, keys.BELL(process), {"sid": sid})

    async def wait(self, process: str, *, wait_s: float) -> set[str]:
        """Session ids that rang since the last wait; empty after `wait_s` without a ring."""
        key = keys.BELL(process)
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while True:
            left_s = deadline_s - asyncio.get_running_loop().time()
            block: tuple[str | int, ...] = ()
            if left_s > 0:
                block = ("BLOCK", max(1, int(min(left_s, MAX_BLOCK_S) * 1000)))  # 0 would mean for ever
            heard = self._heard.get(process, "0-0")
            try:
                reply = await (self._redis.block if block else self._redis.call)(
                    "XREAD", "COUNT", 2 * (key.maxlen or 1), *block, "STREAMS", key.name, heard
                )
            except BrokerUnavailableError:
                # What comes back may be another server whose clock, and so whose ids, are behind.
                self._heard.pop(process, None)
                raise
            rings: list[Any] = [ring for _, found in reply or () for ring in entries(found)]
            if rings:
                self._heard[process] = rings[-1][0]
                return {text(fields, b"sid") for _, fields in rings}
            if not block:
                return set()


class RedisDevices:
    """Devices."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def enrol(self, device: str, token_hash: str) -> None:
        """Add a device, or replace its token."""
        await self._redis.call("HSET", keys.DEVICES().name, device, token_hash)

    async def token_hash(self, device: str) -> str | None:
        """Hex SHA-256 of the device's token, or None."""
        value = await self._redis.call("HGET", keys.DEVICES().name, device)
        return None if value is None else str(value, "ascii")

    async def revoke(self, device: str) -> None:
        """The device may no longer connect."""
        await self._redis.call("HDEL", keys.DEVICES().name, device)


def _value(lease: Lease) -> bytes:
    return json.dumps({"owner": lease.owner, "fence": lease.fence}, separators=(",", ":")).encode()


def _owner(value: bytes) -> str:
    try:
        return str(json.loads(value)["owner"])
    except (ValueError, KeyError, TypeError) as error:
        raise BrokerError(f"a lease says {value[:80]!r}, expected JSON with an owner: delete it") from error


def _ttl_ms(ttl_s: float) -> int:
    longest_s = keys.LEASE.ttl_s or 0
    if not 0 < ttl_s <= longest_s:
        raise BrokerError(f"a lease lasts between 0 and {longest_s} s, {ttl_s} s were asked for")
    return max(1, int(ttl_s * 1000))
