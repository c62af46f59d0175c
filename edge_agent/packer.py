"""From sampled frames to a clip ready to send: the byte budget, the video, the device's own label map.

Heavy (it encodes video), so it has a thread of its own. Knows no connection.
"""

from __future__ import annotations

import logging
import secrets

import numpy as np

from ams.core import label_map
from ams.core.bitrate import BitrateBudget
from ams.core.messages import Clip, DeviceLabels, FrameStamp
from ams.errors import VideoError
from ams.video import ClipEncoder
from edge_agent.sampler import Sample, SampledClip
from edge_agent.spool import SpooledClip

log = logging.getLogger(__name__)

LABELS_SHARE = 0.5
"""The device's label map goes along unless it takes more than this share of a clip's bytes."""

MIN_INTERVAL_S = 1 / 30


class ClipPacker:
    """Packs the clips of one stream, one after the other, inside its bitrate budget."""

    def __init__(self, encoder: ClipEncoder, *, stream: str, model_id: str, boot_id: str, uplink_kbps: float) -> None:
        self._encoder = encoder
        self._stream = stream
        self._model_id = model_id
        self._boot_id = boot_id
        self._budget = BitrateBudget(uplink_kbps)
        self.max_clip_bytes: int | None = None
        """The server's limit of one clip, once it is known."""

    def set_uplink_kbps(self, uplink_kbps: float) -> None:
        """The budget from now on; may be called from any thread."""
        self._budget.kbps = uplink_kbps

    def pack(self, clip: SampledClip, now_ns: int) -> SpooledClip | None:
        """The clip in the bytes it may have; with fewer frames if need be. None when not even one frame fits."""
        granted = self._budget.grant_bytes(now_ns / 1e9, clip.span_s)
        if self.max_clip_bytes is not None:
            granted = min(granted, self.max_clip_bytes)
        labels = label_map.encode(clip.labels[None])
        if len(labels) > LABELS_SHARE * granted:
            labels = b""
        samples = clip.samples
        video = self._encode(samples, granted - len(labels))
        while video is None and len(samples) > 1:
            samples = samples[::-1][::2][::-1]  # the last one stays: the labels are its
            video = self._encode(samples, granted - len(labels))
        if video is None:
            log.warning("a clip was dropped: not even one frame fits into %d bytes; raise the uplink budget", granted)
            return None
        payload = video + labels
        self._budget.spend(len(payload))
        height, width = samples[0].image.shape[:2]
        header = Clip(
            stream=self._stream,
            clip_id=secrets.token_hex(16),
            model_id=self._model_id,
            codec=self._encoder.codec,
            width=width,
            height=height,
            boot_id=self._boot_id,
            sent_ns=now_ns,
            frames=tuple(FrameStamp(seq=s.seq, t_ns=s.t_ns, version=s.version) for s in samples),
            labels=DeviceLabels(frame=len(samples) - 1, bytes=len(labels)) if labels else None,
        )
        return SpooledClip(header, payload)

    def _encode(self, samples: tuple[Sample, ...], max_bytes: int) -> bytes | None:
        frames_NHWC = np.stack([sample.image for sample in samples])
        span_s = (samples[-1].t_ns - samples[0].t_ns) / 1e9
        interval_s = max(MIN_INTERVAL_S, span_s / (len(samples) - 1)) if len(samples) > 1 else 1.0
        try:
            return self._encoder.encode(frames_NHWC, max_bytes=max_bytes, interval_s=interval_s)
        except VideoError as error:
            log.info("%d frames were not encoded: %s", len(samples), error)
            return None
