"""Sites: a seed decides everything about a street, and streets differ."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from worlds.site import LENGTH_M, TEXTURE_PX, Site, make_site

SEEDS = range(12)


def same(one: Any, other: Any) -> bool:
    """Whether two sites, or parts of them, are equal to the last bit."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@pytest.fixture(scope="module")
def sites() -> list[Site]:
    return [make_site(seed) for seed in SEEDS]


def test_a_seed_gives_the_same_site_twice(sites: list[Site]) -> None:
    for seed in SEEDS:
        assert same(sites[seed], make_site(seed))


def test_no_two_seeds_give_the_same_street(sites: list[Site]) -> None:
    for part in ("road_m", "asphalt", "foliage", "texture", "rows", "things"):
        for index, site in enumerate(sites):
            assert not any(same(getattr(site, part), getattr(other, part)) for other in sites[index + 1 :]), part


def test_numpys_own_random_state_does_not_matter(sites: list[Site]) -> None:
    np.random.seed(1)
    assert same(sites[3], make_site(3))


def test_rows_of_buildings_begin_at_zero_and_leave_nothing_open(sites: list[Site]) -> None:
    for site in sites:
        assert set(site.rows) == {"left", "right", "far left", "far right"}
        for row in site.rows.values():
            assert row.start_m[0] == 0
            assert (np.diff(row.start_m) > 0).all()
            assert LENGTH_M - 16 <= row.start_m[-1] < LENGTH_M
            assert {len(getattr(row, field.name)) for field in fields(row)} == {len(row.start_m)}
            assert (row.height_m >= 0).all()
            assert (row.height_m[row.green] > 0).all()
            assert (row.colour >= 0).all()
            assert (row.colour <= 255).all()


def test_everybody_keeps_to_the_place_that_is_theirs(sites: list[Site]) -> None:
    for site in sites:
        assert {thing.kind for thing in site.things} == {"tree", "lamp", "car", "person"}
        for thing in site.things:
            off_m = abs(thing.x_m)
            if thing.kind == "car":
                assert off_m < site.road_m
                assert thing.speed_m_s == 0 or np.sign(thing.speed_m_s) == np.sign(thing.x_m), "drives on the right"
            elif thing.crosses:
                assert thing.kind == "person"
            else:
                assert site.road_m < off_m < site.pavement_m
            assert -5 < thing.z_m < LENGTH_M + 5
            assert all(0 <= part <= 255 for part in (*thing.colour, *thing.second))


def test_the_grain_of_the_ground_stays_within_its_bounds(sites: list[Site]) -> None:
    for site in sites:
        assert site.texture.shape == (TEXTURE_PX, TEXTURE_PX)
        assert site.texture.dtype == np.float32
        assert np.abs(site.texture).max() <= 1
        assert abs(float(site.texture.mean())) < 0.2
