"""A real video through the real services: `make real-video`.

Imports teacher and student of the kit, plays a fixed-camera video of pedestrians through `ams run` (separate processes
over a real Redis) and checks that the student got better: at least 15 points of mIoU over the last 30 s, with no digest
mismatch. Prints the run's JSON line and leaves a picture in build/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from ams.models.onnx_import import ImportRequest, import_onnx
from ams.models.store import DirectoryStore
from ams.models.taxonomy import parse_classes

VIDEO = "pedestrians_static_vtest"
TEACHER = "teacher_ensemble_city19_512x256"
STUDENT = "student_espnetv2_s0.5_city20_512x256"
WANTED_GAIN = 15.0
"""Points of mIoU, adapted minus unadapted."""

LEAST_SHARE = 0.005
"""Classes with a smaller share of the teacher's pixels are left out of the subset: their IoU is noise."""


def import_models(kit: Path, store: DirectoryStore) -> tuple[str, str]:
    """Teacher and student as model_ids; the student with the subset of classes that the video shows."""
    city, city_palette = parse_classes("cityscapes")
    teacher = import_onnx(
        kit / "models" / f"{TEACHER}.onnx",
        ImportRequest(role="teacher", name=TEACHER, classes=city, palette=city_palette, licence="research"),
    )
    labels = np.load(kit / "labels" / f"{VIDEO}_teacher_1fps_512x256.npz")["labels"]
    share = np.bincount(labels.ravel(), minlength=len(city)) / labels.size
    subset = tuple(name for name, part in zip(city, share, strict=False) if part > LEAST_SHARE)
    classes, palette = parse_classes("cityscapes,background")
    student = import_onnx(
        kit / "models" / f"{STUDENT}.onnx",
        ImportRequest(
            role="student", name=STUDENT, classes=classes, palette=palette, subset=subset, licence="research"
        ),
    )
    return store.put(teacher.bundle), store.put(student.bundle)


def main() -> int:
    """Run and judge; 0 when the student got better as promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--kit", type=Path, default=Path("../shared/kit"), help="directory of videos and models")
    parser.add_argument("--speed", type=float, default=0.25, help="stream seconds per real second")
    parser.add_argument("--out", type=Path, default=Path("build"), help="where models, logs and picture go")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws from the horizon")
    options = parser.parse_args()
    video = options.kit / "videos" / f"{VIDEO}.mp4"
    if not video.is_file():
        print(f"NOT RUN: no {video}. Name the kit: make real-video KIT=DIR, or --kit DIR.", file=sys.stderr)
        return 2
    store = DirectoryStore(options.out / "models")
    teacher, student = import_models(options.kit, store)
    command = [
        sys.executable, "-m", "ams.cli", "run", "--video", str(video), "--teacher", teacher, "--student", student,
        "--models-dir", str(store.root), "--speed", str(options.speed), "--steps", "20", "--batch", "4",
        "--seed", str(options.seed), "--threads", "1", "--json", "--report", str(options.out / "real-video.png"),
        "--log-dir", str(options.out / "real-video-logs"),
    ]  # fmt: skip
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(finished.stdout, end="", flush=True)
    if finished.returncode != 0:
        return finished.returncode
    figures = json.loads(finished.stdout.splitlines()[-1])
    if figures["adapted_miou"] is None:
        print("no frame was scored; see the logs", file=sys.stderr)
        return 1
    gain = figures["adapted_miou"] - figures["unadapted_miou"]
    print(f"gain {gain:.1f} points (at least {WANTED_GAIN} wanted), {figures['digest_mismatches']} digest mismatches")
    return 0 if gain >= WANTED_GAIN and figures["digest_mismatches"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
