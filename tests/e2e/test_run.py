"""`ams run` from end to end: the command that people type, on a film with exact labels."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.conftest import World

pytestmark = [pytest.mark.e2e, pytest.mark.redis]


def command(world: World, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "ams.cli", "run", "--video", str(world.film), "--teacher", "blocks-teacher",
        "--student", "blocks-student", "--models-dir", str(world.store.root), "--threads", "1", *more,
    ]  # fmt: skip


def test_a_student_gets_better_on_a_film_and_the_figures_say_so(world: World, tmp_path: Path) -> None:
    picture = tmp_path / "report.png"
    finished = subprocess.run(
        command(
            world, "--speed", "2", "--interval", "5", "--batch", "4", "--fraction", "0.3", "--learning-rate", "3e-3",
            "--json", "--report", str(picture),
        ),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(finished.stdout.splitlines()[-1])
    assert figures["digest_mismatches"] == 0
    assert figures["patches_refused"] == 0
    assert figures["patches"] >= 3
    assert figures["adapted_miou"] > figures["unadapted_miou"] + 10
    assert figures["frames_unscored"] == 0
    assert figures["frames_scored"] >= 20, "the sampling rate falls on so still a scene"
    assert figures["device_agreement"] > 0.9
    assert figures["camera_fps"] == pytest.approx(10, rel=0.1)
    assert figures["inference_fps"] > 8
    assert 0 < figures["uplink_kbps"] < 220
    assert figures["downlink_kbps"] > 0
    import cv2

    image = cv2.imread(str(picture))
    assert image.shape[1] >= 1000
    assert np.std(image) > 20  # not an empty canvas
    assert "mIoU" in finished.stderr


def test_ctrl_c_stops_cleanly_with_figures(world: World, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(world, "--speed", "1", "--json", "--log-dir", str(tmp_path)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "mIoU" in line:
            break
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=40)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert json.loads(stdout.splitlines()[-1])["digest_mismatches"] == 0
    for log in tmp_path.glob("*.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def refused(world: World, *arguments: str) -> str:
    """Stderr of a run that must refuse before it starts anything, in one line and without a traceback."""
    finished = subprocess.run(
        [sys.executable, "-m", "ams.cli", "run", "--models-dir", str(world.store.root), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert finished.returncode == 2, finished
    assert "Traceback" not in finished.stderr
    return finished.stderr


def test_a_video_that_cannot_be_read(world: World, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all" * 100)
    said = refused(world, "--video", str(broken), "--teacher", "blocks-teacher", "--student", "blocks-student")
    assert "broken.mp4" in said


def test_a_video_that_is_not_there(world: World) -> None:
    said = refused(world, "--video", "nowhere.mp4", "--teacher", "blocks-teacher", "--student", "blocks-student")
    assert "nowhere.mp4" in said


def test_a_model_that_is_not_there(world: World) -> None:
    said = refused(world, "--video", str(world.film), "--teacher", "big", "--student", "blocks-student")
    assert "big" in said
    assert "blocks-teacher" in said, "the error lists what there is"


def test_roles_that_are_swapped(world: World) -> None:
    said = refused(world, "--video", str(world.film), "--teacher", "blocks-student", "--student", "blocks-teacher")
    assert "imported as a student" in said


def test_a_bare_onnx_file(world: World) -> None:
    said = refused(world, "--video", str(world.film), "--teacher", "big.onnx", "--student", "blocks-student")
    assert "ams models import" in said


def test_a_teacher_without_a_class_in_common(world: World, tmp_path: Path) -> None:
    other = world.teacher.card.model_copy(update={"classes": ("cat", "dog", "cow", "hen"), "name": "animals"})
    from ams.models.bundle import ModelBundle

    directory = tmp_path / "animals"
    ModelBundle(other, world.teacher.graph, None).save(directory)
    said = refused(world, "--video", str(world.film), "--teacher", str(directory), "--student", "blocks-student")
    assert "cat" in said
    assert "road" in said


def test_a_broker_that_is_not_there(world: World) -> None:
    said = refused(
        world, "--video", str(world.film), "--teacher", "blocks-teacher", "--student", "blocks-student",
        "--broker", "redis://127.0.0.1:1/0",
    )  # fmt: skip
    assert "127.0.0.1:1" in said
