"""The teacher in ONNX Runtime: classes per pixel, batches, strides, and models that are not what their card says."""

from __future__ import annotations

import numpy as np
import pytest

from ams.core.card import OutputSpec
from ams.errors import ModelError
from ams.models.bundle import ModelBundle
from services.labeler.teacher import Teacher
from tests.services.labeler.conftest import HEIGHT, WIDTH, plain, student_bundle, teacher_bundle


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_pixel_gets_its_class(dynamic: bool, stride: int) -> None:
    teacher = Teacher(teacher_bundle(dynamic=dynamic, stride=stride), threads=1)
    frames = plain("blue", "red", "green")
    frames[1, :, WIDTH // 2 :] = plain("green")[0, :, WIDTH // 2 :]
    labels = teacher.label(frames)
    assert labels.dtype == np.uint8
    assert labels.shape == (3, HEIGHT, WIDTH)
    assert np.all(labels[0] == 2)
    assert np.all(labels[1, :, : WIDTH // 2] == 0)
    assert np.all(labels[1, :, WIDTH // 2 :] == 1)
    assert np.all(labels[2] == 1)


def test_it_agrees_with_argmax() -> None:
    teacher = Teacher(teacher_bundle(), threads=1)
    frames = np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(teacher.label(frames), frames.argmax(axis=-1))


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ModelError, match="resize"):
        Teacher(teacher_bundle(), threads=1).label(plain("red", width=WIDTH // 2))


def test_a_student_is_no_teacher() -> None:
    with pytest.raises(ModelError, match="imported as a student"):
        Teacher(student_bundle(), threads=1)


def test_a_graph_that_cannot_be_opened() -> None:
    with pytest.raises(ModelError, match="cannot open teacher 'colours'"):
        Teacher(ModelBundle(teacher_bundle().card, b"not an ONNX file"), threads=1)


def test_a_card_that_promises_another_output() -> None:
    bundle = teacher_bundle(scores=4)
    with pytest.raises(ModelError, match=r"answers \[1, 4, 32, 64\], its card promises \[1, 3, 32, 64\]"):
        Teacher(bundle, threads=1)


def test_a_card_that_names_another_output() -> None:
    bundle = teacher_bundle()
    card = bundle.card.model_copy(update={"output": OutputSpec(name="elsewhere")})
    with pytest.raises(ModelError, match="elsewhere"):
        Teacher(ModelBundle(card, bundle.graph), threads=1)
