"""The paper's controls: coordinates at the ends of the network."""

from __future__ import annotations

import numpy as np
import pytest

from ams.core.selection import SELECTIONS, EndsSelection, selection_named
from ams.errors import ConfigError

SIZES = (10, 30, 5, 40, 15)
SCORES = np.zeros(100, np.float32)


@pytest.mark.parametrize("where", ["first", "last", "both"])
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.25, 0.4, 0.99, 1.0])
def test_exactly_so_many(where: str, fraction: float) -> None:
    selection = EndsSelection(SIZES, where, fraction)  # type: ignore[arg-type]
    assert selection.select(SCORES).sum() == round(fraction * 100)


def test_first_takes_whole_tensors_from_the_beginning() -> None:
    mask = EndsSelection(SIZES, "first", 0.2).select(SCORES)
    assert mask[:10].all()
    assert mask[10:40].sum() == 10
    assert not mask[40:].any()


def test_last_takes_whole_tensors_from_the_end() -> None:
    mask = EndsSelection(SIZES, "last", 0.2).select(SCORES)
    assert mask[85:].all()
    assert mask[45:85].sum() == 5
    assert not mask[:45].any()


def test_both_takes_half_from_either_end() -> None:
    mask = EndsSelection(SIZES, "both", 0.2).select(SCORES)
    assert mask[:10].all()
    assert mask[85:].sum() == 10
    assert not mask[10:85].any()


def test_the_part_of_the_boundary_tensor_is_drawn_anew() -> None:
    selection = EndsSelection(SIZES, "first", 0.2)
    assert not np.array_equal(selection.select(SCORES), selection.select(SCORES))


def test_scores_of_another_student_are_refused() -> None:
    with pytest.raises(ConfigError, match="100 weights was given 99"):
        EndsSelection(SIZES, "first", 0.2).select(SCORES[:99])


@pytest.mark.parametrize("name", SELECTIONS)
def test_each_name_gives_a_selection(name: str) -> None:
    rng = np.random.default_rng(0)
    mask = selection_named(name, fraction=0.2, sizes=SIZES, rng=rng).select(np.arange(100, dtype=np.float32))
    assert mask.sum() == (100 if name == "all" else 20)


def test_another_name_is_refused_with_a_list() -> None:
    with pytest.raises(ConfigError, match="first_and_last"):
        selection_named("middle", fraction=0.2, sizes=SIZES, rng=np.random.default_rng(0))
