"""The arithmetic of frontiers: what a BD-rate is on curves whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.frontier import bd_rate, paired
from benchmarks.schemes import PAPER_BYTES_PER_WEIGHT, Nothing, Ours, Paper, sender
from tests.core.students import layout_of

CURVE = [(5.0, 60.0), (20.0, 65.0), (80.0, 69.0)]


def test_the_same_curve_costs_the_same() -> None:
    assert bd_rate(CURVE, CURVE) == pytest.approx(0)


def test_a_quarter_of_the_bytes_at_every_quality_is_minus_75_percent() -> None:
    assert bd_rate(CURVE, [(kbps / 4, miou) for kbps, miou in CURVE]) == pytest.approx(-0.75)


def test_only_the_qualities_that_both_reach_count() -> None:
    higher = [(kbps / 2, miou + 3) for kbps, miou in CURVE]
    below = [(1.0, 10.0), *[(kbps / 2, miou) for kbps, miou in CURVE], (300.0, 90.0)]
    assert bd_rate(CURVE, below) == pytest.approx(-0.5)
    assert bd_rate(CURVE, higher) < -0.5


def test_a_point_that_costs_more_and_gains_nothing_is_not_chosen() -> None:
    assert bd_rate(CURVE, [*CURVE, (60.0, 64.0)]) == pytest.approx(0)


def test_curves_without_a_common_quality_have_no_answer() -> None:
    assert math.isnan(bd_rate(CURVE, [(1.0, 10.0), (2.0, 20.0)]))


def test_paired_differences_have_an_interval() -> None:
    mean, half = paired([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.30 * 1.0 / math.sqrt(3))
    assert math.isnan(paired([1.0])[1])


def test_schemes_go_by_name() -> None:
    layout = layout_of(1_000, 4_000)
    assert isinstance(sender("none", layout), Nothing)
    assert sender("none", layout).begin(0.0) is None
    paper = sender("paper-5", layout)
    assert isinstance(paper, Paper)
    selection = paper.begin(0.0)
    assert selection is not None
    assert selection.select(np.arange(5_000, dtype=np.float32)).sum() == 250
    assert isinstance(sender("ours-0.2", layout), Ours)
    with pytest.raises(ValueError, match="paper-PERCENT"):
        sender("theirs", layout)


def test_the_papers_bytes_are_what_its_encoding_takes() -> None:
    from ams.core import paper_encoding

    rng = np.random.default_rng(0)
    size = 200_000
    mask = rng.random(size) < 0.05
    taken = len(paper_encoding.encode(rng.normal(0, 0.1, size).astype(np.float32), mask))
    # Real masks cluster and take less than one that is drawn weight by weight.
    assert 0.95 < taken / (PAPER_BYTES_PER_WEIGHT * size) < 1.2
