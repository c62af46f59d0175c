"""How good the shipped networks are: mIoU per condition on sites that none of them has seen.

Against the exact labels of the worlds, and for the students against the teacher as well, since that is what a running
system can know. One confusion matrix per condition, summed over all its pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ams.core.metrics import confusion, mean_iou
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from evaluation.pretraining.pictures import JUDGING_SITES, Pictures, take_pictures
from worlds.classes import CLASSES

CONDITIONS = ("day", "overcast", "dusk", "rain", "night", "fog")
SUBSET = tuple(range(len(CLASSES)))
SEED = 99
KIBIBYTE = 1024

Predict = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Figures:
    """mIoU in points by network and condition, and how large the networks are."""

    exact: dict[str, dict[str, float]]
    against_teacher: dict[str, dict[str, float]]
    per_class_teacher: dict[str, float]
    weights: dict[str, int]
    pictures: int

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "pictures_per_condition": self.pictures, "miou_exact_labels": self.exact,
            "miou_against_teacher": self.against_teacher, "teacher_iou_per_class": self.per_class_teacher,
            "weights": self.weights,
        }  # fmt: skip

    def as_markdown(self) -> str:
        """For people: worlds/models/README.md."""
        lines = [
            "# The networks of the street worlds",
            "",
            "Made by `make models` (seeded) from nothing but the procedural streets of `worlds/`; Apache-2.0 like the",
            "rest. *Teacher*: has seen all conditions. *Student*: has seen clear days only; the demo starts with it.",
            "*Oracle*: the student's network trained on all conditions, twice as long; nothing that runs uses it, it",
            "is what an adapted student is measured against.",
            "",
            f"mIoU in points on streets that none of them has seen ({self.pictures} pictures a condition, fixed and",
            "moving cameras, seven classes).",
            "",
            "Against the exact labels:",
            "",
            *_table(self.exact),
            "",
            "Against the teacher, as a running system does:",
            "",
            *_table(self.against_teacher),
            "",
            "The teacher's IoU by class, all conditions together: "
            + ", ".join(f"{name} {value:.1f}" for name, value in self.per_class_teacher.items())
            + ".",
            "",
            "Weights: " + ", ".join(f"{name} {count:,}" for name, count in self.weights.items()) + ".",
            "",
        ]
        return "\n".join(lines)


def _table(figures: dict[str, dict[str, float]]) -> list[str]:
    head = f"| | {' | '.join(CONDITIONS)} |"
    rows = [f"| {name} | {' | '.join(f'{row[c]:.1f}' for c in CONDITIONS)} |" for name, row in figures.items()]
    return [head, "|---|" + "---|" * len(CONDITIONS), *rows]


def judge(teacher: ModelBundle, student: ModelBundle, oracle: ModelBundle, *, pictures: int) -> Figures:
    """Judge all three on `pictures` pictures of each condition."""
    predict = {"teacher": _teacher(teacher), "student": Student.from_bundle(student).predict,
               "oracle": Student.from_bundle(oracle).predict}  # fmt: skip
    exact: dict[str, dict[str, float]] = {name: {} for name in predict}
    against: dict[str, dict[str, float]] = {"student": {}, "oracle": {}}
    total = np.zeros((len(CLASSES), len(CLASSES) + 1), np.int64)
    for condition in CONDITIONS:
        seen = take_pictures(max(3, pictures), [condition], JUDGING_SITES, seed=SEED)
        answers = {name: run(seen.frames_NHWC) for name, run in predict.items()}
        for name, labels in answers.items():
            exact[name][condition] = _points(seen.labels_NHW, labels)
        for name in against:
            against[name][condition] = _points(answers["teacher"], answers[name])
        total += _matrix(seen, answers["teacher"])
    hits = np.diag(total)
    union = total.sum(axis=1) + total[:, : len(CLASSES)].sum(axis=0) - hits
    per_class = {name: round(float(100 * h / u), 1) for name, h, u in zip(CLASSES, hits, union, strict=True)}
    sizes = {"teacher": _teacher_weights(teacher), "student": student.layout.size, "oracle": oracle.layout.size}
    return Figures(exact, against, per_class, sizes, max(3, pictures))


def _points(reference: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> float:
    return round(100 * mean_iou(confusion(reference, predicted, classes=len(CLASSES), subset=SUBSET), SUBSET), 1)


def _matrix(seen: Pictures, predicted: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return confusion(seen.labels_NHW, predicted, classes=len(CLASSES), subset=SUBSET)


def _teacher(bundle: ModelBundle) -> Predict:
    """The teacher as the labeler runs it."""
    from services.labeler.teacher import Teacher

    running = Teacher(bundle, threads=2)

    def predict(frames_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return np.concatenate([running.label(frames_NHWC[i : i + 8]) for i in range(0, len(frames_NHWC), 8)])

    return predict


def _teacher_weights(bundle: ModelBundle) -> int:
    import onnx

    return sum(int(np.prod(t.dims)) for t in onnx.load_model_from_string(bundle.graph).graph.initializer)
