"""The in-process adapter of the broker's ports: which object keeps which promise.

A real adapter with the same ids, bounds and fencing as the Redis one, for one process and one event loop. Nothing
outlives the process. Tests pass their own `now` and use `broker.connection` to make it go away and come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from ams.broker.memory_clips import MemoryClips
from ams.broker.memory_connection import MemoryConnection
from ams.broker.memory_logs import MemoryLabelLog, MemoryPatchLog, MemoryScoreLog, MemoryUpstream
from ams.broker.memory_sessions import MemoryDevices, MemoryDirectory, MemoryDoorbell, MemoryLeases
from ams.ports import Broker

_brokers: WeakValueDictionary[str, Broker] = WeakValueDictionary()


def open_memory(name: str) -> Broker:
    """The memory broker of this name; everybody in this process gets the same, and it goes with the last of them."""
    broker = _brokers.get(name)
    if broker is None:
        broker = _brokers[name] = new_memory()
    return broker


def new_memory(now: Callable[[], float] = time.time) -> Broker:
    """A memory broker of one's own. `now` gives Unix seconds."""
    connection = MemoryConnection(now)
    patches = MemoryPatchLog(connection)
    return Broker(
        clips=MemoryClips(connection),
        labelled=MemoryLabelLog(connection),
        patches=patches,
        upstream=MemoryUpstream(connection),
        scores=MemoryScoreLog(connection),
        directory=MemoryDirectory(connection),
        leases=MemoryLeases(connection, patches),
        bell=MemoryDoorbell(connection),
        devices=MemoryDevices(connection),
        connection=connection,
    )
