"""Bundles on disk: what is written, what damage is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ams.errors import CardError, ModelError
from ams.models.bundle import ModelBundle
from ams.models.onnx_import import ImportRequest, import_onnx


@pytest.fixture
def bundle(make_onnx: Callable[..., Path], request_student: ImportRequest) -> ModelBundle:
    return import_onnx(make_onnx(), request_student).bundle


@pytest.fixture
def directory(bundle: ModelBundle, tmp_path: Path) -> Path:
    bundle.save(tmp_path / "saved")
    return tmp_path / "saved"


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_comes_back_as_it_was_saved(bundle: ModelBundle, directory: Path) -> None:
    loaded = ModelBundle.load(directory)
    assert loaded.model_id == bundle.model_id
    assert loaded.graph == bundle.graph
    assert loaded.weights is not None
    assert bundle.weights is not None
    assert loaded.weights.tobytes() == bundle.weights.tobytes()
    assert sorted(file.name for file in directory.iterdir()) == ["card.json", "model.onnx", "weights.bin"]
    assert sorted(entry.name for entry in directory.parent.iterdir() if entry.name.startswith(".")) == []


def test_version0_is_exact(bundle: ModelBundle) -> None:
    assert bundle.weights is not None
    assert bundle.layout.to_float(bundle.version0).tobytes() == bundle.weights.tobytes()
    assert bundle.layout.digest(bundle.version0).hex() == bundle.card.weights_digest


def test_a_teacher_has_no_weights_file(
    make_onnx: Callable[..., Path], request_student: ImportRequest, tmp_path: Path
) -> None:
    bundle = import_onnx(make_onnx(), request_student.model_copy(update={"role": "teacher"})).bundle
    bundle.save(tmp_path / "teacher")
    assert not (tmp_path / "teacher" / "weights.bin").exists()
    assert ModelBundle.load(tmp_path / "teacher").weights is None
    with pytest.raises(ModelError, match="teacher"):
        _ = bundle.version0


@pytest.mark.parametrize("position", [0, 3, 400, -1])
def test_a_flipped_bit_in_the_weights_is_found(directory: Path, position: int) -> None:
    flip(directory / "weights.bin", position)
    with pytest.raises(ModelError, match=r"weights\.bin"):
        ModelBundle.load(directory)


@pytest.mark.parametrize("change", [lambda data: data[:-4], lambda data: data + b"\0\0\0\0", lambda data: b""])
def test_weights_of_another_length_are_found(directory: Path, change: Callable[[bytes], bytes]) -> None:
    path = directory / "weights.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelError, match=r"weights\.bin"):
        ModelBundle.load(directory)


def test_weights_that_are_not_finite_are_found(directory: Path) -> None:
    path = directory / "weights.bin"
    weights = np.frombuffer(path.read_bytes(), "<f4").copy()
    weights[5] = np.nan
    path.write_bytes(weights.tobytes())
    with pytest.raises(ModelError, match="NaN"):
        ModelBundle.load(directory)


def test_a_damaged_card_names_file_and_field(directory: Path) -> None:
    path = directory / "card.json"
    fields = json.loads(path.read_text())
    fields["input"]["height"] = 0
    path.write_text(json.dumps(fields))
    with pytest.raises(CardError, match=r"card\.json.*input\.height"):
        ModelBundle.load(directory)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CardError, match=r"card\.json"):
        ModelBundle.load(directory)


def test_a_card_that_promises_too_much_is_refused_before_anything_is_read(directory: Path) -> None:
    path = directory / "card.json"
    fields = json.loads(path.read_text())
    fields["parameters"][0]["shape"] = [1 << 40]
    path.write_text(json.dumps(fields))
    with pytest.raises(CardError, match="bytes of weights"):
        ModelBundle.load(directory)


def test_a_card_with_another_digest_is_found(directory: Path) -> None:
    path = directory / "card.json"
    fields = json.loads(path.read_text())
    fields["weights_digest"] = "0" * 64
    path.write_text(json.dumps(fields))
    with pytest.raises(ModelError, match="digest"):
        ModelBundle.load(directory)


@pytest.mark.parametrize("name", ["model.onnx", "card.json", "weights.bin"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(ModelError, match=name):
        ModelBundle.load(directory)


def test_nothing_is_overwritten(bundle: ModelBundle, directory: Path) -> None:
    with pytest.raises(ModelError, match="there already"):
        bundle.save(directory)


def test_a_failed_save_leaves_nothing(bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        bundle.save(tmp_path / "store" / "x")
    assert list((tmp_path / "store").iterdir()) == []


def test_role_and_weights_must_agree(bundle: ModelBundle) -> None:
    with pytest.raises(ModelError, match="has none"):
        ModelBundle(bundle.card, bundle.graph)
