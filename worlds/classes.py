"""The classes of the street worlds, in the order of their label indices, with a colour each for overlays."""

from __future__ import annotations

CLASSES = ("road", "sidewalk", "building", "vegetation", "sky", "person", "car")
"""Names as in Cityscapes, so that a teacher of one's own fits."""

ROAD, SIDEWALK, BUILDING, VEGETATION, SKY, PERSON, CAR = range(len(CLASSES))

PALETTE = (
    (130, 76, 150),
    (238, 120, 214),
    (150, 140, 132),
    (96, 158, 52),
    (86, 160, 214),
    (240, 62, 66),
    (44, 74, 214),
)
"""Colours of overlays, RGB; near those that the field is used to."""
