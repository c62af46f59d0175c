"""The street world: the same frame whenever it is asked for, labels that are exact, pictures like a camera's."""

from __future__ import annotations

from functools import cache
from typing import get_args

import cv2
import numpy as np
import pytest

from ams.errors import ConfigError
from worlds.backdrop import Canvas
from worlds.classes import BUILDING, CAR, CLASSES, PALETTE, PERSON, SKY, VEGETATION
from worlds.script import Script
from worlds.street import Mount, StreetWorld
from worlds.weather import CONDITIONS, Weather

MOUNTS: tuple[Mount, ...] = get_args(Mount)
both_cameras = pytest.mark.parametrize("camera", MOUNTS)


def street(camera: Mount, *, seed: int = 5, script: str | Script = "demo", **more: object) -> StreetWorld:
    return StreetWorld(seed=seed, camera=camera, script=script, **more)  # type: ignore[arg-type]


@cache
def mean_grey(camera: Mount, script: str) -> float:
    """Mean brightness over a few seconds and streets."""
    frames = [street(camera, seed=seed, script=script).frame(t_s) for seed in range(4) for t_s in (10.0, 13.0)]
    return float(np.mean(frames))


def empty(world: StreetWorld, t_s: float) -> Canvas:
    """The street as it stands at `t_s`, with nothing on it."""

    class Nobody:
        def draw(self, *args: object) -> list[object]:
            return []

    things, world._things = world._things, Nobody()  # type: ignore[assignment]
    try:
        return world._draw(t_s, Weather(shadow=0))[0]
    finally:
        world._things = things


# -- determinism -----------------------------------------------------------------------------------------------


@both_cameras
def test_a_frame_follows_from_seed_and_time_whatever_was_asked_before(camera: Mount) -> None:
    times_s = (0.0, 1 / 30, 17.5, 38.2, 81.0, 500.0)
    asked_once = {t_s: street(camera).labelled(t_s) for t_s in times_s}
    world = street(camera)
    for t_s in (*reversed(times_s), *times_s):
        frame, labels = world.labelled(t_s)
        assert np.array_equal(frame, asked_once[t_s][0])
        assert np.array_equal(labels, asked_once[t_s][1])


@both_cameras
def test_whoever_paints_over_a_frame_does_not_change_the_next(camera: Mount) -> None:
    world = street(camera)
    frame, labels = world.labelled(3.0)
    kept = frame.copy(), labels.copy()
    frame[:] = 0
    labels[:] = 0
    again = world.labelled(3.0)
    assert np.array_equal(again[0], kept[0])
    assert np.array_equal(again[1], kept[1])


@both_cameras
def test_another_seed_is_another_street(camera: Mount) -> None:
    one, other = street(camera, seed=1), street(camera, seed=2)
    assert not np.array_equal(one.labels(1.0), other.labels(1.0))
    assert not np.array_equal(one.frame(1.0), other.frame(1.0))


def test_the_cameras_of_a_seed_look_elsewhere() -> None:
    assert not np.array_equal(street("moving").labels(1.0), street("fixed").labels(1.0))


@both_cameras
def test_daily_weather_varies_with_the_seed_but_not_from_call_to_call(camera: Mount) -> None:
    plain, daily = street(camera), street(camera, daily=True)
    assert not np.array_equal(plain.frame(2.0), daily.frame(2.0))
    assert np.array_equal(daily.frame(2.0), street(camera, daily=True).frame(2.0))
    assert np.array_equal(plain.labels(2.0), daily.labels(2.0))


# -- labels ----------------------------------------------------------------------------------------------------


@both_cameras
def test_frame_and_labels_asked_apart_are_those_asked_together(camera: Mount) -> None:
    world = street(camera)
    for t_s in (0.0, 40.0, 90.4, 190.0):
        frame, labels = world.labelled(t_s)
        assert np.array_equal(world.frame(t_s), frame)
        assert np.array_equal(world.labels(t_s), labels)


@both_cameras
def test_weather_does_not_change_the_labels(camera: Mount) -> None:
    expected = street(camera, script="day").labels(30.0)
    for name in CONDITIONS:
        world = street(camera, script=f"{name} 60")
        assert np.array_equal(world.labelled(30.0)[1], expected), name


