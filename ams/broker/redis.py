"""The Redis adapter of the broker's ports: which object keeps which promise."""

from __future__ import annotations

from functools import partial

from ams.broker.redis_clips import RedisClipQueue
from ams.broker.redis_connection import COMMAND_TIMEOUT_S, RedisConnection
from ams.broker.redis_logs import RedisLabelLog, RedisPatchLog, RedisScoreLog, RedisUpstream
from ams.broker.redis_sessions import RedisDevices, RedisDirectory, RedisDoorbell, RedisLeases
from ams.ports import Broker


def open_redis(url: str, *, shards: int = 1, timeout_s: float = COMMAND_TIMEOUT_S) -> Broker:
    """All ports on the Redis or Valkey server at `url`; connects at the first operation.

    `timeout_s` is the deadline for each connection and reply. Raises ConfigError for a URL that redis-py refuses.
    """
    connection = RedisConnection(url, timeout_s=timeout_s)
    return Broker(
        clips=partial(RedisClipQueue, connection, shards=shards),
        labelled=RedisLabelLog(connection),
        patches=RedisPatchLog(connection),
        upstream=RedisUpstream(connection),
        scores=RedisScoreLog(connection),
        directory=RedisDirectory(connection),
        leases=RedisLeases(connection),
        bell=RedisDoorbell(connection),
        devices=RedisDevices(connection),
        connection=connection,
    )
