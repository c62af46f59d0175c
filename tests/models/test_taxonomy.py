"""Class lists and the maps proposed between them."""

from __future__ import annotations

import pytest

from ams.errors import ConfigError
from ams.models.taxonomy import ALIASES, CAMVID, CITYSCAPES, TAXONOMIES, VOC, parse_classes, propose_class_map


@pytest.mark.parametrize(("name", "count"), [("cityscapes", 19), ("camvid", 11), ("voc", 21)])
def test_taxonomies_have_distinct_classes_and_colours(name: str, count: int) -> None:
    taxonomy = TAXONOMIES[name]
    assert len(taxonomy.classes) == len(set(taxonomy.classes)) == count
    assert len(taxonomy.palette) == len(set(taxonomy.palette)) == count


def test_voc_colours_are_the_usual_ones() -> None:
    assert VOC.palette[1] == (128, 0, 0)
    assert VOC.palette[VOC.classes.index("person")] == (192, 128, 128)


def test_taxonomies_and_single_names_combine() -> None:
    classes, palette = parse_classes("cityscapes, background")
    assert classes == (*CITYSCAPES.classes, "background")
    assert palette == (*CITYSCAPES.palette, (0, 0, 0))
    assert parse_classes("cat,dog")[0] == ("cat", "dog")


@pytest.mark.parametrize("text", ["", "cat,,dog", "cat,cat", "cityscapes,camvid"])
def test_empty_and_repeated_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="class list"):
        parse_classes(text)


def test_cityscapes_to_camvid_is_the_published_map() -> None:
    proposal = propose_class_map(CAMVID.classes)
    mapped = [proposal.get(name, name) for name in CITYSCAPES.classes]
    indices = [CAMVID.classes.index(name) for name in mapped]
    assert indices == [3, 4, 1, 1, 7, 2, 6, 6, 5, 5, 0, 9, 10, 8, 8, 8, 8, 10, 10]


def test_proposals_lead_only_to_classes_of_the_student() -> None:
    for taxonomy in TAXONOMIES.values():
        assert set(propose_class_map(taxonomy.classes).values()) <= set(taxonomy.classes)
    assert propose_class_map(("cat",)) == {}
    known = {name for taxonomy in TAXONOMIES.values() for name in taxonomy.classes}
    assert set(ALIASES) <= known