@both_cameras
@pytest.mark.parametrize("seed", range(6))
def test_all_classes_occur_within_some_seconds_and_nothing_else(camera: Mount, seed: int) -> None:
    world = street(camera, seed=seed)
    counts = sum(np.bincount(world.labels(t_s).ravel(), minlength=256) for t_s in np.arange(0, 20, 0.5))
    assert (counts[: len(CLASSES)] > 0).all(), dict(zip(CLASSES, counts, strict=False))
    assert not counts[len(CLASSES) :].any()


@both_cameras
@pytest.mark.parametrize("seed", range(6))
def test_sky_lies_above_the_horizon(camera: Mount, seed: int) -> None:
    world = street(camera, seed=seed)
    horizon_px = world._lighting._camera.horizon_px
    for t_s in (0.0, 7.7, 31.0):
        rows = np.flatnonzero((world.labels(t_s) == SKY).any(axis=1))
        assert rows.max() < np.ceil(horizon_px)
        assert rows.min() == 0


@both_cameras
def test_below_the_horizon_is_ground_unless_something_stands_there(camera: Mount) -> None:
    world = street(camera)
    bottom = empty(world, 4.0).labels[-1]
    assert set(np.unique(bottom)) <= {CLASSES.index(name) for name in ("road", "sidewalk", "vegetation", "building")}
    assert (bottom == CLASSES.index("road")).any()


@both_cameras
def test_labels_change_exactly_where_something_is_painted(camera: Mount) -> None:
    """A label says "car" where the picture shows a car, to the pixel: both come from one stroke."""
    world = street(camera)
    for t_s in (1.0, 5.3, 12.0, 20.5):
        bare, full = empty(world, t_s), world._draw(t_s, Weather(shadow=0))[0]
        painted = (bare.albedo != full.albedo).any(axis=2)
        relabelled = bare.labels != full.labels
        assert painted.any()
        assert not (relabelled & ~painted).any()
        nearer = full.depth_m != bare.depth_m
        assert not (painted & ~nearer).any()
        assert set(np.unique(full.labels[painted])) <= {CAR, PERSON, VEGETATION, BUILDING}
        assert np.array_equal(full.labels[~painted & ~nearer], bare.labels[~painted & ~nearer])


@both_cameras
def test_what_is_labelled_sky_looks_like_sky(camera: Mount) -> None:
    """By day the sky is bluish and even; a label that is off by a pixel or two would take in walls and trees."""
    world = street(camera, script="day")
    for t_s in (10.0, 14.0, 18.0):
        frame, labels = world.labelled(t_s)
        colours = frame[labels == SKY].astype(int)
        assert (colours[:, 2] > colours[:, 0]).mean() > 0.99


@both_cameras
def test_everything_is_seen_within_its_distance(camera: Mount) -> None:
    canvas = street(camera)._draw(6.0, Weather(shadow=0))[0]
    assert (canvas.depth_m[canvas.labels != SKY] < 4000).mean() > 0.99
    assert (canvas.depth_m > 0).all()
    assert ((canvas.glow >= 0) & (canvas.glow <= 1)).all()


# -- motion ----------------------------------------------------------------------------------------------------


def test_everything_moves_past_a_moving_camera() -> None:
    world = street("moving")
    for t_s in (0.0, 5.0, 50.0):
        before, after = world.labelled(t_s), world.labelled(t_s + 1 / 30)
        assert (before[0] != after[0]).any(axis=2).mean() > 0.5
        assert not np.array_equal(before[1], after[1])


@pytest.mark.parametrize("seed", range(4))
def test_before_a_fixed_camera_only_things_move(seed: int) -> None:
    world = street("fixed", seed=seed)
    bare = empty(world, 0.0).labels
    assert np.array_equal(bare, empty(world, 99.0).labels)
    before, after = world.labels(3.0), world.labels(3.5)
    changed = before != after
    assert 0 < changed.mean() < 0.25
    # Where a pixel changes, one of the two frames shows a car, a person, or a tree that sways.
    movers = np.isin(before, (CAR, PERSON, VEGETATION)) | np.isin(after, (CAR, PERSON, VEGETATION))
    assert not (changed & ~movers).any()
    still = ~np.isin(before, (CAR, PERSON)) & (before == bare)
    assert still.mean() > 0.5


