"""Preprocessing: the card's formula, the channel order, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from ams.core.card import InputSpec
from ams.core.preprocess import normalize
from ams.errors import ModelError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 4, 6, 3), np.uint8)


def test_is_the_formula_of_the_card(frames: np.ndarray) -> None:
    images = normalize(frames, InputSpec(name="x", height=4, width=6, mean=MEAN, std=STD))
    expected = ((frames.astype(np.float64) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    assert images.shape == (2, 3, 4, 6)
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    np.testing.assert_allclose(images, expected, atol=1e-6)


def test_mean_without_division(frames: np.ndarray) -> None:
    spec = InputSpec(name="x", height=4, width=6, scale=1.0, mean=(110.0, 108.0, 105.0))
    np.testing.assert_array_equal(normalize(frames, spec)[:, 2], frames[..., 2].astype(np.float32) - 105)


def test_bgr_models_get_blue_first(frames: np.ndarray) -> None:
    rgb = normalize(frames, InputSpec(name="x", height=4, width=6))
    bgr = normalize(frames, InputSpec(name="x", height=4, width=6, channels="bgr"))
    np.testing.assert_array_equal(bgr, rgb[:, ::-1])


def test_takes_frames_that_are_read_only_or_not_contiguous(frames: np.ndarray) -> None:
    spec = InputSpec(name="x", height=4, width=6)
    wide = np.repeat(frames, 2, axis=2)[:, :, ::2]
    wide.flags.writeable = False
    np.testing.assert_array_equal(normalize(wide, spec), normalize(frames, spec))


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 5, 6, 3), np.uint8), np.zeros((4, 6, 3), np.uint8), np.zeros((1, 4, 6, 3), np.float32)]
)
def test_wrong_shape_or_type_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"\[N, 4, 6, 3\]"):
        normalize(wrong, InputSpec(name="x", height=4, width=6))
