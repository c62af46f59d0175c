"""`ams models`: what a person types to bring an ONNX file, and what they read when it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ams.cli import app
from ams.errors import AmsError
from tests.blocks import networks
from tests.blocks.street import BlockStreet

runner = CliRunner()


@pytest.fixture(scope="module")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("onnx")
    street = BlockStreet(width=32, height=16)
    networks.teacher(directory, street)
    networks.student(directory, street, steps=1)
    return directory


def ams(*arguments: object) -> str:
    result = runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_import_list_and_inspect(onnx_files: Path, tmp_path: Path) -> None:
    store = tmp_path / "models"
    said = ams(
        "models", "import", onnx_files / "blocks-student.onnx", "--role", "student", "--classes",
        "sky,building,road,car", "--subset", "road,car", "--models-dir", store,
    )  # fmt: skip
    assert "model_id" in said
    assert "snapped to the integer grid" in said
    assert "blocks-student" in ams("models", "list", "--models-dir", store)
    shown = ams("models", "inspect", "blocks-student", "--models-dir", store)
    assert "conv0.weight" in shown
    assert "weight" in shown
    card = json.loads(ams("models", "inspect", "blocks-student", "--json", "--models-dir", store))
    assert card["subset"] == ["road", "car"]


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    assert "ams models import" in ams("models", "list", "--models-dir", tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--classes", "sky,road"], "4 channels"),
        (["--classes", "sky,building,road,car", "--subset", "boat"], "boat"),
    ],
)
def test_a_wrong_card_is_refused_with_the_reason(
    onnx_files: Path, tmp_path: Path, options: list[str], expected: str
) -> None:
    with pytest.raises(AmsError, match=expected):
        ams(
            "models", "import", onnx_files / "blocks-student.onnx", "--role", "student", *options,
            "--models-dir", tmp_path,
        )  # fmt: skip


def test_a_file_that_is_not_onnx(tmp_path: Path) -> None:
    file = tmp_path / "weights.onnx"
    file.write_bytes(b"\x00\x01 nothing of the kind")
    with pytest.raises(AmsError, match=r"weights\.onnx"):
        ams("models", "import", file, "--role", "teacher", "--classes", "cityscapes", "--models-dir", tmp_path)


def test_wrong_numbers_on_the_command_line(onnx_files: Path, tmp_path: Path) -> None:
    result = runner.invoke(
        app,
        ["models", "import", str(onnx_files / "blocks-student.onnx"), "--role", "student", "--classes", "voc",
         "--mean", "1,2", "--models-dir", str(tmp_path)],
    )  # fmt: skip
    assert result.exit_code == 2
    assert "three numbers" in result.output


def test_help_lists_every_command() -> None:
    said = ams("--help")
    for command in ("run", "models", "devices", "gateway", "labeler", "trainer", "edge"):
        assert command in said
