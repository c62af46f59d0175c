"""The score of a clip: how well the device's model did on its frames, beside the model that never learned.

Online mIoU is honest (docs/architecture.md): the teacher's labels are compared with the version that the device
ran when it captured the frame, delays included, before that frame was trained on. A frame whose version is no
longer on record is counted as unscored, never guessed. Pure data; `services.trainer.scoring` fills it in.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrameScore(BaseModel):
    """One frame: sliding mIoU (0 to 1) with the version that ran and with version 0; None where undefined."""

    model_config = ConfigDict(frozen=True)

    seq: int
    t_s: float
    version: int
    adapted: float | None
    unadapted: float | None


class ClipScore(BaseModel):
    """All frames of a clip, and how the device's own label map agrees with the server's (share of pixels)."""

    model_config = ConfigDict(frozen=True)

    clip_id: str
    frames: tuple[FrameScore, ...]
    unscored: int = 0
    agreement: float | None = None
    phi: float | None = None


class PhaseRecord(BaseModel):
    """One training phase: when (server stream seconds), how long, what it gained on held-out frames, what it sent."""

    model_config = ConfigDict(frozen=True)

    t_s: float
    seconds: float
    steps: int
    loss_first: float
    loss_last: float
    gain: float
    held_out: int
    published: bool
    version: int
    patch_bytes: int = 0
    changed: int = 0
