"""The messages' bounds. What every type looks like as bytes is in `test_golden.py`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ams.core.messages import (
    Ack,
    Clip,
    DeviceLabels,
    Error,
    FrameStamp,
    Hello,
    Part,
    Rates,
    Stats,
    StreamHello,
)

STREAM = StreamHello(name="front", model_id="ab" * 32, digest="cd" * 32)
HELLO: dict[str, Any] = {"device": "cam-1", "token": "t", "boot_id": "b", "sent_ns": 1, "streams": (STREAM,)}
CLIP: dict[str, Any] = {
    "stream": "front",
    "clip_id": "0" * 32,
    "model_id": "ab" * 32,
    "width": 64,
    "height": 32,
    "boot_id": "b",
    "sent_ns": 9,
    "frames": tuple(FrameStamp(seq=i, t_ns=i * 10, version=0) for i in range(3)),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "a/b"},
        {"device": ""},
        {"device": "x" * 65},
        {"device": "cam\n"},
        {"device": "..", "streams": (STREAM,)},
        {"token": "t" * 201},
        {"sent_ns": -1},
        {"sent_ns": 1 << 63},
        {"protocols": ()},
        {"protocols": (0,)},
        {"protocols": (10**400,)},
        {"streams": ()},
        {"streams": (STREAM,) * 2},
        {"streams": tuple(STREAM.model_copy(update={"name": f"s{i}"}) for i in range(17))},
        {"features": ("a b",)},
    ],
)
def test_a_hello_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Hello(**{**HELLO, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": ()},
        {"frames": tuple(FrameStamp(seq=i, t_ns=i, version=0) for i in range(65))},
        {"frames": (FrameStamp(seq=0, t_ns=5, version=0), FrameStamp(seq=1, t_ns=5, version=0))},
        {"frames": (FrameStamp(seq=0, t_ns=5, version=0), FrameStamp(seq=1, t_ns=4, version=0))},
        {"labels": DeviceLabels(frame=3, bytes=10)},
        {"width": 8},
        {"height": 5000},
        {"clip_id": "0" * 31},
        {"clip_id": "G" * 32},
        {"model_id": "AB" * 32},
    ],
)
def test_a_clip_out_of_bounds_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Clip(**{**CLIP, **changes})


@pytest.mark.parametrize("missing", ["seq", "t_ns", "version"])
def test_every_frame_says_when_it_was_captured_and_what_ran(missing: str) -> None:
    """Invariant 4: a frame cannot come without capture time, number and running version."""
    stamp = {"seq": 1, "t_ns": 2, "version": 3}
    del stamp[missing]
    with pytest.raises(ValidationError, match=missing):
        FrameStamp.model_validate(stamp)


def test_an_ack_names_what_it_acknowledges() -> None:
    for fields in ({"of": "clip"}, {"of": "patch", "version": 1}, {"of": "patch", "digest": "ab" * 32}):
        with pytest.raises(ValidationError):
            Ack(stream="front", **fields)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0])
def test_rates_are_positive_numbers(bad: float) -> None:
    sound = {"sampling_hz": 1.0, "clip_interval_s": 10.0, "uplink_kbps": 200.0}
    Rates.model_validate({"stream": "front", **sound})
    for name in sound:
        with pytest.raises(ValidationError):
            Rates.model_validate({"stream": "front", **sound, name: bad})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_stats_are_finite(bad: float) -> None:
    with pytest.raises(ValidationError):
        Stats(stream="front", sent_ns=1, version=0, camera_fps=bad)


def test_parts_are_bounded() -> None:
    sound = {"transfer": "0" * 32, "index": 0, "count": 1, "size": 1, "digest": "0" * 64}
    Part.model_validate(sound)
    for changes in ({"index": 1}, {"count": 0}, {"count": (1 << 20) + 1}, {"size": 0}, {"size": (1 << 34) + 1}):
        with pytest.raises(ValidationError):
            Part.model_validate({**sound, **changes})


def test_a_long_text_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValidationError, match="500"):
        Error(code="protocol", text="x" * 501)


def test_unknown_fields_are_ignored() -> None:
    assert Hello.model_validate({**HELLO, "colour": "blue"}) == Hello(**HELLO)
