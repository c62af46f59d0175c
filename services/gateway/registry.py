"""The devices of this process: who is connected, and what is kept of those who have just gone.

A device has one connection; a second one ends the first. What is kept, in bounds, lets a transfer go on where it was
cut and keeps a clip whose acknowledgement got lost from being queued twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from ams.core.transfer import Inbox

KEPT_DEVICES = 256
"""Devices without a connection of which something is kept; the ones gone longest are forgotten first."""

KEPT_CLIPS = 64
"""Clip ids kept per device, more than it may have in flight."""


@dataclass
class DeviceMemory:
    """What outlives a connection: half-received messages, and the clips that were admitted last."""

    inbox: Inbox
    _admitted: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)

    def has_admitted(self, sid: str, clip_id: str) -> bool:
        """Whether this clip is on its way already."""
        return (sid, clip_id) in self._admitted

    def admitted(self, sid: str, clip_id: str) -> None:
        """Note a clip that the broker has taken."""
        self._admitted[sid, clip_id] = None
        if len(self._admitted) > KEPT_CLIPS:
            self._admitted.popitem(last=False)

    @property
    def worth_keeping(self) -> bool:
        """False when a new memory would do as well."""
        return bool(self._admitted or self.inbox.progress())


class Connected(Protocol):
    """A connection, as far as the registry deals with it."""

    def replaced(self) -> None:
        """Another connection of the same device has come: end."""
        ...

    def ring(self, sid: str) -> None:
        """There is news for this session."""
        ...


class DeviceRegistry:
    """Connections and memories by device."""

    def __init__(self, inbox_limit_bytes: int) -> None:
        self._inbox_limit_bytes = inbox_limit_bytes
        self._connected: dict[str, tuple[Connected, DeviceMemory, asyncio.Event]] = {}
        self._kept: OrderedDict[str, DeviceMemory] = OrderedDict()

    def __len__(self) -> int:
        return len(self._connected)

    def __contains__(self, device: str) -> bool:
        return device in self._connected

    async def enter(self, device: str, connection: Connected) -> DeviceMemory:
        """Make `connection` the device's only one, and hand it the device's memory once the one before has ended."""
        while device in self._connected:
            before, _, gone = self._connected[device]
            before.replaced()
            await gone.wait()
        memory = self._kept.pop(device, None) or DeviceMemory(Inbox(self._inbox_limit_bytes))
        self._connected[device] = connection, memory, asyncio.Event()
        return memory

    def leave(self, device: str, connection: Connected) -> None:
        """The connection has ended; a device that never entered has nothing to leave."""
        held = self._connected.get(device)
        if held is None or held[0] is not connection:
            return
        _, memory, gone = self._connected.pop(device)
        gone.set()
        if memory.worth_keeping:
            self._kept[device] = memory
            while len(self._kept) > KEPT_DEVICES:
                self._kept.popitem(last=False)

    def ring(self, sid: str) -> None:
        """Tell the connection of a session's device, if it is here, that there is news."""
        held = self._connected.get(sid.partition("/")[0])
        if held is not None:
            held[0].ring(sid)
