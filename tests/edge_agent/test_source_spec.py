"""What a person writes as the source, and what is opened for it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import edge_agent.sources.spec
from ams.clock import ScaledClock
from ams.errors import ConfigError, VideoError
from edge_agent.sources import FileSource, WorldSource, open_source

CLOCK = ScaledClock()


@pytest.mark.parametrize(
    ("spec", "camera"), [("0", 0), ("12", 12), ("/dev/video0", "/dev/video0"), ("/dev/video-front", "/dev/video-front")]
)
def test_numbers_and_devices_are_cameras(spec: str, camera: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_agent.sources.spec, "CameraSource", lambda *arguments: arguments)
    assert open_source(spec, CLOCK, loop=False) == (camera, CLOCK)


def test_everything_else_is_a_file(video: Path) -> None:
    assert isinstance(open_source(str(video), CLOCK, loop=False), FileSource)
    for spec in ("./0", "0.mp4", "/dev/nothing", "²"):
        with pytest.raises(VideoError, match="cannot read"):
            open_source(spec, CLOCK, loop=False)


def test_worlds_are_opened_by_what_follows_the_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def open_world(spec: str) -> SimpleNamespace:
        asked.append(spec)
        return SimpleNamespace(fps=25.0, width=4, height=4)

    monkeypatch.setitem(sys.modules, "worlds", SimpleNamespace(open_world=open_world))
    source = open_source("world:street:dusk", CLOCK, loop=False)
    assert isinstance(source, WorldSource)
    assert asked == ["street:dusk"]
    assert source.period_s == pytest.approx(0.04)


def test_a_world_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="no world 'moon'"):
        open_source("world:moon", CLOCK, loop=False)
