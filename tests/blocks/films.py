"""Films of a scene: H.264 files that play as if they came from a camera."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from tests.blocks.street import BlockStreet


def film(path: Path, street: BlockStreet, *, seconds: float, fps: int = 10) -> Path:
    """Write `seconds` of a street as H.264 in mp4; returns the path."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "fast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = street.width, street.height, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for index in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(street.frame(index / fps), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
