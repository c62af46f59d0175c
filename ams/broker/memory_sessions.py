"""Who is there and who owns what, in memory: session directory, leases, doorbells, enrolled devices."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from ams.broker import keys
from ams.broker.memory_connection import MemoryConnection
from ams.broker.memory_logs import MemoryPatchLog
from ams.errors import BrokerError
from ams.ports import Lease


class MemoryDirectory:
    """SessionDirectory."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection
        self._seen_s: dict[str, float] = {}
        self._states: dict[str, tuple[float, dict[str, str]]] = {}
        connection.clears_with(self._seen_s.clear)
        connection.clears_with(self._states.clear)

    async def touch(self, sid: str, now_s: float) -> None:
        """Note that a session was seen; an older time than the one noted changes nothing."""
        await self._connection.reach()
        self._seen_s[sid] = max(now_s, self._seen_s.get(sid, now_s))
        if len(self._seen_s) > keys.MAX_SESSIONS:
            del self._seen_s[min(self._seen_s, key=lambda known: self._seen_s[known])]

    async def seen_since(self, since_s: float) -> Sequence[str]:
        """Session ids seen at or after `since_s`, latest first."""
        await self._connection.reach()
        latest_first = sorted(self._seen_s, key=lambda sid: self._seen_s[sid], reverse=True)
        return [sid for sid in latest_first if self._seen_s[sid] >= since_s][: keys.MAX_LISTED_SESSIONS]

    async def forget_before(self, before_s: float) -> int:
        """Drop sessions last seen before `before_s`."""
        await self._connection.reach()
        old = [sid for sid, seen_s in self._seen_s.items() if seen_s < before_s]
        for sid in old:
            del self._seen_s[sid]
        return len(old)

    async def update(self, sid: str, fields: Mapping[str, str]) -> None:
        """Set fields of a session's state."""
        known = await self.state(sid)
        if fields:
            self._states[sid] = (self._connection.now() + (keys.STATE.ttl_s or 0), known | dict(fields))

    async def state(self, sid: str) -> dict[str, str]:
        """The state of a session; empty when unknown."""
        await self._connection.reach()
        until_s, fields = self._states.get(sid, (0.0, {}))
        return dict(fields) if self._connection.now() < until_s else {}


class MemoryLeases:
    """Leases."""

    def __init__(self, connection: MemoryConnection, patches: MemoryPatchLog) -> None:
        self._connection = connection
        self._patches = patches
        self._leases: dict[str, tuple[float, Lease]] = {}
        self._fences: dict[str, int] = {}
        connection.clears_with(self._leases.clear)
        connection.clears_with(self._fences.clear)

    async def acquire(self, sid: str, owner: str, *, ttl_s: float) -> Lease | None:
        """Take a free session, or one that an earlier life of this owner held, with a fence above all before."""
        until_s = self._until_s(ttl_s)
        await self._connection.reach()
        held = self._held(sid)
        if held is not None and held.owner != owner:
            return None
        self._fences[sid] = max(self._fences.get(sid, 0), self._patches.last_fence(sid)) + 1
        lease = Lease(sid, owner, self._fences[sid])
        self._leases[sid] = (until_s, lease)
        return lease

    async def renew(self, lease: Lease, *, ttl_s: float) -> bool:
        """Keep a session; False when it is no longer ours."""
        until_s = self._until_s(ttl_s)
        await self._connection.reach()
        if self._held(lease.sid) != lease:
            return False
        self._leases[lease.sid] = (until_s, lease)
        return True

    async def release(self, lease: Lease) -> None:
        """Let a session go, if it is still ours."""
        await self._connection.reach()
        if self._held(lease.sid) == lease:
            del self._leases[lease.sid]

    async def owner(self, sid: str) -> str | None:
        """The current owner, or None."""
        await self._connection.reach()
        held = self._held(sid)
        return None if held is None else held.owner

    def _held(self, sid: str) -> Lease | None:
        until_s, lease = self._leases.get(sid, (0.0, None))
        return lease if self._connection.now() < until_s else None

    def _until_s(self, ttl_s: float) -> float:
        longest_s = keys.LEASE.ttl_s or 0
        if not 0 < ttl_s <= longest_s:
            raise BrokerError(f"a lease lasts between 0 and {longest_s} s, {ttl_s} s were asked for")
        return self._connection.now() + ttl_s


class MemoryDoorbell:
    """Doorbell: the rings that were not heard yet, the oldest lost first."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection
        self._rings: dict[str, dict[str, None]] = {}
        connection.clears_with(self._rings.clear)

    async def ring(self, process: str, sid: str) -> None:
        """Tell `process` that something happened in `sid`."""
        await self._connection.reach()
        rings = self._rings.setdefault(process, {})
        rings[sid] = None
        if len(rings) > (keys.BELL.maxlen or 0):
            del rings[next(iter(rings))]
        self._connection.wake()

    async def wait(self, process: str, *, wait_s: float) -> set[str]:
        """Session ids that rang since the last wait; empty after `wait_s` without a ring."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        while True:
            await self._connection.reach()
            rings = self._rings.pop(process, {})
            if rings or not await self._connection.wait_until(deadline_s):
                return set(rings)


class MemoryDevices:
    """Devices."""

    def __init__(self, connection: MemoryConnection) -> None:
        self._connection = connection
        self._token_hashes: dict[str, str] = {}
        connection.clears_with(self._token_hashes.clear)

    async def enrol(self, device: str, token_hash: str) -> None:
        """Add a device, or replace its token."""
        await self._connection.reach()
        self._token_hashes[device] = token_hash

    async def token_hash(self, device: str) -> str | None:
        """Hex SHA-256 of the device's token, or None."""
        await self._connection.reach()
        return self._token_hashes.get(device)

    async def revoke(self, device: str) -> None:
        """The device may no longer connect."""
        await self._connection.reach()
        self._token_hashes.pop(device, None)
