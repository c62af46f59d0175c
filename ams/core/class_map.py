"""Which student class each teacher class is: a table of 256 entries, so that mapping a label map is one `take`.

Knows two cards; does not know about taxonomies (`ams.models.taxonomy` proposes the card's `class_map`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ams.core.card import IGNORE_LABEL, ModelCard
from ams.errors import ClassMapError

ClassTable = npt.NDArray[np.uint8]
"""Student class index, or 255, of every possible label value, [256]."""


def class_map(teacher: ModelCard, student: ModelCard) -> ClassTable:
    """The table from the teacher's class indices to the student's, restricted to the student's subset.

    The student's own `class_map` decides first, then equal names; every other value leads to 255, the ignore label.
    `class_map(teacher, student)[labels]` maps a label map. Raises ClassMapError when nothing maps.
    """
    kept = set(student.subset_indices)
    index_of = {name: index for index, name in enumerate(student.classes)}
    table = np.full(256, IGNORE_LABEL, np.uint8)
    for teacher_index, name in enumerate(teacher.classes):
        student_index = index_of.get(student.class_map.get(name, name))
        if student_index in kept:
            table[teacher_index] = student_index
    if np.all(table == IGNORE_LABEL):
        wanted = ", ".join(student.classes[index] for index in student.subset_indices)
        raise ClassMapError(
            f"no class of teacher {teacher.name!r} leads to a class of student {student.name!r}. "
            f"Teacher: {', '.join(teacher.classes)}. Student: {wanted}. "
            "Import the student again with a class_map from teacher names to student names."
        )
    return table
