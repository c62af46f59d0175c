"""Lists of class names that models are commonly trained on, with their usual colours, and names that mean the same.

Only for filling in a card at import; afterwards the card is the authority.
"""

from __future__ import annotations

from dataclasses import dataclass

from ams.errors import ConfigError

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

UNKNOWN_COLOUR: Colour = (0, 0, 0)


@dataclass(frozen=True)
class Taxonomy:
    """Class names in the order of their indices, each with its colour."""

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]


CITYSCAPES = Taxonomy(
    (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    (
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip

CAMVID = Taxonomy(
    (
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    ),
    (
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
)  # fmt: skip


def _voc_colour(index: int) -> Colour:
    """Pascal VOC's colour of a class: the bits of its index, spread over the high bits of the three channels."""
    channels = [0, 0, 0]
    for shift in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * shift + channel) & 1) << (7 - shift)
    return channels[0], channels[1], channels[2]


VOC = Taxonomy(
    (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
    tuple(_voc_colour(index) for index in range(21)),
)  # fmt: skip

TAXONOMIES: dict[str, Taxonomy] = {"cityscapes": CITYSCAPES, "camvid": CAMVID, "voc": VOC}

ALIASES: dict[str, tuple[str, ...]] = {
    # Cityscapes to CamVid, as the kit's evaluation does
    "wall": ("building",),
    "sidewalk": ("pavement",),
    "vegetation": ("tree",),
    "terrain": ("tree",),
    "traffic light": ("sign",),
    "traffic sign": ("sign",),
    "truck": ("car",),
    "bus": ("car",),
    "train": ("car",),
    "person": ("pedestrian",),
    "rider": ("bicyclist",),
    "motorcycle": ("motorbike", "bicyclist"),
    "bicycle": ("bicyclist",),
    # CamVid and VOC to Cityscapes
    "pavement": ("sidewalk",),
    "tree": ("vegetation",),
    "sign": ("traffic sign",),
    "pedestrian": ("person",),
    "bicyclist": ("rider", "bicycle"),
    "motorbike": ("motorcycle", "bicyclist"),
}
"""For each class name, the names it may be mapped to; the first one that the student has is taken."""


def parse_classes(text: str) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Class names and palette from a comma-separated list of taxonomies and single names.

    `cityscapes,background` is the 19 classes of Cityscapes and one more. Raises ConfigError for an empty entry or a
    class named twice.
    """
    classes: list[str] = []
    palette: list[Colour] = []
    for entry in (part.strip() for part in text.split(",")):
        if not entry:
            raise ConfigError(
                f"class list {text!r} has an empty entry; expected taxonomies ({', '.join(TAXONOMIES)}) or class "
                "names between commas"
            )
        taxonomy = TAXONOMIES.get(entry)
        classes += taxonomy.classes if taxonomy else (entry,)
        palette += taxonomy.palette if taxonomy else (UNKNOWN_COLOUR,)
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    if repeated:
        raise ConfigError(f"class list {text!r} names {', '.join(repeated)} more than once; leave one out")
    return tuple(classes), tuple(palette)


def propose_class_map(student_classes: tuple[str, ...]) -> dict[str, str]:
    """Teacher names of the known taxonomies that the student does not have, with the student's name for each."""
    proposal = {}
    for name, targets in ALIASES.items():
        known = [target for target in targets if target in student_classes]
        if name not in student_classes and known:
            proposal[name] = known[0]
    return proposal
