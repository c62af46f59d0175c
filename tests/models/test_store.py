"""The model store: references, damage, repetition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ams.errors import ModelError
from ams.models.bundle import ModelBundle
from ams.models.onnx_import import ImportRequest, import_onnx
from ams.models.store import DirectoryStore


@pytest.fixture
def bundle(make_onnx: Callable[..., Path], request_student: ImportRequest) -> ModelBundle:
    return import_onnx(make_onnx(), request_student).bundle


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_gets_by_identity_prefix_name_and_path(store: DirectoryStore, bundle: ModelBundle) -> None:
    identity = store.put(bundle)
    assert identity == bundle.model_id
    for ref in (identity, identity[:8], identity[:20], "tiny", str(store.root / identity)):
        assert store.get(ref).model_id == identity


def test_putting_again_changes_nothing(store: DirectoryStore, bundle: ModelBundle) -> None:
    store.put(bundle)
    assert store.put(bundle) == bundle.model_id
    assert [identity for identity, _ in store.list()] == [bundle.model_id]
    assert [entry.name for entry in store.root.iterdir()] == [bundle.model_id]


def test_an_empty_store_lists_nothing_and_says_how_to_import(store: DirectoryStore) -> None:
    assert list(store.list()) == []
    with pytest.raises(ModelError, match=r"holds nothing.*ams models import"):
        store.get("student")


def test_an_unknown_reference_lists_what_is_there(store: DirectoryStore, bundle: ModelBundle) -> None:
    store.put(bundle)
    for ref in ("other", bundle.model_id[:7], "f" * 64):
        with pytest.raises(ModelError, match=rf"tiny \({bundle.model_id[:12]}\)"):
            store.get(ref)


def test_a_name_of_several_models_lists_them(
    store: DirectoryStore, make_onnx: Callable[..., Path], request_student: ImportRequest
) -> None:
    identities = [store.put(import_onnx(make_onnx(seed=seed), request_student).bundle) for seed in (0, 1)]
    with pytest.raises(ModelError, match="2 models are named 'tiny'") as caught:
        store.get("tiny")
    assert all(identity in str(caught.value) for identity in identities)


@pytest.mark.parametrize("name", ["model.onnx", "card.json", "weights.bin"])
def test_damage_is_found_and_mended_by_putting_again(store: DirectoryStore, bundle: ModelBundle, name: str) -> None:
    identity = store.put(bundle)
    path = store.root / identity / name
    data = path.read_bytes()
    damaged = data.replace(b"tiny", b"tidy") if name == "card.json" else bytes([data[0] ^ 1]) + data[1:]
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match=r"damaged"):
        store.get(identity)
    assert store.put(bundle) == identity
    assert store.get(identity).graph == bundle.graph


def test_directories_of_other_names_are_left_alone(store: DirectoryStore, bundle: ModelBundle) -> None:
    store.put(bundle)
    (store.root / ".incoming-1").mkdir()
    (store.root / "notes").mkdir()
    assert len(store.list()) == 1
