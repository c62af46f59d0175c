"""Every Redis key of AMS, in one table: its pattern, type, bound and lifetime. Nothing else creates a key.

What stands in braces is the hash tag: Redis Cluster puts all keys with the same tag in one slot, so everything about
one session lies together, and so do a work queue and its dead letters.

Knows names and limits. Does not know commands, connections or what the values look like.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Literal

from ams.errors import BrokerError

DAY_S = 24 * 3600

MAX_QUEUED_CLIPS = 4096
"""Clips that wait or are worked on, per shard. Admission stops here, so nothing admitted is ever trimmed away."""

CREDIT_MAX_AGE_S = 600.0
"""A clip admitted longer ago than this no longer counts: credit heals when a process dies with it."""

MAX_SESSIONS = 100_000
"""Sessions in the directory; the ones not seen for longest go first."""

MAX_LISTED_SESSIONS = 10_000
"""Sessions that one listing returns."""


@dataclass(frozen=True)
class Key:
    """One key: its name, and the bounds with which it must be written."""

    name: str
    maxlen: int | None
    ttl_s: int | None


@dataclass(frozen=True)
class KeyKind:
    """A row of the table.

    `pattern` holds `<part>` where a name goes. `maxlen` bounds a stream and is approximate: whole nodes are trimmed,
    so up to 100 small entries more may remain. `ttl_s` is the longest lifetime after the last write; None means that
    the key stays.
    """

    pattern: str
    type: Literal["stream", "zset", "hash", "string"]
    holds: str
    bound: str
    maxlen: int | None = None
    ttl_s: int | None = None

    def __call__(self, *parts: str) -> Key:
        """The key for these names. Raises BrokerError for a name that would break the hash tag."""
        for part in parts:
            if "{" in part or "}" in part:
                raise BrokerError(f"a name in a broker key has no braces, but came as {part!r}: rename it")
        literals = _PART.split(self.pattern)
        name = "".join(piece for pair in zip(literals, (*parts, ""), strict=True) for piece in pair)
        return Key(name, self.maxlen, self.ttl_s)

    def matches(self, name: str) -> bool:
        """Whether a key's name belongs to this row."""
        literals = [re.escape(piece) for piece in _PART.split(self.pattern)]
        return re.fullmatch("[^{}]+".join(literals), name) is not None


_PART = re.compile(r"<[a-z]+>")

CLIPS = KeyKind(
    "ams:clips:{<teacher>:<shard>}",
    "stream",
    "work queue of clips, one consumer group of labelers",
    "credit per session and MAX_QUEUED_CLIPS, both checked at admission; entries are deleted when done",
)
DEAD = KeyKind(
    "ams:dead:{<teacher>:<shard>}",
    "stream",
    "clips that could not be dealt with, and why",
    "MAXLEN ~ 1000, a week",
    maxlen=1000,
    ttl_s=7 * DAY_S,
)
CREDIT = KeyKind(
    "ams:{<sid>}:credit",
    "zset",
    "clip ids that are queued, by Unix time of admission",
    "the session's credit; members expire after CREDIT_MAX_AGE_S",
    ttl_s=2 * int(CREDIT_MAX_AGE_S),
)
UP = KeyKind(
    "ams:{<sid>}:up",
    "stream",
    "what the owner must hear from the device",
    "MAXLEN ~ 1024, a day",
    maxlen=1024,
    ttl_s=DAY_S,
)
LABELLED = KeyKind(
    "ams:{<sid>}:labelled",
    "stream",
    "clips with their labels: the horizon in durable form",
    "trimmed by the owner to its horizon; MAXLEN ~ 512 if nobody does, a day",
    maxlen=512,
    ttl_s=DAY_S,
)
PATCHES = KeyKind(
    "ams:{<sid>}:patches",
    "stream",
    "the patch log, ids <fence>-<n>",
    "trimmed by the owner up to a keyframe (never here: a log without its keyframe is worthless), a week",
    ttl_s=7 * DAY_S,
)
SCORES = KeyKind(
    "ams:{<sid>}:scores",
    "stream",
    "what the session's clips scored and its phases gained",
    "MAXLEN ~ 4096, a day",
    maxlen=4096,
    ttl_s=DAY_S,
)
STATE = KeyKind(
    "ams:{<sid>}:state",
    "hash",
    "latest of controllers, versions, rates, notices, metrics",
    "a fixed set of fields, a day",
    ttl_s=DAY_S,
)
LEASE = KeyKind(
    "ams:{<sid>}:lease",
    "string",
    "JSON of owner and fence",
    "one value; the lease's own lifetime, at most an hour",
    ttl_s=3600,
)
FENCE = KeyKind(
    "ams:{<sid>}:fence",
    "string",
    "the highest fence given out",
    "one integer; 30 days after the last owner, longer than any log that it guards",
    ttl_s=30 * DAY_S,
)
BELL = KeyKind(
    "ams:bell:<process>",
    "stream",
    "doorbell of one process: session ids",
    "MAXLEN ~ 1024, ten minutes; rings may be lost",
    maxlen=1024,
    ttl_s=600,
)
SESSIONS = KeyKind("ams:sessions", "zset", "session ids by Unix time last seen", "MAX_SESSIONS, oldest first")
DEVICES = KeyKind("ams:devices", "hash", "SHA-256 of each device's token", "one field per device that is enrolled")

TABLE = (CLIPS, DEAD, CREDIT, UP, LABELLED, PATCHES, SCORES, STATE, LEASE, FENCE, BELL, SESSIONS, DEVICES)


def kind_of(name: str) -> KeyKind | None:
    """The row that a key's name belongs to, or None for a key that is not ours."""
    return next((kind for kind in TABLE if kind.matches(name)), None)


def shard_of(sid: str, shards: int) -> str:
    """The shard of the work queue that a session's clips go to; the same in every process."""
    return str(zlib.crc32(sid.encode()) % shards)
