"""What a person writes as the source, and the source that is meant by it."""

from __future__ import annotations

from pathlib import Path

from ams.clock import ScaledClock
from edge_agent.sources.camera import CameraSource
from edge_agent.sources.file import FileSource
from edge_agent.sources.source import Source
from edge_agent.sources.world import World, WorldSource

WORLD = "world:"


def open_source(spec: str, clock: ScaledClock, *, loop: bool) -> Source:
    """The source that `spec` names; `loop` is for files only.

        0, 1, ... or /dev/video0    a camera of this machine
        world:...                   a world that is drawn on the spot
        anything else               a video file

    Raises VideoError for a camera or a file that cannot be opened, ConfigError for a world that there is not.
    """
    if spec.isascii() and spec.isdecimal():
        return CameraSource(int(spec), clock)
    if spec.startswith("/dev/video"):
        return CameraSource(spec, clock)
    if spec.startswith(WORLD):
        return WorldSource(_open_world(spec.removeprefix(WORLD)), clock)
    return FileSource(Path(spec), clock, loop=loop)


def _open_world(spec: str) -> World:
    # Imported when it is asked for: who has a camera need not load worlds.
    from worlds import open_world

    return open_world(spec)
