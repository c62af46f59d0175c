"""Where frames come from: a camera, a video file, or a world that is drawn on the spot.

A source always gives the newest frame and never lets a queue grow. Knows time and pictures; does not know what is
done with them.
"""

from __future__ import annotations

from edge_agent.sources.camera import CameraSource
from edge_agent.sources.file import FileSource
from edge_agent.sources.source import Frame, Source
from edge_agent.sources.spec import open_source
from edge_agent.sources.world import World, WorldSource

__all__ = ["CameraSource", "FileSource", "Frame", "Source", "World", "WorldSource", "open_source"]
