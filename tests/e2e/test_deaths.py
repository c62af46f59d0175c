"""Any part may go away: the camera goes on, nothing acknowledged is lost, the weights stay the same bit for bit."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import pairwise

import pytest

from tests.e2e.conftest import System, finished

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.anyio]

AWAY_S = 20.0


async def test_a_redis_that_goes_away_for_twenty_seconds(system: System) -> None:
    system.speed = 1.0
    await system.enrol()
    _, port = system.gateway()
    system.labeler().wait_ready(60)
    system.trainer().wait_ready(60)
    agent = system.agent(port)
    await system.until("a first patch", lambda p: any(phase.published for phase in p.phases), 60)
    await asyncio.to_thread(system.redis.kill)
    await asyncio.sleep(AWAY_S)
    assert agent.returncode is None, "the camera stopped with the broker"
    await asyncio.to_thread(system.redis.restart)
    figures = await finished(agent, 90)
    progress = await system.until("all clips scored", lambda p: p.clips_seen >= figures["clips"], 60)
    assert figures["inference_fps"] > 8, "inference stalled while the broker was away"
    assert figures["clips_dropped"] == 0
    assert figures["digest_mismatches"] == 0
    assert int(progress.state.get("digest_mismatches", "0")) == 0
    assert figures["version"] > 1, "nothing was learned after the broker came back"
    times = [frame.t_s for frame in progress.frames]
    assert max(later - earlier for earlier, later in pairwise(times)) < 3, "frames sampled during the outage were lost"
    system.children.check(except_for=agent)


async def test_a_trainer_that_is_killed_is_replaced(system: System) -> None:
    system.speed = 1.0
    await system.enrol()
    _, port = system.gateway()
    system.labeler().wait_ready(60)
    first = system.trainer("trainer-one")
    first.wait_ready(60)
    agent = system.agent(port)
    progress = await system.until("two patches", lambda p: sum(x.published for x in p.phases) >= 2, 60)
    published = max(phase.version for phase in progress.phases)
    os.kill(first.pid, signal.SIGKILL)
    system.trainer("trainer-two").wait_ready(60)
    figures = await finished(agent, 120)
    progress = await system.until("all clips scored", lambda p: p.clips_seen >= figures["clips"], 60)
    assert figures["digest_mismatches"] == 0
    assert figures["patches_refused"] == 0
    assert figures["version"] > published, "the new owner went on from what was published"
    assert [f.seq for f in progress.frames] == sorted({f.seq for f in progress.frames}), "each frame is scored once"


async def test_a_labeler_that_is_killed_loses_no_clip(system: System) -> None:
    await system.enrol()
    _, port = system.gateway()
    system.trainer().wait_ready(60)
    agent = system.agent(port)
    await asyncio.sleep(4)
    first = system.labeler("labeler-one")
    first.wait_ready(60)
    os.kill(first.pid, signal.SIGKILL)
    system.labeler("labeler-two").wait_ready(60)
    figures = await finished(agent, 90)
    await system.until("all clips scored", lambda p: p.clips_seen >= figures["clips"], 90)


async def test_a_gateway_that_is_restarted_resumes(system: System) -> None:
    await system.enrol()
    gateway, port = system.gateway()
    system.labeler().wait_ready(60)
    system.trainer().wait_ready(60)
    agent = system.agent(port)
    await system.until("a first patch", lambda p: any(phase.published for phase in p.phases), 60)
    os.kill(gateway.pid, signal.SIGKILL)
    await asyncio.sleep(3)
    system.gateway("gateway-two", port=port)
    figures = await finished(agent, 120)
    progress = await system.until("all clips scored", lambda p: p.clips_seen >= figures["clips"], 60)
    assert figures["clips_dropped"] == 0
    assert figures["digest_mismatches"] == 0
    assert figures["version"] >= 2, "patches came through the new gateway"
    assert progress.frames
