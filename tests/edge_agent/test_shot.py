"""The preview's message: header, picture and coloured labels."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from ams.core.card import ModelCard
from ams.models.bundle import ModelBundle
from edge_agent.label_times import LabelTimes
from edge_agent.shot import PREFIX, Shot, ShotEncoder

WIDTH, HEIGHT = 64, 48


def shot() -> Shot:
    times = LabelTimes()
    for index in range(20):
        times.add(index * 100_000_000, index * 100_000_000 + 12_500_000)
    image_HWC = np.full((HEIGHT, WIDTH, 3), (200, 100, 50), np.uint8)
    labels_HW = np.repeat(np.array([[0, 1, 2, 3, 4, 255, 1, 1]], np.uint8), WIDTH // 8, axis=1).repeat(HEIGHT, axis=0)
    return Shot(
        1_900_000_000, 1_912_500_000, 7, image_HWC, labels_HW, "Straße", frames=21, late=2, dropped=1, label_times=times
    )


def parts_of(message: bytes) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    """Header, RGB picture and RGBA labels, read as a viewer would."""
    (size,) = PREFIX.unpack_from(message)
    header = json.loads(message[4 : 4 + size])
    jpeg, labels = message[4 + size :][: header["jpeg"]], message[4 + size + header["jpeg"] :]
    assert len(labels) == header["labels"]
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    coloured = cv2.imdecode(np.frombuffer(labels, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    assert coloured is not None
    return header, image[..., ::-1], coloured[..., [2, 1, 0, 3]]


def with_palette(card: ModelCard) -> ModelCard:
    return card.model_copy(update={"palette": tuple((10 * k, 20 * k, 30 * k) for k in range(len(card.classes)))})


def test_message_has_all_that_a_viewer_needs(student: ModelBundle) -> None:
    header, image, coloured = parts_of(ShotEncoder(with_palette(student.card)).encode(shot()))
    assert {key: value for key, value in header.items() if key not in ("jpeg", "labels")} == {
        "t_s": 1.9, "version": 7, "fps": 10, "latency_ms": 12.5, "frames": 21, "late": 2, "dropped": 1,
        "caption": "Straße", "width": WIDTH, "height": HEIGHT,
    }  # fmt: skip
    assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 4
    assert coloured.shape == (HEIGHT, WIDTH, 4)
    assert coloured[0, :: WIDTH // 8].tolist() == [
        [0, 0, 0, 255], [10, 20, 30, 255], [20, 40, 60, 255], [30, 60, 90, 255], [40, 80, 120, 255],
        [0, 0, 0, 0], [10, 20, 30, 255], [10, 20, 30, 255],
    ]  # fmt: skip


@pytest.mark.parametrize("classes", [5, 255])
def test_without_a_palette_classes_have_colours_that_differ(student: ModelBundle, classes: int) -> None:
    names = tuple(f"class{k}" for k in range(classes))
    encoder = ShotEncoder(student.card.model_copy(update={"classes": names, "palette": ()}))
    taken = shot()
    labels_HW = np.arange(WIDTH * HEIGHT, dtype=np.int64).reshape(HEIGHT, WIDTH) % classes
    np.copyto(taken.labels_HW, labels_HW.astype(np.uint8))
    _, _, coloured = parts_of(encoder.encode(taken))
    assert len(np.unique(coloured.reshape(-1, 4), axis=0)) == classes
    assert coloured[..., 3].min() == 255
