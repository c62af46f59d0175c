"""A camera through OpenCV: a real capture on a file, and captures that fail, come back, or never open."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ams.clock import ScaledClock
from ams.errors import VideoError
from edge_agent.backoff import Backoff
from edge_agent.sources import CameraSource

CLOCK = ScaledClock()


def quick() -> Backoff:
    return Backoff(first_s=0.001, longest_s=0.002, rng=random.Random(0))


class Capture:
    """Gives `frames` blue pictures, then none; without a number it gives them for ever, one per call of `let`."""

    def __init__(self, frames: int | None = None, *, opens: bool = True, fps: float = 25.0) -> None:
        self.released = False
        self._left = frames
        self._opens = opens
        self._fps = fps
        self._due = threading.Semaphore(0)

    def let(self) -> None:
        self._due.release()

    def isOpened(self) -> bool:
        return self._opens

    def grab(self) -> bool:
        if self._left is None:
            return self._due.acquire(timeout=10)
        self._left -= 1
        return self._left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 6, 3), (250, 20, 10), np.uint8)

    def get(self, propId: int, /) -> float:
        return self._fps

    def release(self) -> None:
        self.released = True


def one_after_another(*captures: Capture) -> Callable[[int | str], Capture]:
    left = iter(captures)
    return lambda camera: next(left)


def test_a_real_capture_gives_rgb_at_the_time_of_arrival(video: Path) -> None:
    source = CameraSource(str(video), CLOCK, backoff=quick())
    assert source.period_s == pytest.approx(0.1)
    before_ns = CLOCK.now_ns()
    source.start()
    try:
        frame = source.latest(-1, timeout_s=10)
        assert frame is not None
        assert before_ns < frame.t_ns < CLOCK.now_ns()
        assert frame.image.shape == (64, 96, 3)
        assert frame.image.dtype == np.uint8
        reddest = frame.image[40, int(frame.image[40, :, 0].argmax())]
        assert reddest[0] > 150 > 100 > reddest[2]
        # The file is over after 80 frames; the camera is opened again and goes on.
        later = source.latest(85, timeout_s=10)
        assert later is not None
        assert later.t_ns > frame.t_ns
        assert not source.ended
    finally:
        source.close()
    assert source.ended


def test_a_camera_that_fails_is_opened_again_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    first, absent, back = Capture(3), Capture(opens=False), Capture()
    source = CameraSource(0, CLOCK, opener=one_after_another(first, absent, absent, absent, back), backoff=quick())
    with caplog.at_level(logging.WARNING):
        source.start()
        back.let()
        frame = source.latest(2, timeout_s=10)
        back.let()
        assert source.latest(3, timeout_s=10) is not None
        back.let()  # so that the read at hand returns
        source.close()
    assert frame is not None
    assert frame.index == 3
    assert frame.image[0, 0].tolist() == [10, 20, 250]
    assert [record.getMessage() for record in caplog.records] == [
        "camera 0 gives no frames any more; it is opened again until it does",
        "camera 0 gives frames again",
    ]
    assert first.released
    assert absent.released
    assert back.released
    source.close()


def test_close_ends_a_camera_that_is_away() -> None:
    patient = Backoff(first_s=1000, longest_s=1000)
    source = CameraSource(0, CLOCK, opener=one_after_another(Capture(0)), backoff=patient)
    source.start()
    source.close()
    assert source.ended
    assert source.latest(-1, timeout_s=5) is None


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_camera_that_does_not_say_its_rate(fps: float) -> None:
    source = CameraSource(0, ScaledClock(speed=0.5), opener=one_after_another(Capture(fps=fps)))
    assert source.period_s == pytest.approx(0.5 / 30)


@pytest.mark.parametrize("camera", [97, "/dev/video97"])
def test_a_camera_that_cannot_be_opened_is_refused_with_what_to_do(camera: int | str) -> None:
    words = rf"cannot open camera {camera}: is it plugged in \(this machine has .*/dev/video.*another program.*'video'"
    with pytest.raises(VideoError, match=words):
        CameraSource(camera, CLOCK)
