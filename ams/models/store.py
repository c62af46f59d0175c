"""The model store: a directory of bundles, each under its own model_id.

The name of a bundle is the digest of its content, so a damaged one is found when it is read and a copied one is the
same model. Knows directories and references; does not know ONNX.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ams.core.card import MODEL_ID_PATTERN, ModelCard
from ams.errors import ModelError
from ams.models.bundle import CARD_FILE, ModelBundle, read_card

MIN_PREFIX_DIGITS = 8
PREFIX_PATTERN = rf"^[0-9a-f]{{{MIN_PREFIX_DIGITS},64}}$"


class DirectoryStore:
    """Models in `<root>/<model_id>/`. Several processes may read and write one root at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, bundle: ModelBundle) -> str:
        """Keep a model; returns its model_id. Keeping it again changes nothing; a damaged copy is replaced."""
        target = self.root / bundle.model_id
        if target.exists():
            try:
                self._load(bundle.model_id)
            except ModelError:
                shutil.rmtree(target)
            else:
                return bundle.model_id
        try:
            bundle.save(target)
        except (ModelError, OSError):
            if not target.exists():
                raise
            self._load(bundle.model_id)  # another process has put the same model meanwhile
        return bundle.model_id

    def get(self, ref: str) -> ModelBundle:
        """The model with this model_id, a unique prefix of it (8 digits or more), a card name, or in this directory.

        Raises ModelError for an unknown, ambiguous or damaged model; the message lists what there is.
        """
        if (Path(ref) / CARD_FILE).is_file():
            return ModelBundle.load(Path(ref))
        return self._load(self._resolve(ref))

    def list(self) -> Sequence[tuple[str, ModelCard]]:
        """All models, as model_id and card, by name. Raises CardError for a card that cannot be read."""
        models = [(identity, read_card(self.root / identity)) for identity in self._identities()]
        return sorted(models, key=lambda model: (model[1].name, model[0]))

    def _identities(self) -> Sequence[str]:
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if re.match(MODEL_ID_PATTERN, entry.name))

    def _resolve(self, ref: str) -> str:
        """The one model_id that `ref` means."""
        if re.match(PREFIX_PATTERN, ref):
            by_prefix = [identity for identity in self._identities() if identity.startswith(ref)]
            if len(by_prefix) == 1:
                return by_prefix[0]
            if by_prefix:
                raise ModelError(f"{ref!r} is the beginning of {len(by_prefix)} models: {', '.join(by_prefix)}")
        models = self.list()
        by_name = [identity for identity, card in models if card.name == ref]
        if len(by_name) == 1:
            return by_name[0]
        if by_name:
            raise ModelError(f"{len(by_name)} models are named {ref!r}; use a model_id: {', '.join(by_name)}")
        there = ", ".join(f"{card.name} ({identity[:12]})" for identity, card in models) or "nothing"
        raise ModelError(
            f"no model {ref!r} in {self.root}, which holds {there}. Give a model_id, at least {MIN_PREFIX_DIGITS} "
            "digits of one, a name or a directory; `ams models import FILE.onnx` adds a model"
        )

    def _load(self, identity: str) -> ModelBundle:
        """The bundle under `identity`, whose content must have just that identity."""
        directory = self.root / identity
        bundle = ModelBundle.load(directory)
        if bundle.model_id != identity:
            raise ModelError(
                f"{directory} is damaged: its content has the model_id {bundle.model_id}; "
                "remove the directory and import or copy the model again"
            )
        return bundle
