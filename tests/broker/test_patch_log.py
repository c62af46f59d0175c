"""PatchLog: ids, order and fencing, as every adapter promises them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ams.errors import BrokerError, FencedError
from ams.ports import Broker, PatchEntry

pytestmark = pytest.mark.anyio

SID = "pi/front"


def takeover(fence: int, version: int = 0) -> PatchEntry:
    return PatchEntry("takeover", fence, version, version)


def patch(fence: int, version: int, payload: bytes = b"patch") -> PatchEntry:
    return PatchEntry("patch", fence, version - 1, version, digest=f"{version:064x}", patch=payload)


async def test_entries_come_back_in_order(broker: Broker) -> None:
    entries = [
        takeover(3),
        patch(3, 1, bytes(range(256)) * 1200),
        patch(3, 2),
        PatchEntry("keyframe", 3, 0, 2, "", b"k"),
    ]
    ids = [await broker.patches.append(SID, entry) for entry in entries]
    assert ids == ["3-1", "3-2", "3-3", "3-4"]
    expected = [replace(entry, entry_id=entry_id) for entry, entry_id in zip(entries, ids, strict=True)]
    assert await broker.patches.read(SID) == expected
    assert await broker.patches.read(SID, after="3-2") == expected[2:]
    assert await broker.patches.read(SID, after="3-1", count=1) == expected[1:2]
    assert await broker.patches.read(SID, after="3-4") == []
    assert await broker.patches.read("pi/rear") == []


async def test_old_owner_is_refused_after_takeover(broker: Broker) -> None:
    await broker.patches.append(SID, takeover(1))
    await broker.patches.append(SID, patch(1, 1))
    await broker.patches.append(SID, takeover(2, 1))
    with pytest.raises(FencedError, match="fence 2"):
        await broker.patches.append(SID, patch(1, 2))
    assert await broker.patches.append(SID, patch(2, 2)) == "2-2"
    assert [(entry.fence, entry.version) for entry in await broker.patches.read(SID)] == [
        (1, 0),
        (1, 1),
        (2, 1),
        (2, 2),
    ]


async def test_fence_is_taken_over_once(broker: Broker) -> None:
    await broker.patches.append(SID, takeover(5))
    with pytest.raises(FencedError, match="already"):
        await broker.patches.append(SID, takeover(5))
    with pytest.raises(FencedError):
        await broker.patches.append(SID, takeover(4))
    assert len(await broker.patches.read(SID)) == 1


async def test_fences_compare_as_numbers(broker: Broker) -> None:
    await broker.patches.append(SID, takeover(9))
    await broker.patches.append(SID, takeover(10))
    with pytest.raises(FencedError):
        await broker.patches.append(SID, patch(9, 1))
    for version in range(1, 12):
        await broker.patches.append(SID, patch(10, version))
    assert [entry.version for entry in await broker.patches.read(SID, after="10-9")] == [9, 10, 11]


async def test_trimmed_log_still_refuses_the_old_owner(broker: Broker) -> None:
    await broker.patches.append(SID, takeover(1))
    last = await broker.patches.append(SID, takeover(2))
    newer = await broker.patches.append(SID, PatchEntry("keyframe", 2, 0, 1, "", b"k"))
    await broker.patches.trim(SID, before=newer)
    assert [entry.entry_id for entry in await broker.patches.read(SID)] == [newer]
    await broker.patches.trim(SID, before="3-0")
    assert await broker.patches.read(SID) == []
    with pytest.raises(FencedError):
        await broker.patches.append(SID, patch(1, 1))
    assert await broker.patches.append(SID, patch(2, 2)) == "2-3" > newer > last


async def test_one_owner_may_append_concurrently(broker: Broker) -> None:
    await broker.patches.append(SID, takeover(1))
    async with asyncio.TaskGroup() as tasks:
        appending = [tasks.create_task(broker.patches.append(SID, patch(1, n))) for n in range(1, 5)]
    assert sorted(task.result() for task in appending) == ["1-2", "1-3", "1-4", "1-5"]


async def test_sessions_are_fenced_apart(broker: Broker) -> None:
    await broker.patches.append(SID, takeover(7))
    assert await broker.patches.append("pi/rear", takeover(1)) == "1-1"


async def test_fence_below_one_is_refused(broker: Broker) -> None:
    with pytest.raises(BrokerError, match="acquire a lease"):
        await broker.patches.append(SID, takeover(0))


async def test_malformed_id_is_refused(broker: Broker) -> None:
    await broker.patches.append(SID, takeover(1))
    with pytest.raises(BrokerError):
        await broker.patches.read(SID, after="latest")