def test_a_moving_camera_comes_around_after_the_streets_length() -> None:
    world = street("moving")
    assert np.array_equal(empty(world, 0.0).labels.shape, empty(world, 80.0).labels.shape)
    assert np.mean(empty(world, 0.0).labels == empty(world, 80.0).labels) > 0.9, "320 m at 4 m/s"


# -- pictures --------------------------------------------------------------------------------------------------


@both_cameras
@pytest.mark.parametrize(("width", "height"), [(64, 36), (65, 37), (256, 144), (640, 360), (320, 320), (1280, 36)])
def test_pictures_come_in_the_size_that_was_asked_for(camera: Mount, width: int, height: int) -> None:
    for script in ("day", "rain"):
        frame, labels = street(camera, script=script, width=width, height=height).labelled(9.0)
        assert (frame.shape, frame.dtype) == ((height, width, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((height, width), np.uint8)
        assert labels.max() < len(CLASSES)
        assert frame.std() > 10


@both_cameras
def test_a_larger_picture_shows_the_same_street(camera: Mount) -> None:
    small = street(camera, width=128, height=72).labels(8.0)
    large = street(camera, width=512, height=288).labels(8.0)
    shrunk = cv2.resize(large, (128, 72), interpolation=cv2.INTER_NEAREST)
    assert np.mean(shrunk == small) > 0.9


@both_cameras
@pytest.mark.parametrize("name", CONDITIONS)
def test_no_weather_hides_everything(camera: Mount, name: str) -> None:
    frame = street(camera, script=f"{name} 60").frame(20.0)
    grey = frame.mean(axis=2)
    assert 12 < grey.mean() < 225
    assert grey.std() > 8
    assert (frame == 255).mean() < 0.2
    assert (frame == 0).mean() < 0.35


@both_cameras
def test_days_are_brighter_than_dusks_and_those_than_nights(camera: Mount) -> None:
    assert mean_grey(camera, "day") > mean_grey(camera, "dusk") + 20
    assert mean_grey(camera, "dusk") > mean_grey(camera, "night") + 10
    assert mean_grey(camera, "day") > mean_grey(camera, "rain") + 20


@both_cameras
def test_fog_takes_the_contrast_from_what_is_far_away(camera: Mount) -> None:
    clear, foggy = (street(camera, script=script)._draw(20.0, CONDITIONS[script])[0] for script in ("day", "fog"))
    far = (clear.depth_m > 60) & (clear.labels != SKY)
    assert np.array_equal(far, (foggy.depth_m > 60) & (foggy.labels != SKY))
    by_day, in_fog = (street(camera, script=script).frame(20.0).mean(axis=2)[far] for script in ("day", "fog"))
    assert in_fog.std() < 0.5 * by_day.std()


def test_noise_is_new_in_every_frame() -> None:
    world = street("fixed", script="day")
    one, other = world.frame(10.0).astype(int), world.frame(10.05).astype(int)
    still = (world.labels(10.0) == BUILDING) & (world.labels(10.05) == BUILDING)
    difference = (one - other)[still]
    assert 1 < difference.std() < 15


# -- what it says of itself ------------------------------------------------------------------------------------


def test_scenes_are_those_of_the_script() -> None:
    world = street("fixed", script="day 20, fog 30")
    assert [world.scene(t_s) for t_s in (0.0, 19.0, 20.0, 49.0, 50.0)] == ["day", "day", "fog", "fog", "day"]
    assert street("fixed", script=Script.parse("rain 60")).scene(3.0) == "rain"


def test_a_world_knows_what_it_was_made_with() -> None:
    world = street("fixed", seed=9, width=320, height=180, fps=12.0)
    assert (world.seed, world.mount, world.width, world.height, world.fps) == (9, "fixed", 320, 180, 12.0)


def test_a_script_that_means_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="a script is one of demo"):
        street("moving", script="yesterday")


def test_every_class_has_a_colour_of_its_own() -> None:
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == 7
    assert all(0 <= part <= 255 for colour in PALETTE for part in colour)
