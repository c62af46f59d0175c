"""Patches between wire and slot: order, answers, overload."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ams.core.messages import Ack, Message, Patch, Refused
from ams.models.bundle import ModelBundle
from edge_agent.counters import Counters
from edge_agent.model_slot import ModelSlot, Refusal
from edge_agent.patch_intake import PATCHES_WAITING, PatchIntake


class Desk:
    """An intake with a slot, and what it answers."""

    def __init__(self, student: ModelBundle, tiny: type) -> None:
        self.tiny, self.student = tiny, student
        self.slot = ModelSlot(student, lambda weights: tiny.Runtime(0))
        self.counters = Counters()
        self.answers: list[Message] = []
        self.intake = PatchIntake(self.slot, self.counters, stream="cam0", send=self.answers.append)
        self.versions = [student.version0]
        for seed in range(8):
            self.versions.append(tiny.changed(student, self.versions[-1], seed=seed))

    def patch(self, base: int, target: int) -> bytes:
        return self.tiny.patch_bytes(self.student, (base, self.versions[base]), (target, self.versions[target]))

    def take(self, target: int, payload: bytes) -> None:
        self.intake.take(Patch(stream="cam0", base=0, target=target), payload)

    async def work_until(self, answers: int) -> None:
        task = asyncio.create_task(self.intake.run())
        async with asyncio.timeout(10):
            while len(self.answers) < answers:
                await asyncio.sleep(0.001)
        task.cancel()


@pytest.fixture
def desk(student: ModelBundle, tiny: type) -> Desk:
    return Desk(student, tiny)


def test_patches_are_applied_in_order_and_acknowledged(desk: Desk) -> None:
    async def scenario() -> None:
        for target in (1, 2, 3):
            desk.take(target, desk.patch(target - 1, target))
        await desk.work_until(3)

    asyncio.run(scenario())
    digests = [desk.student.layout.digest(n).hex() for n in desk.versions]
    assert desk.answers == [Ack(stream="cam0", of="patch", version=v, digest=digests[v]) for v in (1, 2, 3)]
    assert desk.counters.patches_applied == 3
    assert desk.counters.swap_ms > 0


def test_refusal_says_what_runs_and_old_news_are_not_counted(desk: Desk) -> None:
    async def scenario() -> None:
        desk.take(1, desk.patch(0, 1))
        desk.take(3, desk.patch(2, 3))
        desk.take(1, desk.patch(0, 1))
        await desk.work_until(3)

    asyncio.run(scenario())
    _, refused, again = desk.answers
    assert isinstance(refused, Refused)
    assert (refused.version, refused.reason, refused.running_version) == (3, "base", 1)
    assert refused.running_digest == desk.student.layout.digest(desk.versions[1]).hex()
    assert isinstance(again, Ack)
    assert again.version == 1
    assert (desk.counters.patches_applied, desk.counters.patches_refused) == (1, 1)


def test_digest_mismatch_is_counted_apart(desk: Desk) -> None:
    good = bytearray(desk.patch(0, 1))
    good[56:88] = bytes(32)

    async def scenario() -> None:
        desk.take(1, bytes(good))
        await desk.work_until(1)

    asyncio.run(scenario())
    assert isinstance(desk.answers[0], Refused)
    assert desk.answers[0].reason == "digest"
    assert (desk.counters.digest_mismatches, desk.counters.patches_refused) == (1, 1)


def test_patch_to_another_version_than_announced_is_refused(desk: Desk) -> None:
    damaged = bytearray(desk.patch(0, 1))
    damaged[20] ^= 1  # version 1 becomes 2**32 + 1; the digest, which is of the weights, still fits

    async def scenario() -> None:
        desk.take(1, bytes(damaged))
        await desk.work_until(1)

    asyncio.run(scenario())
    (refused,) = desk.answers
    assert isinstance(refused, Refused)
    assert (refused.version, refused.reason, refused.running_version) == (1, "corrupt", 0)


def test_flood_of_patches_is_refused_not_stored(desk: Desk) -> None:
    async def scenario() -> None:
        for target in range(1, PATCHES_WAITING + 3):
            desk.take(target, b"x")

    asyncio.run(scenario())
    assert [answer.reason for answer in desk.answers if isinstance(answer, Refused)] == ["overload"] * 2


def test_reverted_version_is_reported(desk: Desk) -> None:
    desk.intake.report_reverted(5, Refusal("backend", "out of memory", 4, bytes(np.arange(32, dtype=np.uint8))))
    (refused,) = desk.answers
    assert isinstance(refused, Refused)
    assert (refused.version, refused.running_version, refused.reason) == (5, 4, "backend")
    assert desk.counters.patches_refused == 1
