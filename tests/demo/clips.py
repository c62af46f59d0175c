"""What a session leaves in the broker, for a tiny student: labelled clips, their scores, patches; and a clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ams.core import label_map
from ams.core.layout import IntVector
from ams.core.messages import Clip, FrameStamp
from ams.core.patch import Patch
from ams.core.score import ClipScore, FrameScore, PhaseRecord
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip, PatchEntry
from ams.video import encode_clip
from tests.blocks.street import BlockStreet
from tests.core.students import changed

STREET = BlockStreet(width=64, height=32, light="dusk", seed=3)
SID = "cam/cam0"


@dataclass
class HandClock:
    """A clock that somebody moves."""

    at_s: float = 100.0

    def now_s(self) -> float:
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        self.at_s += seconds


def labelled(
    number: int, student: ModelBundle, *, start_s: float = 0.0, count: int = 3, labels: np.ndarray | None = None
) -> LabelledClip:
    """Clip `number`: frames one a second from `start_s`, labelled exactly unless labels are given."""
    times_s = [start_s + index for index in range(count)]
    header = Clip(
        stream="cam0", clip_id=name_of(number), model_id=student.model_id, width=STREET.width, height=STREET.height,
        boot_id="boot", sent_ns=round(times_s[-1] * 1e9),
        frames=tuple(FrameStamp(seq=i, t_ns=round(t_s * 1e9), version=0) for i, t_s in enumerate(times_s)),
    )  # fmt: skip
    frames = np.stack([STREET.frame(t_s) for t_s in times_s])
    truth = np.stack([STREET.labels(t_s) for t_s in times_s]) if labels is None else labels
    return LabelledClip(
        sid=SID, clip_id=header.clip_id, meta=header.model_dump_json().encode(),
        payload=encode_clip(frames, max_bytes=200_000, interval_s=1.0), labels=label_map.encode(truth),
    )  # fmt: skip


def score(
    number: int, *, start_s: float = 0.0, versions: tuple[int, ...] = (0, 0, 0), phi: float | None = 0.7
) -> ClipScore:
    """The score of clip `number`, whose frames ran these versions."""
    frames = [
        FrameScore(seq=index, t_s=start_s + index, version=version, adapted=0.8, unadapted=0.5)
        for index, version in enumerate(versions)
    ]
    return ClipScore(clip_id=name_of(number), frames=tuple(frames), phi=phi)


def name_of(number: int) -> str:
    """The id of clip `number`."""
    return f"{number:032x}"


def phase(t_s: float, *, published: bool = True, version: int = 1) -> PhaseRecord:
    """A training phase at `t_s`."""
    return PhaseRecord(
        t_s=t_s, seconds=2.0, steps=12, loss_first=1.0, loss_last=0.5, gain=0.1, held_out=3, published=published,
        version=version, patch_bytes=900, changed=40,
    )  # fmt: skip


def other_weights(student: ModelBundle, seed: int) -> IntVector:
    """Weights far enough from version 0 that labels change."""
    return changed(student.version0, np.random.default_rng(seed), share=0.8, bits=18)


def patch_entry(student: ModelBundle, base: tuple[int, IntVector], target: tuple[int, IntVector]) -> PatchEntry:
    """The entry of the patch log that leads from one version to another."""
    patch = Patch.between(student.layout, student.model_id, base, target)
    kind = "patch" if base[0] else "keyframe"
    return PatchEntry(kind, 1, base[0], target[0], patch.digest.hex(), patch.encode(student.layout))
