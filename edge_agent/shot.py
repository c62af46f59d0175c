"""One moment of the live preview: what the student saw and said, and the message that shows it to a viewer.

    offset   size  what
    0        4     H, length of the header in bytes, little-endian
    4        H     header: a JSON object, see `ShotEncoder.encode`
    4+H      J     the frame as JPEG, J = header's "jpeg"
    4+H+J    L     the label map in its classes' colours as PNG with alpha, L = header's "labels"

Knows pictures and colours; does not know who watches.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ams.core.card import ModelCard
from ams.video.reader import FrameHWC
from edge_agent.label_times import LabelTimes
from edge_agent.runtime import LabelsHW

PREFIX = struct.Struct("<I")

JPEG_QUALITY = 85
PNG_COMPRESSION = 1
"""zlib's fastest level: label maps are flat, higher levels cost more time than they save bytes."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One labelled frame at the student's input size, and the agent's counters at that moment."""

    captured_ns: int
    ready_ns: int
    version: int
    image_HWC: FrameHWC
    labels_HW: LabelsHW
    caption: str
    frames: int
    late: int
    dropped: int
    label_times: LabelTimes
    """The agent's own, read when the message is made: percentiles are too dear for every frame."""


class ShotEncoder:
    """Turns shots into messages, with the colours of one model."""

    def __init__(self, card: ModelCard) -> None:
        # Without a palette: steps that are coprime to 256, so that no two of the first 256 classes share a colour.
        colours = card.palette or tuple((37 * k % 256, 91 * k % 256, 151 * k % 256) for k in range(len(card.classes)))
        self._bgra = np.zeros((256, 4), np.uint8)
        """Colour per label; labels that are no class are transparent."""
        self._bgra[: len(colours), 2::-1] = colours
        self._bgra[: len(colours), 3] = 255

    def encode(self, shot: Shot) -> bytes:
        """The whole message. Header: times in stream seconds and ms, numbers since the agent's start."""
        jpeg = _encoded(
            ".jpg", cv2.cvtColor(shot.image_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        labels = _encoded(".png", self._bgra[shot.labels_HW], [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
        height, width = shot.image_HWC.shape[:2]
        fields: dict[str, float | int | str] = {
            "t_s": shot.captured_ns / 1e9,
            "version": shot.version,
            "fps": shot.label_times.per_s(shot.ready_ns),
            "latency_ms": round(shot.label_times.p50_ms, 3),
            "frames": shot.frames,
            "late": shot.late,
            "dropped": shot.dropped,
            "caption": shot.caption,
            "width": width,
            "height": height,
            "jpeg": len(jpeg),
            "labels": len(labels),
        }
        header = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
        return PREFIX.pack(len(header)) + header + jpeg + labels


def _encoded(kind: str, picture: npt.ArrayLike, options: list[int]) -> bytes:
    done, data = cv2.imencode(kind, np.asarray(picture), options)
    assert done  # OpenCV raises for pictures that it cannot encode
    return data.tobytes()
