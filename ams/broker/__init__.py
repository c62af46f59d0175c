"""The brokers: `connect` turns a URL into all the ports of `ams.ports`.

Two adapters: Redis (or Valkey) between processes, and memory within one. Both keep the same promises; the contract
suite in tests/broker runs on both. This file knows the URLs; it does not connect until the first operation.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from ams.errors import ConfigError
from ams.ports import Broker

ACCEPTED = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:///PATH?db=DB or memory://NAME"
REDIS_SCHEMES = ("redis", "rediss", "unix")
REDIS_OPTIONS = ("db", "username", "password")
"""Options that a URL may carry, besides ssl_*. Others would change how replies are read."""


def connect(url: str, *, shards: int = 1) -> Broker:
    """All ports of the broker at `url`. Raises ConfigError for a URL that no adapter understands.

    Nothing is sent yet: `broker.connection.ping()` says whether it answers. `shards` splits the work queue and must
    be the same in all processes. `memory://NAME` is shared by everybody in this process who asks for the same name,
    and goes with the last of them.
    """
    parts = urlsplit(url)
    if shards < 1:
        raise ConfigError(f"a work queue has at least one shard, {shards} were asked for")
    if parts.scheme == "memory":
        name = parts.netloc + parts.path
        if not name:
            raise ConfigError("a memory broker needs a name: memory://NAME")
        from ams.broker.memory import open_memory

        return open_memory(name)
    if parts.scheme not in REDIS_SCHEMES:
        raise ConfigError(f"broker URL has the scheme {parts.scheme!r}; accepted are {ACCEPTED}")
    for option, _ in parse_qsl(parts.query, keep_blank_values=True):
        if option not in REDIS_OPTIONS and not option.startswith("ssl_"):
            raise ConfigError(f"broker URL has the option {option!r}; accepted are {', '.join(REDIS_OPTIONS)}, ssl_*")
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ConfigError(f"broker URL ends with {parts.path!r}, expected the number of a database, like /0")
    try:
        from ams.broker.redis import open_redis
    except ModuleNotFoundError as error:
        raise ConfigError(
            "a Redis broker needs the Python package 'redis': pip install 'ams-streaming[gateway]'"
        ) from error
    return open_redis(url, shards=shards)
