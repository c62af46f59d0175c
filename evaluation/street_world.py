"""The demo's promise, measured: `make demo-check`. Three minutes of `ams demo` for each seed, day to dusk to rain.

The demo runs as people run it, but on a Redis that outlives it, so that its logs can be read: the oracle (the
same network trained offline on all conditions) is run on just the frames that the system labelled, and scored like the
students, 10-s windows and all. Prints one JSON object per seed and a last one with the verdict; exit code 1 when a
promise is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ams.broker import connect
from ams.broker.server import RedisServer
from ams.core import label_map
from ams.core.messages import Clip
from ams.core.metrics import SlidingMiou, confusion
from ams.core.score import FrameScore
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip
from ams.run_record import RunRecord
from ams.video import decode_clip, resize
from worlds.shipped import MODELS, ORACLE

SCRIPT = "day 35, dusk 45, rain 120"
SECONDS = 180
LAST_S = 60.0
WANTED_GAIN = 10.0
"""Points of mIoU, adapted minus unadapted, over the last minute."""

WANTED_CLOSED = 0.6
"""Share of the gap between unadapted and oracle."""

WANTED_LATE = 0.01
"""Share of the camera's frames whose labels came later than one frame period, or never."""

CLEAR_DAY_POINTS = 3.0


@dataclass(frozen=True)
class Verdict:
    """One run's figures over its last minute; mIoU in points, `closed` of the gap to the oracle."""

    seed: int
    camera: str
    unadapted: float
    adapted: float
    oracle: float
    gain: float
    closed: float
    late_share: float
    frames: int
    inferences: int
    frames_dropped: int
    downlink_kbps: float
    uplink_kbps: float
    phases_published: int
    phases: int
    digest_mismatches: int

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return (
            self.gain >= WANTED_GAIN and self.closed >= WANTED_CLOSED and self.late_share <= WANTED_LATE
            # The camera may have made one more when it was told to stop.
            and self.frames_dropped == 0 and self.frames - self.inferences <= 1 and self.digest_mismatches == 0
        )  # fmt: skip


def run_demo(broker_url: str, seed: int, camera: str, more: Sequence[str], log_dir: Path) -> dict[str, Any]:
    """The figures that `ams demo` ends with. Raises CalledProcessError."""
    world = f"world:street?seed={seed}&camera={camera}&script={SCRIPT}"
    command = [
        sys.executable, "-m", "ams.cli", "demo", "--source", world, "--duration", str(SECONDS), "--json", "--port", "0",
        "--broker", broker_url, "--log-dir", str(log_dir), *more,
    ]  # fmt: skip
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return figures


async def last_minute(broker_url: str, oracle: ModelBundle) -> tuple[float, float, float]:
    """Unadapted, adapted and oracle over the last minute of the newest session, in points, on the same frames."""
    broker = connect(broker_url)
    try:
        sid = (await broker.directory.seen_since(0))[0]
        record = RunRecord(broker, sid)
        await record.refresh()
        labelled = {clip.clip_id: clip for clip in await broker.labelled.read(sid, count=10_000)}
    finally:
        await broker.connection.close()
    answers = _oracle_miou(oracle, record, labelled)
    known = [f for f in record.frames if f.adapted is not None and f.unadapted is not None and f.t_s in answers]
    recent = [frame for frame in known if frame.t_s > record.frames[-1].t_s - LAST_S]
    unadapted, adapted = (fmean(_of(frame, which) for frame in recent) for which in ("unadapted", "adapted"))
    return 100 * unadapted, 100 * adapted, 100 * fmean(answers[frame.t_s] for frame in recent)


def _of(frame: FrameScore, which: str) -> float:
    value: float = getattr(frame, which)
    return value


def _oracle_miou(oracle: ModelBundle, record: RunRecord, labelled: dict[str, LabelledClip]) -> dict[float, float]:
    """Sliding mIoU of the oracle by frame time, over all frames that were labelled."""
    student = Student.from_bundle(oracle)
    spec, subset = oracle.card.input, oracle.card.subset_indices
    window = SlidingMiou(subset)
    answers = {}
    for score in sorted(record.clips, key=lambda clip: clip.frames[0].t_s):
        if score.clip_id not in labelled:
            continue
        entry = labelled[score.clip_id]
        clip = Clip.model_validate_json(entry.meta)
        video, _ = clip.parts_of(entry.payload)
        frames = decode_clip(video, codec=clip.codec, frames=len(clip.frames), width=clip.width, height=clip.height)
        predicted = student.predict(resize(frames, width=spec.width, height=spec.height))
        for frame, reference, own in zip(score.frames, label_map.decode(entry.labels), predicted, strict=True):
            matrix = confusion(reference, own, classes=len(oracle.card.classes), subset=subset)
            answers[frame.t_s] = window.add(frame.t_s, matrix)
    return answers


def judge(seed: int, camera: str, more: Sequence[str], log_dir: Path) -> Verdict:
    """Run and measure one seed."""
    with tempfile.TemporaryDirectory(prefix="ams-street-") as data, RedisServer(Path(data)) as redis:
        figures = run_demo(redis.url, seed, camera, more, log_dir / f"{camera}-{seed}")
        unadapted, adapted, oracle = asyncio.run(last_minute(redis.url, ModelBundle.load(ORACLE)))
    gap = oracle - unadapted
    return Verdict(
        seed=seed, camera=camera, unadapted=round(unadapted, 2), adapted=round(adapted, 2), oracle=round(oracle, 2),
        gain=round(adapted - unadapted, 2), closed=round((adapted - unadapted) / gap, 3) if gap > 0 else 1.0,
        late_share=figures["late_share"], frames=figures["frames"], inferences=figures["inferences"],
        frames_dropped=figures["frames_dropped"],
        downlink_kbps=figures["downlink_kbps"], uplink_kbps=figures["uplink_kbps"],
        phases_published=figures["phases_published"], phases=figures["phases"],
        digest_mismatches=figures["digest_mismatches"],
    )  # fmt: skip


def clear_days() -> float:
    """How far the student that ships is behind the oracle on clear days, against the exact labels, in points."""
    exact = json.loads((MODELS / "figures.json").read_text())["miou_exact_labels"]
    return float(exact["oracle"]["day"] - exact["student"]["day"])


def main() -> int:
    """Run all seeds; 0 when every promise is kept."""
    parser = argparse.ArgumentParser(prog="make demo-check", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="sites to run on (default: %(default)s)")
    parser.add_argument("--camera", choices=("moving", "fixed"), default="moving", help="default: %(default)s")
    parser.add_argument("--logs", type=Path, default=Path("build/street-world"), help="where the logs go")
    options, more = parser.parse_known_args()
    behind = clear_days()
    verdicts = []
    for seed in options.seeds:
        verdict = judge(seed, options.camera, more, options.logs)
        verdicts.append(verdict)
        print(json.dumps(asdict(verdict)), flush=True)
    kept = all(verdict.kept for verdict in verdicts) and behind <= CLEAR_DAY_POINTS
    print(json.dumps({"kept": kept, "behind_oracle_on_clear_days": round(behind, 2), "runs": len(verdicts)}))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
