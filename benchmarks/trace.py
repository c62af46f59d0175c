"""A trace: what a trainer sees of a stream, frames at the sampling rate with the teacher's labels, recorded once.

Every scheme of a benchmark is replayed on the same traces, so that differences are the schemes'. From the street worlds
with the teacher that ships, or from a video with a teacher's labels. Kept in build/traces.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ams.core.card import IGNORE_LABEL
from ams.models.bundle import ModelBundle
from ams.video import read_video, resize
from services.labeler.teacher import Teacher
from worlds.shipped import TEACHER
from worlds.street import Mount, StreetWorld

CACHE = Path("build/traces")
SAMPLING_HZ = 1.0


@dataclass(frozen=True, eq=False)
class Trace:
    """`frames_NHWC` at the student's input size, `labels_NHW` in its classes (255: none), captured at `times_s`."""

    name: str
    frames_NHWC: npt.NDArray[np.uint8]
    labels_NHW: npt.NDArray[np.uint8]
    times_s: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times_s)


def street_trace(seed: int, camera: Mount, script: str, *, seconds: float) -> Trace:
    """A street of this seed as the shipped teacher labels it; recorded the first time."""
    name = f"street-{camera}-{seed}"
    key = hashlib.sha256(f"{name} {script} {seconds} {TEACHER.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    path = CACHE / f"{name}-{key}.npz"
    if not path.is_file():
        world = StreetWorld(seed=seed, camera=camera, script=script)
        times_s = np.arange(0, seconds, 1 / SAMPLING_HZ)
        frames = np.stack([world.frame(float(t)) for t in times_s])
        teacher = Teacher(ModelBundle.load(TEACHER), threads=1)
        labels = np.concatenate([teacher.label(frames[i : i + 8]) for i in range(0, len(frames), 8)])
        _write(path, frames, labels, times_s)
    return _read(name, path)


def kit_trace(kit: Path, video: str, student: ModelBundle) -> Trace:
    """A video of the kit with the teacher's labels that lie beside it, at 1 frame/s and 512x256.

    Labels of classes that the student does not have are ignored. Raises VideoError for a video that cannot be read.
    """
    with np.load(kit / "labels" / f"{video}_teacher_1fps_512x256.npz") as held:
        labels, times_s, indices = held["labels"], held["time_s"].astype(np.float64), held["frame_index"]
    wanted = {int(index) for index in indices}
    spec = student.card.input
    frames = [
        resize(frame[None], width=spec.width, height=spec.height)[0]
        for index, (_, frame) in enumerate(read_video(kit / "videos" / f"{video}.mp4"))
        if index in wanted
    ]
    known = len(student.card.classes)
    labels = np.where(labels < known, labels, IGNORE_LABEL).astype(np.uint8)
    return Trace(video, np.stack(frames), labels[: len(frames)], times_s[: len(frames)])


def _write(
    path: Path, frames: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], times_s: npt.NDArray[np.float64]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = path.with_suffix(".incoming.npz")
    np.savez(incoming, frames=frames, labels=labels, times_s=times_s)
    incoming.rename(path)


def _read(name: str, path: Path) -> Trace:
    with np.load(path) as held:
        return Trace(name, held["frames"], held["labels"], held["times_s"])
