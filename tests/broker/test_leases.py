"""Leases: one owner at a time, fences that only grow."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ams.errors import BrokerError
from ams.ports import Broker, Lease, PatchEntry

pytestmark = pytest.mark.anyio

SID = "pi/front"


async def until_free(broker: Broker) -> None:
    for _ in range(1000):
        if await broker.leases.owner(SID) is None:
            return
        await asyncio.sleep(0.002)
    pytest.fail("the lease did not expire")


async def test_one_owner_at_a_time(broker: Broker) -> None:
    assert await broker.leases.owner(SID) is None
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease == Lease(SID, "trainer-1", 1)
    assert await broker.leases.acquire(SID, "trainer-2", ttl_s=60) is None
    assert await broker.leases.owner(SID) == "trainer-1"
    assert await broker.leases.acquire("pi/rear", "trainer-2", ttl_s=60) == Lease("pi/rear", "trainer-2", 1)


async def test_race_has_one_winner(broker: Broker) -> None:
    async with asyncio.TaskGroup() as tasks:
        racing = [tasks.create_task(broker.leases.acquire(SID, f"trainer-{n}", ttl_s=60)) for n in range(8)]
    winners = [lease for task in racing if (lease := task.result()) is not None]
    assert len(winners) == 1
    assert await broker.leases.owner(SID) == winners[0].owner


async def test_lease_expires_and_the_fence_grows(broker: Broker) -> None:
    first = await broker.leases.acquire(SID, "trainer-1", ttl_s=0.03)
    assert first is not None
    await until_free(broker)
    second = await broker.leases.acquire(SID, "trainer-2", ttl_s=60)
    assert second is not None
    assert second.fence > first.fence
    assert not await broker.leases.renew(first, ttl_s=60), "it is lost, and the loser hears so"
    await broker.leases.release(first)
    assert await broker.leases.owner(SID) == "trainer-2", "releasing a lost lease is harmless"


async def test_renewing_sets_a_new_lifetime(broker: Broker) -> None:
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease is not None
    assert await broker.leases.renew(lease, ttl_s=60)
    assert await broker.leases.owner(SID) == "trainer-1"
    assert await broker.leases.renew(lease, ttl_s=0.03)
    await until_free(broker)


async def test_expired_lease_cannot_be_renewed(broker: Broker) -> None:
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=0.01)
    assert lease is not None
    await until_free(broker)
    assert not await broker.leases.renew(lease, ttl_s=60)
    assert await broker.leases.owner(SID) is None


async def test_release_frees_at_once(broker: Broker) -> None:
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease is not None
    await broker.leases.release(lease)
    assert await broker.leases.owner(SID) is None
    await broker.leases.release(lease)
    again = await broker.leases.acquire(SID, "trainer-2", ttl_s=60)
    assert again is not None
    assert again.fence > lease.fence


async def test_restarted_owner_takes_its_session_back_with_a_new_fence(broker: Broker) -> None:
    before = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    after = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert before is not None
    assert after is not None
    assert after.fence > before.fence
    assert not await broker.leases.renew(before, ttl_s=60)
    assert await broker.leases.renew(after, ttl_s=60)


async def test_concurrent_renewals_of_one_owner_succeed(broker: Broker) -> None:
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease is not None
    async with asyncio.TaskGroup() as tasks:
        renewing = [tasks.create_task(broker.leases.renew(lease, ttl_s=60)) for _ in range(3)]
    assert all(task.result() for task in renewing)


async def test_stranger_cannot_renew_or_release(broker: Broker) -> None:
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease is not None
    for other in (replace(lease, owner="trainer-2"), replace(lease, fence=lease.fence + 1)):
        assert not await broker.leases.renew(other, ttl_s=60)
        await broker.leases.release(other)
    assert await broker.leases.owner(SID) == "trainer-1"


async def test_fence_is_above_what_the_patch_log_has_seen(broker: Broker) -> None:
    """The counter may be lost where the log was not; a fence below the log's would be refused for ever."""
    await broker.patches.append(SID, PatchEntry("takeover", 7, 0, 0))
    lease = await broker.leases.acquire(SID, "trainer-1", ttl_s=60)
    assert lease is not None
    assert lease.fence > 7
    await broker.patches.append(SID, PatchEntry("takeover", lease.fence, 0, 0))


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, 1e6])
async def test_lifetime_out_of_range_is_refused(broker: Broker, ttl_s: float) -> None:
    with pytest.raises(BrokerError, match="a lease lasts between"):
        await broker.leases.acquire(SID, "trainer-1", ttl_s=ttl_s)
    assert await broker.leases.owner(SID) is None
