"""What labels must become for each student: its classes and its size. Cards are read once and kept, in bounds."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np

from ams.core.card import ModelCard
from ams.core.class_map import ClassTable, class_map
from ams.core.label_map import LabelMaps
from ams.errors import ModelError
from ams.models.store import DirectoryStore

log = logging.getLogger(__name__)

KEPT_STUDENTS = 256


@dataclass(frozen=True)
class Student:
    """A student's input size and the way from the teacher's classes to its own."""

    width: int
    height: int
    table: ClassTable

    def labels(self, teacher_NHW: LabelMaps) -> LabelMaps:
        """The teacher's label maps in the student's classes (255 for what it does not know), at its input size."""
        mapped_NHW = self.table[teacher_NHW]
        if mapped_NHW.shape[1:] == (self.height, self.width):
            return mapped_NHW
        # Exact: the plain nearest neighbour shifts by half a pixel, and frames are resized without that shift.
        size = (self.width, self.height)
        resized = [cv2.resize(labels_HW, size, interpolation=cv2.INTER_NEAREST_EXACT) for labels_HW in mapped_NHW]
        return np.stack([np.asarray(labels_HW, np.uint8) for labels_HW in resized])


class StudentShelf:
    """Students by model_id. To be used by one thread at a time; the first use of a student reads the store."""

    def __init__(self, store: DirectoryStore, teacher: ModelCard) -> None:
        self._store = store
        self._teacher = teacher
        self._students: OrderedDict[str, Student] = OrderedDict()

    def get(self, model_id: str) -> Student:
        """Raises ModelError for a student that is not in the store, ClassMapError for one without a common class."""
        if model_id not in self._students:
            self._students[model_id] = self._read(model_id)
            if len(self._students) > KEPT_STUDENTS:
                self._students.popitem(last=False)
        return self._students[model_id]

    def _read(self, model_id: str) -> Student:
        try:
            card = self._store.get(model_id).card
        except ModelError as error:
            log.warning("%s", error)  # names directories, which the device need not know
            raise ModelError(
                f"teacher {self._teacher.name!r} cannot label for student {model_id[:12]}, which the labeler's model "
                "store does not have: import it there with `ams models import`"
            ) from error
        if card.role != "student":
            raise ModelError(f"model {card.name!r} was imported as a {card.role}; devices must run a student")
        return Student(card.input.width, card.input.height, class_map(self._teacher, card))
