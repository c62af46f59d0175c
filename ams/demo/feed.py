"""The feed: everything that the page shows of one session, gathered from the broker and from the preview's headers.

Polls the broker once a second and gives out what is new since a page last asked. All lists are bounded. Times that
leave here are stream seconds since the session's first frame. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from ams.core.horizon import entry_order
from ams.core.score import ClipScore, FrameScore, PhaseRecord
from ams.demo.moments import MomentMaker, MomentReel
from ams.errors import AmsError, BrokerError
from ams.models.bundle import ModelBundle
from ams.ports import Broker, Clock
from ams.run_record import RunRecord

log = logging.getLogger(__name__)

POLL_S = 1.0
LAST_MINUTE_S = 60.0
MAX_POINTS = 8_000
"""Entries of each list that are kept for the charts: two hours of frames at one a second."""

MAX_WAITING_CLIPS = 8
"""Scored clips whose labelled frames have not been read yet."""

LABELLED_AT_ONCE = 4
SCENES = 500


@dataclass(frozen=True)
class Subject:
    """What the page says of the session itself."""

    sid: str
    source: str
    broker: str
    student: ModelBundle
    teacher_name: str
    teacher_parameters: int

    def as_json(self) -> dict[str, Any]:
        """The part of the page's state that never changes."""
        card = self.student.card
        return {
            "session": self.sid,
            "source": self.source,
            "broker": self.broker,
            "student": {
                "name": card.name, "weights": self.student.layout.size,
                "classes": [card.classes[index] for index in card.subset_indices],
                "palette": [list(card.palette[index]) for index in card.subset_indices] if card.palette else [],
            },
            "teacher": {"name": self.teacher_name, "parameters": self.teacher_parameters},
        }  # fmt: skip


class Tail:
    """A list that only grows at its end and is cut at its beginning; a reader who knows N entries gets the rest."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._dropped = 0

    def __len__(self) -> int:
        return self._dropped + len(self._entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Append."""
        self._entries.append(entry)
        if len(self._entries) > MAX_POINTS:
            cut = len(self._entries) - MAX_POINTS
            del self._entries[:cut]
            self._dropped += cut

    def after(self, known: int) -> list[dict[str, Any]]:
        """What came after the first `known`, as far as it is kept."""
        return self._entries[max(0, known - self._dropped) :]


