"""How a run is going: read from the broker, shown as one live line, summed up at the end."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from ams.core.score import ClipScore, FrameScore, PhaseRecord
from ams.ports import Broker

LAST_S = 30.0
"""The figures of a run are means over its last 30 s of stream."""

PLAIN_LINE_REAL_S = 10.0
"""Without a terminal a line is printed so often."""


class Progress:
    """The scores, phases and device statistics of one session so far."""

    def __init__(self, broker: Broker, sid: str) -> None:
        self._broker = broker
        self._sid = sid
        self._cursor = ""
        self._clip_ids: set[str] = set()
        self.frames: list[FrameScore] = []
        self.clips: list[ClipScore] = []
        self.phases: list[PhaseRecord] = []
        self.state: dict[str, str] = {}

    @property
    def clips_seen(self) -> int:
        """Clips that have been scored or found unusable."""
        return len(self.clips) + int(self.state.get("unusable_clips", "0"))

    async def refresh(self) -> None:
        """Read what is new."""
        for entry in await self._broker.scores.read(self._sid, after=self._cursor):
            self._cursor = entry.entry_id
            if entry.kind == "clip":
                score = ClipScore.model_validate_json(entry.body)
                if score.clip_id in self._clip_ids:
                    continue  # an owner died between writing a score and noting that it did
                self._clip_ids.add(score.clip_id)
                self.clips.append(score)
                self.frames.extend(score.frames)
            else:
                self.phases.append(PhaseRecord.model_validate_json(entry.body))
        self.frames.sort(key=lambda frame: frame.t_s)  # clips come out of order after an outage
        self.state = await self._broker.directory.state(self._sid)

    def miou(self, which: str) -> float | None:
        """Mean over the last 30 s of stream of the sliding mIoU `adapted` or `unadapted`, 0 to 1.

        Over the same frames for both: those for which both are known.
        """
        if not self.frames:
            return None
        since_s = self.frames[-1].t_s - LAST_S
        recent = [frame for frame in self.frames if frame.t_s > since_s]
        known = [getattr(f, which) for f in recent if f.adapted is not None and f.unadapted is not None]
        return fmean(known) if known else None

    def line(self) -> str:
        """One line for the terminal."""
        stats: dict[str, Any] = json.loads(self.state.get("stats", "{}"))
        adapted, unadapted = self.miou("adapted"), self.miou("unadapted")
        if adapted is None or unadapted is None:
            accuracy = "mIoU: waiting for the first labels"
        else:
            accuracy = f"mIoU {100 * adapted:5.1f} adapted, {100 * unadapted:5.1f} unadapted"
        published = sum(phase.published for phase in self.phases)
        return (
            f"{accuracy} | up {stats.get('uplink_kbps', 0):5.0f} kbps, down {stats.get('downlink_kbps', 0):5.0f} kbps"
            f" | camera {stats.get('camera_fps', 0):4.1f} fps, inference {stats.get('inference_fps', 0):4.1f} fps"
            f" | version {stats.get('version', 0)} | {published} of {len(self.phases)} phases published"
        )


def summary(progress: Progress, agent: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run: mIoU in points, rates in stream time."""

    def points(which: str) -> float | None:
        value = progress.miou(which)
        return None if value is None else round(100 * value, 2)

    agreements = [clip.agreement for clip in progress.clips if clip.agreement is not None]
    mismatches = int(agent.get("digest_mismatches", 0)) + int(progress.state.get("digest_mismatches", "0"))
    return {
        "adapted_miou": points("adapted"),
        "unadapted_miou": points("unadapted"),
        "camera_fps": round(agent.get("camera_fps", 0.0), 2),
        "inference_fps": round(agent.get("inference_fps", 0.0), 2),
        "uplink_kbps": round(agent.get("uplink_kbps", 0.0), 1),
        "downlink_kbps": round(agent.get("downlink_kbps", 0.0), 1),
        "patches": agent.get("patches", 0),
        "digest_mismatches": mismatches,
        "patches_refused": agent.get("patches_refused", 0),
        "version": agent.get("version", 0),
        "phases": len(progress.phases),
        "phases_published": sum(phase.published for phase in progress.phases),
        "clips": len(progress.clips),
        "frames_scored": sum(frame.adapted is not None for frame in progress.frames),
        "frames_unscored": sum(clip.unscored for clip in progress.clips),
        "device_agreement": round(fmean(agreements), 4) if agreements else None,
        "stream_s": round(agent.get("stream_s", 0.0), 1),
    }


@contextlib.contextmanager
def live_line(video: Path) -> Iterator[Callable[[str], None]]:
    """A function that shows a line in place on a terminal, else prints it every ten seconds to stderr."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(f"{video.name}: starting") as status:
            yield lambda text: status.update(f"{video.name} | {text}")
        return
    printed = -PLAIN_LINE_REAL_S

    def show(text: str) -> None:
        nonlocal printed
        if time.monotonic() - printed >= PLAIN_LINE_REAL_S:
            printed = time.monotonic()
            print(f"{video.name} | {text}", file=sys.stderr, flush=True)

    yield show
