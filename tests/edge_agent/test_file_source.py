"""A file as a camera: times, newest frame only, the end, broken files."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from ams.clock import ScaledClock
from ams.errors import VideoError
from edge_agent.sources import FileSource, Frame

FAST = ScaledClock(speed=40.0)


def read_all(source: FileSource) -> list[Frame]:
    frames: list[Frame] = []
    source.start()
    while True:
        frame = source.latest(frames[-1].index if frames else -1, timeout_s=5)
        if frame is None:
            assert source.ended
            return frames
        frames.append(frame)


def test_capture_times_are_those_of_the_file(video: Path) -> None:
    before_ns = FAST.now_ns()
    source = FileSource(video, ScaledClock(speed=8.0))
    frames = read_all(source)
    assert source.frames == 80
    assert len(frames) + source.dropped == 80
    offsets = [(frame.t_ns - frames[0].t_ns) - (frame.index - frames[0].index) * 100_000_000 for frame in frames]
    assert set(offsets) == {0}
    assert frames[0].t_ns != before_ns
    assert frames[0].image.shape == (64, 96, 3)
    assert frames[0].caption == ""
    assert source.period_s == pytest.approx(0.1)


def test_slow_reader_gets_the_newest_frame_and_drops_are_counted(video: Path) -> None:
    source = FileSource(video, FAST)
    source.start()
    assert source.latest(10_000, timeout_s=10) is None  # returns when the file is over
    assert source.ended
    last = source.latest(-1)
    assert last is not None
    assert last.index == 79
    assert source.dropped == 79
    assert source.latest(79) is None


def test_frames_play_in_stream_time(tmp_path: Path, tiny: type) -> None:
    source = FileSource(tiny.write_video(tmp_path / "a.mp4", count=11), ScaledClock(speed=10.0))
    clock = ScaledClock(speed=10.0)
    started_s = clock.now_s()
    source.start()
    assert source.latest(9, timeout_s=5) is not None
    assert clock.now_s() - started_s >= 1.0


def test_loop_goes_on_with_growing_times(tmp_path: Path, tiny: type) -> None:
    source = FileSource(tiny.write_video(tmp_path / "a.mp4", count=5), FAST, loop=True)
    source.start()
    first = source.latest(-1, timeout_s=5)
    later = source.latest(21, timeout_s=5)
    source.close()
    assert first is not None
    assert later is not None
    assert later.index >= 22
    assert later.t_ns - first.t_ns == (later.index - first.index) * 100_000_000


def test_close_ends_a_source_that_waits(video: Path) -> None:
    source = FileSource(video, ScaledClock(speed=0.001))
    source.start()
    assert source.latest(-1, timeout_s=5) is not None
    source.close()
    source.close()
    assert source.ended
    assert source.latest(0, timeout_s=5) is None


def test_wrong_path_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"cannot read .*nothing\.mp4"):
        FileSource(tmp_path / "nothing.mp4", FAST)


def test_file_that_breaks_off_ends_the_stream_with_a_line_in_the_log(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import edge_agent.sources.file

    def breaks_off(path: Path) -> object:
        for index in range(3):
            yield index / 10, np.zeros((4, 4, 3), np.uint8)
        raise VideoError("cannot read it: input/output error")

    source = FileSource(video, FAST)
    monkeypatch.setattr(edge_agent.sources.file, "read_video", breaks_off)
    with caplog.at_level(logging.ERROR):
        source.start()
        assert source.latest(100, timeout_s=5) is None
    last = source.latest(-1)
    assert last is not None
    assert last.index == 2
    assert "the stream ends after 3 frames: cannot read it" in caplog.text
