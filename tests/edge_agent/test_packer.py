"""Packing clips: budget, labels, stamps, what happens when it does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from ams.core import label_map
from ams.errors import VideoError
from ams.video import ClipEncoder, decode_clip
from edge_agent.packer import ClipPacker
from edge_agent.sampler import Sample, SampledClip

S = 1_000_000_000
RNG = np.random.default_rng(4)


def sampled(count: int, *, noise: bool = False, labels: np.ndarray | None = None) -> SampledClip:
    def picture(index: int) -> np.ndarray:
        if noise:
            return RNG.integers(0, 256, (48, 64, 3), np.uint8)
        image = np.full((48, 64, 3), 80, np.uint8)
        image[10:30, index : index + 20] = (200, 100, 30)
        return image

    samples = tuple(Sample(7 + k, (3 + k) * S, 2 + k // 4, picture(k)) for k in range(count))
    return SampledClip(samples, np.zeros((48, 64), np.uint8) if labels is None else labels, float(count))


def packer(kbps: float = 200, encoder: ClipEncoder | None = None) -> ClipPacker:
    return ClipPacker(encoder or ClipEncoder(), stream="cam0", model_id="ab" * 32, boot_id="boot1", uplink_kbps=kbps)


def test_clip_can_be_read_as_its_header_says() -> None:
    labels = np.arange(48 * 64, dtype=np.int64).reshape(48, 64).astype(np.uint8) // 50
    packed = packer().pack(sampled(8, labels=labels), 99)
    assert packed is not None
    header = packed.header
    assert [(f.seq, f.t_ns, f.version) for f in header.frames] == [(7 + k, (3 + k) * S, 2 + k // 4) for k in range(8)]
    assert (header.stream, header.model_id, header.boot_id, header.sent_ns) == ("cam0", "ab" * 32, "boot1", 99)
    assert header.labels is not None
    assert header.labels.frame == 7
    video, tail = packed.payload[: -header.labels.bytes], packed.payload[-header.labels.bytes :]
    assert np.array_equal(label_map.decode(tail), labels[None])
    frames = decode_clip(video, codec=header.codec, frames=8, width=header.width, height=header.height)
    assert frames.shape == (8, 48, 64, 3)


def test_clip_stays_inside_the_budget_over_time() -> None:
    small = packer(kbps=4)
    sizes = []
    for number in range(12):
        packed = small.pack(sampled(10, noise=True), (number + 1) * 10 * S)
        assert packed is not None
        sizes.append(len(packed.payload))
    assert sum(sizes) * 8 / 1000 / 120 <= 4.2


def test_servers_limit_is_kept() -> None:
    limited = packer(kbps=10_000)
    limited.max_clip_bytes = 3000
    packed = limited.pack(sampled(10, noise=True), S)
    assert packed is not None
    assert len(packed.payload) <= 3000


def test_labels_that_would_eat_the_budget_stay_at_home() -> None:
    labels = RNG.integers(0, 20, (48, 64)).astype(np.uint8)
    packed = packer(kbps=0.1).pack(sampled(4, labels=labels), S)
    assert packed is not None
    assert packed.header.labels is None
    assert len(packed.payload) <= 2048


class Choosy(ClipEncoder):
    """Takes at most `limit` frames."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def encode(self, frames_NHWC: np.ndarray, *, max_bytes: int, interval_s: float) -> bytes:
        if len(frames_NHWC) > self._limit:
            raise VideoError("does not fit")
        return super().encode(frames_NHWC, max_bytes=max_bytes, interval_s=interval_s)


@pytest.mark.parametrize(("limit", "kept"), [(5, [8, 10, 12, 14, 16]), (4, [8, 12, 16]), (1, [16])])
def test_frames_are_thinned_until_they_fit_and_the_last_one_stays(limit: int, kept: list[int]) -> None:
    packed = packer(encoder=Choosy(limit)).pack(sampled(10), S)
    assert packed is not None
    assert [frame.seq for frame in packed.header.frames] == kept
    assert packed.header.labels is not None
    assert packed.header.labels.frame == len(kept) - 1


def test_clip_of_which_not_one_frame_fits_is_dropped() -> None:
    assert packer(encoder=Choosy(0)).pack(sampled(3), S) is None
