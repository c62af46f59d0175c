"""A drawn world as a camera: exact times, frames left out when drawing is slow, no end."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from ams.clock import ScaledClock
from edge_agent.sources import Frame, WorldSource

FPS = 10.0
PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class HandClock(ScaledClock):
    """Stands still but for what drawing costs; waiting takes no time."""

    speed: float = 1e9
    time: list[int] = field(default_factory=lambda: [7_000_000_123])

    def now_ns(self) -> int:
        return self.time[0]


class SlowWorld:
    """Draws the next frame once the one before was taken; frame i costs `cost_ns[i]`, 20 ms where it is not named."""

    fps, width, height = FPS, 4, 3

    def __init__(self, clock: HandClock, cost_ns: dict[int, int]) -> None:
        self.taken = threading.Semaphore(1)
        self._clock = clock
        self._cost_ns = cost_ns
        self._start_ns: int | None = None

    def frame(self, t_s: float) -> np.ndarray:
        assert self.taken.acquire(timeout=10)
        index = round(t_s * FPS)
        now_ns = self._clock.time[0]
        if self._start_ns is not None and index > 0:
            now_ns = max(now_ns, self._start_ns + (index - 1) * PERIOD_NS)
        self._clock.time[0] = now_ns + self._cost_ns.get(index, 20_000_000)
        if index == 0:
            self._start_ns = self._clock.time[0]
        return np.full((3, 4, 3), index, np.uint8)

    def scene(self, t_s: float) -> str:
        return f"scene at {t_s:.1f}"


def read(source: WorldSource, world: SlowWorld, count: int) -> list[Frame]:
    """So many frames, one after the other; the world and the clock stand still in between."""
    frames: list[Frame] = []
    source.start()
    for _ in range(count):
        frame = source.latest(frames[-1].index if frames else -1, timeout_s=10)
        assert frame is not None
        frames.append(frame)
        world.taken.release()
    source.close()
    return frames


def test_times_are_exact_and_captions_are_the_scenes() -> None:
    clock = HandClock()
    world = SlowWorld(clock, {})
    source = WorldSource(world, clock)
    frames = read(source, world, 6)
    assert [frame.t_ns - frames[0].t_ns for frame in frames] == [index * PERIOD_NS for index in range(6)]
    assert frames[0].t_ns == 7_000_000_123 + 20_000_000
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [frame.index for frame in frames]
    assert frames[3].caption == "scene at 0.3"
    assert source.dropped == 0
    assert source.period_s == 0.1


def test_frames_whose_time_has_passed_are_left_out() -> None:
    clock = HandClock()
    world = SlowWorld(clock, {3: 350_000_000})  # begun at 0.2 s, ready at 0.55 s, due at 0.3 s
    source = WorldSource(world, clock)
    frames = read(source, world, 6)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 6, 7]
    assert [frame.t_ns - frames[0].t_ns for frame in frames] == [index * PERIOD_NS for index in (0, 1, 2, 3, 6, 7)]
    assert source.dropped == 2


def test_a_frame_late_by_less_than_a_period_costs_none() -> None:
    clock = HandClock()
    world = SlowWorld(clock, {2: 190_000_000})
    source = WorldSource(world, clock)
    assert [frame.index for frame in read(source, world, 5)] == [0, 1, 2, 3, 4]
    assert source.dropped == 0


def test_falling_behind_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = HandClock()
    world = SlowWorld(clock, {1: 600_000_000, 7: 800_000_000, 17: 3_000_000_000})
    source = WorldSource(world, clock)
    with caplog.at_level(logging.WARNING):
        frames = read(source, world, 7)
    assert [frame.index for frame in frames] == [0, 1, 7, 15, 16, 17, 47]
    assert source.dropped == 5 + 7 + 29
    (record,) = caplog.records
    assert record.getMessage().startswith("drawing the world falls behind its 10 frames per second")


def test_it_goes_on_until_it_is_closed() -> None:
    class Still:
        fps, width, height = FPS, 4, 3

        def frame(self, t_s: float) -> np.ndarray:
            return np.zeros((3, 4, 3), np.uint8)

        def scene(self, t_s: float) -> str:
            return ""

    source = WorldSource(Still(), ScaledClock(speed=0.001))
    source.start()
    assert source.latest(-1, timeout_s=5) is not None
    assert not source.ended
    source.close()
    source.close()
    assert source.ended
    assert source.latest(0, timeout_s=5) is None
