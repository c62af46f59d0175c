"""Runs of the update benchmarks: student, trace, scheme and seed, each replayed once and kept in build/runs.

Two at a time, one thread each. A benchmark that was interrupted goes on where it stopped; `make clean` forgets all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.replay import Replayed

CACHE = Path("build/runs")
KIT = Path(os.environ.get("AMS_KIT") or "../shared/kit")

LONG = ("day 35, dusk 45, rain 120", 180.0)
SHORT = ("day 12, dusk 28, rain 60", 70.0)
"""For the large student: a phase of its takes ten times as long."""


@dataclass(frozen=True)
class Run:
    """What to replay: `student` is shipped, paper or kit; `trace` names a site and a camera, or a video of the kit."""

    student: str
    trace: str
    scheme: str
    seed: int

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        key = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]
        return CACHE / f"{self.student}-{self.trace.replace(':', '-')}-{self.scheme}-{self.seed}-{key}.json"


def replay_all(runs: Sequence[Run], *, jobs: int = 2) -> dict[Run, Replayed]:
    """The results of all runs; those that are not kept yet are replayed, with a progress bar."""
    CACHE.mkdir(parents=True, exist_ok=True)
    missing = [run for run in dict.fromkeys(runs) if not run.path.is_file()]
    if missing:
        _prepare(missing)
        with (
            Progress(console=Console(stderr=True)) as progress,
            ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool,
        ):
            task = progress.add_task(f"{len(missing)} runs", total=len(missing))
            for done in as_completed([pool.submit(_replay, run) for run in missing]):
                done.result()
                progress.advance(task)
    return {run: _read(run.path) for run in runs}


def _prepare(runs: Sequence[Run]) -> None:
    """What several processes would otherwise make at the same time."""
    from benchmarks import students

    if any(run.student == "paper" for run in runs):
        students.paper()


def _replay(run: Run) -> None:
    import cv2
    import torch

    from benchmarks import students
    from benchmarks.replay import replay
    from benchmarks.trace import kit_trace, street_trace

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if run.student == "kit":
        bundle = students.kit(KIT)
        trace = kit_trace(KIT, run.trace, bundle)
    else:
        bundle = students.paper() if run.student == "paper" else students.shipped()
        camera, _, seed = run.trace.partition(":")
        script, seconds = SHORT if run.student == "paper" else LONG
        trace = street_trace(int(seed), "fixed" if camera == "fixed" else "moving", script, seconds=seconds)
    result = replay(trace, bundle, run.scheme, seed=run.seed, batch=8 if run.student == "shipped" else 4)
    incoming = run.path.with_suffix(f".incoming-{os.getpid()}")
    incoming.write_text(json.dumps(asdict(result)))
    incoming.rename(run.path)


def _read(path: Path) -> Replayed:
    fields = json.loads(path.read_text())
    return Replayed(**{**fields, "bytes": tuple(fields["bytes"]), "changed": tuple(fields["changed"])})
