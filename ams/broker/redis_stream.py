"""Redis Streams as AMS uses them: append within the key's bounds, read after an id, trim before an id.

Knows entries as mappings of bytes. Does not know what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ams.broker.keys import Key
from ams.broker.redis_connection import Command, RedisConnection

Fields: TypeAlias = Mapping[str, str | bytes | int]
"""An entry as it is written."""

Found: TypeAlias = dict[bytes, bytes]
"""An entry as it is read."""


def adding(key: Key, fields: Fields, entry_id: str = "*") -> list[Command]:
    """The commands that append an entry and keep the stream within its bounds; the first one replies with the id."""
    bound: Command = () if key.maxlen is None else ("MAXLEN", "~", key.maxlen)
    flat = tuple(item for pair in fields.items() for item in pair)
    commands: list[Command] = [("XADD", key.name, *bound, entry_id, *flat)]
    if key.ttl_s is not None:
        commands.append(expiring(key))
    return commands


def expiring(key: Key) -> Command:
    """The command that begins a key's lifetime anew."""
    assert key.ttl_s is not None, f"{key.name} has no lifetime in the table"
    return ("EXPIRE", key.name, key.ttl_s)


async def append(connection: RedisConnection, key: Key, fields: Fields) -> str:
    """Append an entry; returns its id."""
    replies = await connection.batch(*adding(key, fields))
    return str(replies[0], "ascii")


async def read(connection: RedisConnection, key: Key, after: str, count: int) -> list[tuple[str, Found]]:
    """Up to `count` entries after an id, all from the oldest with the empty string."""
    start = f"({after}" if after else "-"
    return entries(await connection.call("XRANGE", key.name, start, "+", "COUNT", count))


async def trim(connection: RedisConnection, key: Key, before: str) -> None:
    """Drop all entries older than an id. The stream still knows its last id."""
    await connection.call("XTRIM", key.name, "MINID", "=", before)


def entries(reply: Any) -> list[tuple[str, Found]]:
    """A raw reply as ids and fields; entries that were trimmed meanwhile (nil in Redis 6.2) are left out."""
    return [
        (str(entry[0], "ascii"), dict(zip(entry[1][::2], entry[1][1::2], strict=True)))
        for entry in reply or ()
        if entry is not None and entry[1] is not None
    ]


def text(fields: Found, name: bytes) -> str:
    """A field as text; empty when an older writer did not set it."""
    return str(fields.get(name, b""), "utf-8", "replace")
