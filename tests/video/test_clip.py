"""Clips: real H.264 and JPEG round trips, the byte budget, and everything that a clip may be instead of a clip."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams.core.preprocess import FramesNHWC
from ams.errors import VideoError
from ams.video import CODECS, ClipEncoder, decode_clip, encode_clip

WIDTH, HEIGHT = 160, 96


def scene(count: int, *, width: int = WIDTH, height: int = HEIGHT, step: int = 3) -> FramesNHWC:
    """A street of sorts: a gradient, a texture that pans by `step` pixels and two boxes that move against it."""
    rng = np.random.default_rng(5)
    texture = rng.integers(0, 60, (height // 4 + 1, width // 2 + 1, 1)).repeat(4, 0).repeat(4, 1)[:height]
    rows = np.linspace(40, 180, height).astype(np.int64)[:, None, None]
    frames = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        picture = np.tile(rows + np.roll(texture, index * step, axis=1)[:, :width], 3)
        left = (10 + 2 * index * step) % (width - 30)
        picture[height // 2 : height // 2 + 20, left : left + 28] = (200, 30, 40)
        picture[10:24, width - 20 - left // 2 : width - 6 - left // 2] = (20, 60, 220)
        frames[index] = picture
    return frames


def noise(count: int) -> FramesNHWC:
    return np.random.default_rng(1).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def decoded(data: bytes, count: int, codec: str = "h264") -> FramesNHWC:
    return decode_clip(data, codec=codec, frames=count, width=WIDTH, height=HEIGHT)


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encode_clip(scene(6), max_bytes=20_000, interval_s=1.0)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [1, 2, 10])
def test_round_trip_keeps_the_picture(codec: str, count: int) -> None:
    frames = scene(count)
    data = encode_clip(frames, max_bytes=200_000, interval_s=1.0, codec=codec)
    back = decoded(data, count, codec)
    assert back.shape == frames.shape
    assert all(psnr(a, b) > 30 for a, b in zip(back, frames, strict=True))
    bias = np.abs(np.mean(back.astype(np.float64) - frames, axis=(0, 1, 2)))
    assert bias.max() < 1.5  # colours keep their order and their level


def test_red_stays_red() -> None:
    frames = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    frames[..., 0] = 200
    for codec in CODECS:
        back = decoded(encode_clip(frames, max_bytes=50_000, interval_s=1.0, codec=codec), 2, codec)
        assert np.abs(back.astype(int) - frames).max() <= 6


def test_decoding_is_deterministic(clip: bytes) -> None:
    assert np.array_equal(decoded(clip, 6), decoded(clip, 6))


def test_encoding_is_deterministic(clip: bytes) -> None:
    assert encode_clip(scene(6), max_bytes=20_000, interval_s=1.0) == clip


@pytest.mark.parametrize("count", [1, 2, 10, 30, 64])
@pytest.mark.parametrize("bytes_per_frame", [400, 2000])
def test_budget_is_kept(count: int, bytes_per_frame: int) -> None:
    budget = 1000 + count * bytes_per_frame
    for frames in (scene(count), noise(count)):
        data = encode_clip(frames, max_bytes=budget, interval_s=1.0)
        assert len(data) <= budget
        assert len(decoded(data, count)) == count


def test_tight_budget_is_used() -> None:
    assert len(encode_clip(scene(10), max_bytes=5_000, interval_s=1.0)) >= 0.7 * 5_000


def test_static_clip_takes_less_than_it_may() -> None:
    moving = encode_clip(scene(10), max_bytes=1_000_000, interval_s=1.0)
    static = encode_clip(scene(10, step=0), max_bytes=1_000_000, interval_s=1.0)
    assert len(static) < 0.5 * len(moving) < 100_000


def test_h264_beats_jpeg() -> None:
    frames = scene(10)
    jpeg = encode_clip(frames, max_bytes=1_000_000, interval_s=1.0, codec="jpeg")
    h264 = encode_clip(frames, max_bytes=len(jpeg) // 2, interval_s=1.0)
    assert psnr(decoded(h264, 10), frames) > psnr(decoded(jpeg, 10, "jpeg"), frames) - 2


def test_frame_that_cannot_fit_is_refused_with_numbers() -> None:
    for codec in CODECS:
        with pytest.raises(VideoError, match=r"the budget is 100; send fewer or smaller frames"):
            encode_clip(noise(4), max_bytes=100, interval_s=1.0, codec=codec)


def test_encoder_remembers_its_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    from ams.video import h264

    calls = 0
    real = h264._encode_at

    def counted(frames: FramesNHWC, crf: float, interval_s: float, threads: int) -> bytes:
        nonlocal calls
        calls += 1
        return real(frames, crf, interval_s, threads)

    monkeypatch.setattr(h264, "_encode_at", counted)
    encoder = ClipEncoder()
    encoder.encode(scene(8), max_bytes=9_000, interval_s=1.0)
    assert calls <= 4
    calls = 0
    encoder.encode(scene(8), max_bytes=9_000, interval_s=1.0)
    assert calls == 1


def test_encoder_recovers_from_a_hard_scene() -> None:
    encoder = ClipEncoder()
    encoder.encode(noise(4), max_bytes=8_000, interval_s=1.0)
    easy = encoder.encode(scene(4), max_bytes=30_000, interval_s=1.0)
    assert psnr(decoded(easy, 4), scene(4)) > 33


@pytest.mark.parametrize("codec", CODECS)
def test_odd_sizes_are_padded_and_cropped(codec: str) -> None:
    frames = scene(3, width=97, height=61)
    data = encode_clip(frames, max_bytes=60_000, interval_s=0.5, codec=codec)
    back = decode_clip(data, codec=codec, frames=3, width=97, height=61)
    assert back.shape == (3, 61, 97, 3)
    assert psnr(back, frames) > 30


def test_stream_is_annex_b_with_one_key_frame() -> None:
    data = encode_clip(np.concatenate([scene(5), noise(5)]), max_bytes=100_000, interval_s=1.0)
    assert data.startswith(b"\0\0\0\1") or data.startswith(b"\0\0\1")
    kinds = [data[at + 3] & 31 for at in range(len(data) - 3) if data[at : at + 3] == b"\0\0\1"]
    assert kinds.count(5) == 1  # IDR
    assert kinds.count(1) == 9  # all the others


@pytest.mark.parametrize("codec", CODECS)
def test_truncated_clip_never_decodes_to_something_else(codec: str) -> None:
    frames = scene(6)
    whole = encode_clip(frames, max_bytes=20_000, interval_s=1.0, codec=codec)
    reference = decoded(whole, 6, codec)
    for length in [*range(0, len(whole), max(1, len(whole) // 60)), *range(len(whole) - 12, len(whole))]:
        try:
            back = decoded(whole[:length], 6, codec)
        except VideoError:
            continue
        # The very last bytes of an H.264 stream may be padding; then nothing is missing.
        assert len(whole) - length < 12
        assert psnr(back, reference) > 30


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("frames", "words"), [(5, "promised"), (7, "promised")])
def test_wrong_count_is_refused(codec: str, frames: int, words: str) -> None:
    data = encode_clip(scene(6), max_bytes=60_000, interval_s=1.0, codec=codec)
    with pytest.raises(VideoError, match=words):
        decoded(data, frames, codec)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("width", "height"), [(WIDTH + 16, HEIGHT), (WIDTH, HEIGHT - 2), (64, 64), (512, 256)])
def test_wrong_size_is_refused(codec: str, width: int, height: int) -> None:
    data = encode_clip(scene(2), max_bytes=60_000, interval_s=1.0, codec=codec)
    with pytest.raises(VideoError):
        decode_clip(data, codec=codec, frames=2, width=width, height=height)


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_garbage_is_refused(codec: str, data: bytes) -> None:
    with pytest.raises(VideoError):
        decoded(data, 3, codec)


@given(position=st.integers(0, 10_000), value=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_flipped_byte_gives_the_right_shape_or_an_error(position: int, value: int) -> None:
    damaged = bytearray(encode_clip_once())
    damaged[position % len(damaged)] ^= value
    with contextlib.suppress(VideoError):
        assert decoded(bytes(damaged), 3).shape == (3, HEIGHT, WIDTH, 3)


_CLIPS: list[bytes] = []


def encode_clip_once() -> bytes:
    if not _CLIPS:
        _CLIPS.append(encode_clip(scene(3), max_bytes=6_000, interval_s=1.0))
    return _CLIPS[0]


def test_jpeg_that_claims_to_be_huge_is_not_decoded() -> None:
    data = encode_clip(scene(1), max_bytes=60_000, interval_s=1.0, codec="jpeg")
    at = data.index(b"\xff\xc0")
    bomb = data[: at + 5] + struct.pack(">HH", 65_000, 65_000) + data[at + 9 :]
    with pytest.raises(VideoError, match="not the promised"):
        decoded(bomb, 1, "jpeg")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((0, 32, 32, 3), np.uint8), "expected uint8 frames"),
        (np.zeros((65, 32, 32, 3), np.uint8), "expected uint8 frames"),
        (np.zeros((1, 32, 32), np.uint8), "expected uint8 frames"),
        (np.zeros((1, 32, 32, 3), np.float32), "expected uint8 frames"),
        (np.zeros((1, 8, 32, 3), np.uint8), "sides of 16 to 4096"),
    ],
)
def test_what_is_no_clip_is_not_encoded(frames: FramesNHWC, words: str) -> None:
    with pytest.raises(VideoError, match=words):
        encode_clip(frames, max_bytes=10_000, interval_s=1.0)


def test_unknown_codec_names_the_known_ones() -> None:
    with pytest.raises(VideoError, match="'av2' is not known here; expected one of h264, jpeg"):
        decoded(b"", 1, "av2")
    with pytest.raises(VideoError, match="h264, jpeg"):
        ClipEncoder("av2")


@pytest.mark.parametrize(("frames", "width", "height"), [(0, 64, 64), (65, 64, 64), (1, 8, 64), (1, 5000, 64)])
def test_promises_out_of_bounds_are_refused(frames: int, width: int, height: int) -> None:
    with pytest.raises(VideoError):
        decode_clip(b"x", codec="h264", frames=frames, width=width, height=height)


def test_promise_of_too_many_pixels_is_refused_before_allocating() -> None:
    with pytest.raises(VideoError, match="over 268435456 pixels"):
        decode_clip(b"x", codec="h264", frames=64, width=4096, height=4096)
