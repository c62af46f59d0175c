"""Video: clips encoded and decoded in memory, files read frame by frame. The only code that knows PyAV.

Frames are uint8 RGB, [N, H, W, 3], everywhere. The edge encodes with it, the labeler and the trainer decode with it,
so all of them see the same pixels. Knows no wire messages, no budgets over time and no models.
"""

from __future__ import annotations

from ams.video.clip import CODECS, ClipEncoder, decode_clip, encode_clip
from ams.video.reader import Probe, probe, read_video
from ams.video.resize import resize

__all__ = ["CODECS", "ClipEncoder", "Probe", "decode_clip", "encode_clip", "probe", "read_video", "resize"]
