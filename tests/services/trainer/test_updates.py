"""Update control: the budget decides how much a phase may change and how coarse its change is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ams.core.delta import Delta
from ams.core.layout import IntVector
from ams.core.selection import EndsSelection, FullSelection, GradientGuidedSelection
from ams.learn.phase import PhaseResult
from services.trainer.config import TrainerSettings
from services.trainer.updates import UpdateControl
from tests.core.students import layout_of

LAYOUT = layout_of(*range(200, 700, 20))
SIZE = LAYOUT.size


def control(**changes: Any) -> UpdateControl:
    settings = TrainerSettings(broker_url="memory://x", models_dir=".", **changes)  # type: ignore[arg-type]
    return UpdateControl(settings, LAYOUT, np.random.default_rng(0))


def device() -> IntVector:
    return LAYOUT.to_grid(np.random.default_rng(1).normal(0, 0.05, SIZE).astype(np.float32))


def wanted(origin: IntVector, seed: int = 2, mask: np.ndarray | None = None) -> PhaseResult:
    moved = np.random.default_rng(seed).laplace(0, 2e-3, SIZE).astype(np.float32)
    allowed = np.ones(SIZE, bool) if mask is None else mask
    return PhaseResult(LAYOUT.to_float(origin) + moved * allowed, allowed, (1.0,))


def size_of(delta: Delta) -> int:
    return 100 + 2 * len(delta)


def applied(start: IntVector, delta: Delta) -> IntVector:
    return delta.added_to(start).astype(np.int32)


def test_plenty_trains_all_and_little_trains_few() -> None:
    assert isinstance(control(downlink_kbps=0).begin(0.0, 10.0), FullSelection)
    assert isinstance(control(downlink_kbps=1e5).begin(0.0, 10.0), FullSelection)
    few = control(downlink_kbps=0.5).begin(0.0, 10.0)
    assert isinstance(few, GradientGuidedSelection)
    assert few.fraction < 0.5


def test_the_papers_selections_have_their_fraction() -> None:
    selection = control(selection="last", coordinate_fraction=0.07).begin(0.0, 10.0)
    assert isinstance(selection, EndsSelection)
    assert selection.fraction == 0.07


def test_an_update_fits_what_is_granted() -> None:
    updates = control(downlink_kbps=2.0)  # 2,500 bytes every 10 s
    start = device()
    for phase in range(4):
        selection = updates.begin(10.0 * phase, 10.0)
        mask = selection.select(np.random.default_rng(phase).random(SIZE).astype(np.float32))
        delta = updates.fit(start, wanted(updates.origin(start), phase, mask), size_of)
        assert 0 < size_of(delta) <= 2_500
        updates.sent(2_500)
        start = applied(start, delta)


class TestCarry:
    """What quantising lost goes into the next phase's beginning: half of it, once, and only if it still fits."""

    def test_half_of_what_was_left_undone(self) -> None:
        updates, start = control(downlink_kbps=0), device()
        updates.begin(0.0, 10.0)
        assert updates.origin(start) is start, "nothing is left at first"
        result = wanted(start)
        delta = updates.fit(start, result, size_of)
        updates.sent(1)
        after = applied(start, delta)
        updates.begin(10.0, 10.0)
        undone = LAYOUT.to_grid(result.weights) - after
        assert np.array_equal(updates.origin(after), after + np.rint(0.5 * undone).astype(np.int32))
        assert updates.origin(after) is after, "it is good for one phase"

    def test_nothing_of_an_update_that_was_not_sent(self) -> None:
        updates, start = control(downlink_kbps=0), device()
        updates.begin(0.0, 10.0)
        updates.fit(start, wanted(start), size_of)  # the gate refuses it
        updates.begin(10.0, 10.0)
        assert updates.origin(start) is start

    def test_nothing_once_the_device_has_other_weights(self) -> None:
        updates, start = control(downlink_kbps=0), device()
        updates.begin(0.0, 10.0)
        updates.fit(start, wanted(start), size_of)
        updates.sent(1)
        updates.begin(10.0, 10.0)
        assert updates.origin(start) is start, "it was rolled back"

    @pytest.mark.parametrize("changes", [{"carry": 0.0, "downlink_kbps": 0}, {"downlink_kbps": 0.5}])
    def test_nothing_without_carry_or_where_only_some_weights_are_trained(self, changes: dict[str, float]) -> None:
        updates, start = control(**changes), device()
        updates.begin(0.0, 10.0)
        after = applied(start, updates.fit(start, wanted(start), size_of))
        updates.sent(1)
        updates.begin(10.0, 10.0)
        assert updates.origin(after) is after
