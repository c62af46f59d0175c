"""`make models`: draw, train and judge the networks that ship with the street worlds. At most half an hour on 2 cores.

Teacher: a larger network that has seen all conditions. Student: a small one that has seen clear days only. Oracle: the
same small network, trained on all conditions and twice as long; nothing that runs uses it, it is what an adapted
student is measured against. Everything goes to worlds/models, with the figures in its README.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from rich.console import Console
from rich.progress import Progress

from ams.core.layout import FloatVector
from ams.models.bundle import ModelBundle
from ams.models.onnx_import import ImportRequest, import_onnx
from evaluation.pretraining.judging import Figures, judge
from evaluation.pretraining.networks import draw_student, draw_teacher
from evaluation.pretraining.pictures import ALL, DAY, TRAINING_SITES, take_pictures
from evaluation.pretraining.training import train
from worlds.classes import CLASSES, PALETTE

SHIPPED = Path(__file__).resolve().parents[2] / "worlds" / "models"


@dataclass(frozen=True)
class Recipe:
    """How one network comes about."""

    name: str
    role: Literal["teacher", "student"]
    conditions: Sequence[str]
    steps: int
    lr: float
    seed: int


RECIPES = (
    Recipe("street-teacher", "teacher", ALL, steps=3200, lr=1.5e-3, seed=1),
    Recipe("street-student", "student", DAY, steps=2600, lr=2e-3, seed=2),
    Recipe("street-oracle", "student", ALL, steps=5200, lr=2e-3, seed=2),
)
PICTURES = 3600
BATCH = 8


def request(recipe: Recipe, *, role: Literal["teacher", "student"]) -> ImportRequest:
    """What there is to know about one of these networks."""
    return ImportRequest(
        role=role, name=recipe.name, classes=CLASSES, palette=PALETTE, class_map={c: c for c in CLASSES},
        output_kind="logits", licence="Apache-2.0",
    )  # fmt: skip


def make(recipe: Recipe, scratch: Path, progress: Progress, *, steps: int, pictures: int) -> ModelBundle:
    """Draw, train and import one network."""
    drawn = scratch / f"{recipe.name}.onnx"
    (draw_teacher if recipe.role == "teacher" else draw_student)(drawn, recipe.seed)
    task = progress.add_task(f"{recipe.name}: pictures", total=pictures)
    seen = take_pictures(
        pictures, recipe.conditions, TRAINING_SITES, seed=recipe.seed,
        note=lambda count: progress.update(task, completed=count),
    )  # fmt: skip
    task = progress.add_task(f"{recipe.name}: training", total=steps)
    # Whoever is trained is a student for the time being: the module is built from the graph with a layout.
    pupil = import_onnx(drawn, request(recipe, role="student")).bundle
    weights = train(
        pupil, seen, steps=steps, batch=BATCH, lr=recipe.lr, seed=recipe.seed,
        note=lambda step, loss: progress.update(
            task, completed=step, description=f"{recipe.name}: training, loss {loss:.3f}"
        ),
    )  # fmt: skip
    return import_onnx(_with_weights(drawn, pupil, weights), request(recipe, role=recipe.role)).bundle


def _with_weights(path: Path, pupil: ModelBundle, weights: FloatVector) -> Path:
    """The drawn graph with trained weights, as a file beside it."""
    model = onnx.load(str(path))
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, tensor in pupil.layout.tensors(weights):
        held[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(tensor), name))
    trained = path.with_suffix(".trained.onnx")
    onnx.save(model, str(trained))
    return trained


def _write(out: Path, bundles: Sequence[ModelBundle], figures: Figures) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for bundle in bundles:
        directory = out / bundle.card.name
        shutil.rmtree(directory, ignore_errors=True)
        bundle.save(directory)
    (out / "figures.json").write_text(json.dumps(figures.as_json(), indent=2) + "\n")
    (out / "README.md").write_text(figures.as_markdown())


def main() -> int:
    """Make all of them, or one."""
    parser = argparse.ArgumentParser(prog="make models", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--out", type=Path, default=SHIPPED, help="directory of the models (default: %(default)s)")
    parser.add_argument(
        "--only", choices=[recipe.name for recipe in RECIPES], help="make this one and take the others as they are"
    )
    parser.add_argument("--quick", action="store_true", help="a twentieth of the work, to see that it works")
    parser.add_argument("--threads", type=int, default=2, help="threads of training (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    share = 20 if options.quick else 1
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="ams-models-") as scratch, Progress(console=console) as progress:
        bundles = [
            make(recipe, Path(scratch), progress, steps=recipe.steps // share, pictures=PICTURES // share)
            if options.only in (None, recipe.name)
            else ModelBundle.load(options.out / recipe.name)
            for recipe in RECIPES
        ]
        task = progress.add_task("judging", total=None)
        figures = judge(*bundles, pictures=240 // share)
        progress.update(task, total=1, completed=1)
    _write(options.out, bundles, figures)
    console.print(figures.as_markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