class Feed:
    """Gathers; `run` in a task of its own, the rest in the same event loop."""

    def __init__(self, broker: Broker, subject: Subject, clock: Clock) -> None:
        self.record = RunRecord(broker, subject.sid)
        self.reel = MomentReel()
        self._broker = broker
        self._subject = subject
        self._clock = clock
        self._maker = MomentMaker(subject.student)
        self._frames, self._phases, self._links = Tail(), Tail(), Tail()
        self._scenes: list[dict[str, Any]] = []
        self._scored: OrderedDict[str, ClipScore] = OrderedDict()
        self._labelled_cursor = self._patch_cursor = ""
        self._start_s: float | None = None
        self._header: dict[str, Any] = {}
        self._stats_ns = 0
        self._bytes = {"bytes_up": 0.0, "bytes_down": 0.0}
        self._phi: float | None = None
        self._trouble = ""

    async def run(self) -> None:
        """Gather until cancelled; a broker that is away is said on the page and asked again."""
        while True:
            try:
                await self._gather()
                self._trouble = ""
            except BrokerError as error:
                self._trouble = f"the broker is away, the camera goes on: {error}"
            await asyncio.sleep(POLL_S)

    def hear(self, header: dict[str, Any]) -> None:
        """Take note of a preview message's header. Raises KeyError, TypeError or ValueError for one that is none."""
        t_s = float(header["t_s"])
        self._header = header
        self._begin(t_s)
        name = str(header.get("caption", ""))
        if name and (not self._scenes or self._scenes[-1]["name"] != name):
            self._scenes.append({"t_s": self._since(t_s), "name": name})
            del self._scenes[:-SCENES]

    def state(self, *, frames: int, phases: int, links: int) -> dict[str, Any]:
        """What a page shows that already has so many entries of each list."""
        reset = frames > len(self._frames) or phases > len(self._phases) or links > len(self._links)
        if reset:
            frames = phases = links = 0
        now_s = self._clock.now_s()
        moment = self.reel.advance(now_s)
        return {
            **self._subject.as_json(),
            "reset": reset,
            "counts": {"frames": len(self._frames), "phases": len(self._phases), "links": len(self._links)},
            "now_s": 0.0 if self._start_s is None else self._since(now_s),
            "frames": self._frames.after(frames),
            "phases": self._phases.after(phases),
            "links": self._links.after(links),
            "scenes": self._scenes,
            "device": self._device(),
            "controllers": self._controllers(),
            "totals": {
                "bytes_up": round(self._bytes["bytes_up"]), "bytes_down": round(self._bytes["bytes_down"]),
                "digest_mismatches": int(self.record.state.get("digest_mismatches", "0")),
                "phases": self.record.phase_count, "phases_published": self.record.published_count,
            },
            "last_minute": {which: self.record.miou(which, last_s=LAST_MINUTE_S) for which in ("adapted", "unadapted")},
            "moment": None if moment is None else {
                "id": moment.id, "t_s": self._since(moment.t_s), "version": moment.version,
                "adapted": moment.adapted, "unadapted": moment.unadapted,
            },
            "trouble": self._trouble,
        }  # fmt: skip

    # -- gathering ---------------------------------------------------------------------------------------------

    async def _gather(self) -> None:
        clips, phases = await self.record.refresh()
        for clip in clips:
            self._begin(clip.frames[0].t_s)
            self._phi = clip.phi if clip.phi is not None else self._phi
            self._scored[clip.clip_id] = clip
            for frame in clip.frames:
                self._frames.add(self._frame(frame))
        while len(self._scored) > MAX_WAITING_CLIPS:
            self._scored.popitem(last=False)
        for phase in phases:
            self._phases.add(self._phase(phase))
        self._take_stats()
        await self._take_moments()

    async def _take_moments(self) -> None:
        """Make moments of the labelled clips that have been scored, in order; the others wait for their score."""
        if not self._scored:
            return
        sid = self._subject.sid
        patches = await self._broker.patches.read(sid, after=self._patch_cursor)
        if patches:
            self._patch_cursor = patches[-1].entry_id
            await asyncio.to_thread(self._maker.replay, patches)
        for labelled in await self._broker.labelled.read(sid, after=self._labelled_cursor, count=LABELLED_AT_ONCE):
            score = self._scored.pop(labelled.clip_id, None)
            if score is None and not labelled.error and self._is_expected(labelled.entry_id):
                return
            self._labelled_cursor = labelled.entry_id
            if score is None:
                continue
            try:
                moments = await asyncio.to_thread(self._maker.make, labelled, score)
            except (AmsError, ValueError) as error:
                log.warning("clip %s cannot be shown: %s", labelled.clip_id, error)
                continue
            self.reel.add(moments, self._clock.now_s())

    def _is_expected(self, entry_id: str) -> bool:
        """Whether a clip that has no score yet may still get one: the owner has not come past it."""
        scored = self.record.state.get("scored", "")
        return not scored or entry_order(entry_id) > entry_order(scored)

    def _take_stats(self) -> None:
        stats = self.record.stats
        sent_ns = int(stats.get("sent_ns", 0))
        if not stats or sent_ns == self._stats_ns:
            return
        seconds = (sent_ns - self._stats_ns) / 1e9 if self._stats_ns else 0.0
        self._stats_ns = sent_ns
        for direction, total in (("uplink_kbps", "bytes_up"), ("downlink_kbps", "bytes_down")):
            self._bytes[total] += stats.get(direction, 0.0) * 125 * max(0.0, seconds)
        now_s = self._clock.now_s()
        self._begin(now_s)
        self._links.add(
            {"t_s": self._since(now_s), "up_kbps": stats.get("uplink_kbps"), "down_kbps": stats.get("downlink_kbps")}
        )

    # -- shaping -----------------------------------------------------------------------------------------------

    def _begin(self, t_s: float) -> None:
        if self._start_s is None:
            self._start_s = t_s

    def _since(self, t_s: float) -> float:
        return round(t_s - (self._start_s or 0.0), 3)

    def _frame(self, frame: FrameScore) -> dict[str, Any]:
        return {
            "t_s": self._since(frame.t_s), "adapted": frame.adapted, "unadapted": frame.unadapted,
            "version": frame.version,
        }  # fmt: skip

    def _phase(self, phase: PhaseRecord) -> dict[str, Any]:
        self._begin(phase.t_s)
        return {**phase.model_dump(), "t_s": self._since(phase.t_s)}

    def _device(self) -> dict[str, Any] | None:
        """The newest of what the preview's headers and the device's reports say."""
        stats, header = self.record.stats, self._header
        if not stats and not header:
            return None
        return {
            "version": header.get("version", stats.get("version", 0)),
            "camera_fps": stats.get("camera_fps"),
            "inference_fps": header.get("fps", stats.get("inference_fps")),
            "latency_ms": header.get("latency_ms", stats.get("latency_ms")),
            "frames_late": header.get("late", stats.get("frames_late")),
            "frames_dropped": header.get("dropped", stats.get("frames_dropped")),
            "patches_applied": stats.get("patches_applied"),
            "patches_refused": stats.get("patches_refused"),
            "swap_ms": stats.get("swap_ms"),
            "clips_dropped": stats.get("clips_dropped"),
        }

    def _controllers(self) -> dict[str, Any] | None:
        state = self.record.state
        if "rates" not in state:
            return None
        rates, snapshot = json.loads(state["rates"]), json.loads(state.get("snapshot", "{}"))
        return {
            "sampling_hz": rates["sampling_hz"], "clip_interval_s": rates["clip_interval_s"],
            "training_interval_s": snapshot.get("interval_s", rates["clip_interval_s"]), "phi": self._phi,
            "uplink_budget_kbps": rates["uplink_kbps"],
        }  # fmt: skip
