"""The record of a run: what one session's clips scored and its phases gained, read from the broker as it goes.

Gives the figures that people and programs are shown: mIoU over the last seconds, totals, one line for a terminal.
Knows the broker's ports; does not start, stop or draw anything. Bounded: of a long run the newest entries are kept, and
totals count the rest.
"""

from __future__ import annotations

import json
from statistics import fmean
from typing import Any

from ams.core.score import ClipScore, FrameScore, PhaseRecord
from ams.ports import Broker

LAST_S = 30.0
"""The figures of a run are means over its last 30 s of stream, if nothing else is asked for."""

MAX_FRAMES = 20_000
MAX_PHASES = 4_000
MAX_CLIPS = 4_000
"""What is kept of a run that does not end: some hours of it."""


class RunRecord:
    """The scores, phases and device statistics of one session so far."""

    def __init__(self, broker: Broker, sid: str) -> None:
        self._broker = broker
        self._sid = sid
        self._cursor = ""
        self._clip_ids: dict[str, None] = {}
        self.frames: list[FrameScore] = []
        self.clips: list[ClipScore] = []
        self.phases: list[PhaseRecord] = []
        self.state: dict[str, str] = {}
        self.clip_count = 0
        self.phase_count = 0
        self.published_count = 0
        self.scored_count = 0
        self.unscored_count = 0

    @property
    def clips_seen(self) -> int:
        """Clips that have been scored or found unusable."""
        return self.clip_count + int(self.state.get("unusable_clips", "0"))

    @property
    def stats(self) -> dict[str, Any]:
        """What the device last said of itself; empty before that."""
        stats: dict[str, Any] = json.loads(self.state.get("stats", "{}"))
        return stats

    async def refresh(self) -> tuple[list[ClipScore], list[PhaseRecord]]:
        """Read what is new; returns it, in order of arrival. May raise BrokerError."""
        clips, phases = [], []
        # The state first: it must not know of scores that are not known here. Once both are read nothing can fail.
        state = await self._broker.directory.state(self._sid)
        entries = await self._broker.scores.read(self._sid, after=self._cursor)
        self.state = state
        for entry in entries:
            self._cursor = entry.entry_id
            if entry.kind == "clip":
                score = ClipScore.model_validate_json(entry.body)
                if score.clip_id in self._clip_ids:
                    continue  # an owner died between writing a score and noting that it did
                clips.append(score)
                self._add_clip(score)
            else:
                phase = PhaseRecord.model_validate_json(entry.body)
                phases.append(phase)
                self._add_phase(phase)
        self.frames.sort(key=lambda frame: frame.t_s)  # clips come out of order after an outage
        del self.frames[:-MAX_FRAMES]
        return clips, phases

    def _add_clip(self, score: ClipScore) -> None:
        self._clip_ids[score.clip_id] = None
        self.clips.append(score)
        self.frames.extend(score.frames)
        self.clip_count += 1
        self.unscored_count += score.unscored
        self.scored_count += sum(frame.adapted is not None for frame in score.frames)
        if len(self.clips) > MAX_CLIPS:
            self._clip_ids.pop(self.clips.pop(0).clip_id, None)

    def _add_phase(self, phase: PhaseRecord) -> None:
        self.phases.append(phase)
        self.phase_count += 1
        self.published_count += phase.published
        del self.phases[:-MAX_PHASES]

    def miou(self, which: str, *, last_s: float = LAST_S) -> float | None:
        """Mean over the last `last_s` seconds of stream of the sliding mIoU `adapted` or `unadapted`, 0 to 1.

        Over the same frames for both: those for which both are known.
        """
        if not self.frames:
            return None
        since_s = self.frames[-1].t_s - last_s
        recent = [frame for frame in self.frames if frame.t_s > since_s]
        known = [getattr(f, which) for f in recent if f.adapted is not None and f.unadapted is not None]
        return fmean(known) if known else None

    def line(self, *, last_s: float = LAST_S) -> str:
        """One line for the terminal."""
        stats = self.stats
        adapted, unadapted = self.miou("adapted", last_s=last_s), self.miou("unadapted", last_s=last_s)
        if adapted is None or unadapted is None:
            accuracy = "mIoU: waiting for the first labels"
        else:
            accuracy = f"mIoU {100 * adapted:5.1f} adapted, {100 * unadapted:5.1f} unadapted"
        return (
            f"{accuracy} | up {stats.get('uplink_kbps', 0):5.0f} kbps, down {stats.get('downlink_kbps', 0):5.0f} kbps"
            f" | camera {stats.get('camera_fps', 0):4.1f} fps, inference {stats.get('inference_fps', 0):4.1f} fps"
            f" | version {stats.get('version', 0)} | {self.published_count} of {self.phase_count} phases published"
        )


def summary(record: RunRecord, agent: dict[str, Any], *, last_s: float = LAST_S) -> dict[str, Any]:
    """The figures of a run: mIoU in points over its last `last_s` seconds, rates in stream time.

    `agent` are the totals that the agent prints at its end.
    """

    def points(which: str) -> float | None:
        value = record.miou(which, last_s=last_s)
        return None if value is None else round(100 * value, 2)

    agreements = [clip.agreement for clip in record.clips if clip.agreement is not None]
    mismatches = int(agent.get("digest_mismatches", 0)) + int(record.state.get("digest_mismatches", "0"))
    return {
        "adapted_miou": points("adapted"),
        "unadapted_miou": points("unadapted"),
        "camera_fps": round(agent.get("camera_fps", 0.0), 2),
        "inference_fps": round(agent.get("inference_fps", 0.0), 2),
        "frames": agent.get("frames", 0),
        "inferences": agent.get("inferences", 0),
        "frames_late": agent.get("frames_late", 0),
        "frames_dropped": agent.get("frames_dropped", 0),
        "late_share": round(agent.get("late_share", 0.0), 4),
        "latency_p50_ms": round(agent.get("latency_p50_ms", 0.0), 2),
        "latency_p95_ms": round(agent.get("latency_p95_ms", 0.0), 2),
        "uplink_kbps": round(agent.get("uplink_kbps", 0.0), 1),
        "downlink_kbps": round(agent.get("downlink_kbps", 0.0), 1),
        "patches": agent.get("patches", 0),
        "digest_mismatches": mismatches,
        "patches_refused": agent.get("patches_refused", 0),
        "version": agent.get("version", 0),
        "phases": record.phase_count,
        "phases_published": record.published_count,
        "clips": record.clip_count,
        "frames_scored": record.scored_count,
        "frames_unscored": record.unscored_count,
        "device_agreement": round(fmean(agreements), 4) if agreements else None,
        "stream_s": round(agent.get("stream_s", 0.0), 1),
    }
