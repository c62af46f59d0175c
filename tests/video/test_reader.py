"""Video files: what is read, and what is said of files that cannot be read."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ams.errors import VideoError
from ams.video import probe, read_video, resize


def write_video(path: Path, *, count: int, fps: int = 10, width: int = 64, height: int = 48) -> None:
    """A small file in which frame k is a grey of level 10 + 8 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(count):
            grey = np.full((height, width, 3), 10 + 8 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_frames_come_in_order_with_their_times(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, count=12)
    times, frames = zip(*read_video(path), strict=True)
    assert times == pytest.approx([k / 10 for k in range(12)])
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in frames)
    assert [round((float(frame.mean()) - 10) / 8) for frame in frames] == list(range(12))


def test_probe(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, count=20, fps=5)
    found = probe(path)
    assert (found.fps, found.width, found.height) == (5.0, 64, 48)
    assert found.duration_s == pytest.approx(4.0)


@pytest.mark.parametrize("content", [None, b"", b"no video at all" * 100])
def test_unreadable_files_are_named_with_what_was_expected(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (probe, lambda p: list(read_video(p))):
        with pytest.raises(VideoError, match=r"cannot read .*broken\.mp4: .*expected a video that FFmpeg can decode"):
            read(path)


def test_file_without_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="it has no video stream"):
        probe(path)


def test_file_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    write_video(path, count=20)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    read = 0
    with contextlib.suppress(VideoError):
        for _ in read_video(path):
            read += 1
    assert 0 < read < 20


def test_resize_shrinks_by_area_and_grows_linearly() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[:, :, ::2] = 200
    small = resize(frames, width=2, height=2)
    assert small.shape == (2, 2, 2, 3)
    assert np.all(small == 100)
    assert resize(frames, width=9, height=7).shape == (2, 7, 9, 3)


def test_resize_to_the_same_size_copies_nothing() -> None:
    frames = np.zeros((1, 4, 6, 3), np.uint8)
    assert resize(frames, width=6, height=4) is frames
