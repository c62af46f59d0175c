"""One session of the trainer: a student that learns a stream, and the record of what its device runs.

Takes labelled clips and events from the device in, gives scores, rates and patches out. No I/O and no asyncio:
`services.trainer.worker` reads and writes the broker, and calls the heavy methods (`take`, `run_phase`) in the
training thread. Publishing is two steps on purpose: the publisher holds what is decided, the worker appends it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from ams.core import label_map
from ams.core.gating import Gate
from ams.core.horizon import FrameRef, Horizon, HorizonClip
from ams.core.interval import TrainingInterval
from ams.core.label_map import LabelMaps
from ams.core.messages import Clip, Rates, Refused
from ams.core.metrics import ConfusionMatrix, confusion
from ams.core.sampling import SamplingRate
from ams.core.score import ClipScore, PhaseRecord
from ams.core.stream_time import StreamTime
from ams.errors import AmsError, ModelError
from ams.learn.adam import MaskedAdam
from ams.learn.phase import DistillationPhase, PhaseSettings
from ams.learn.student import Student
from ams.models.bundle import ModelBundle
from ams.ports import LabelledClip, UpstreamEvent
from ams.video import decode_clip, resize
from services.trainer.config import TrainerSettings
from services.trainer.publisher import Publisher
from services.trainer.scoring import FramesNHWC, Scorer
from services.trainer.updates import UpdateControl

log = logging.getLogger(__name__)

MAX_CLIP_INTERVAL_S = 600.0
"""The longest interval that a device can be asked for."""


@dataclass(frozen=True)
class Snapshot:
    """What of a session outlives its owner beside the logs: the clock's line and the controllers."""

    boot_id: str
    offset_s: float
    latest_s: float
    sampling_hz: float
    interval_s: float
    slowed: bool


class Session:
    """Everything the trainer holds for one session id. Memory: the weights a few times over, and the horizon."""

    def __init__(self, sid: str, fence: int, bundle: ModelBundle, student: Student, settings: TrainerSettings) -> None:
        self.sid = sid
        self.model_id = bundle.model_id
        self.settings = settings
        self._stream = sid.partition("/")[2]
        self._bundle = bundle
        self._layout = bundle.layout
        self._student = student
        self._subset = bundle.card.subset_indices
        self._classes = len(bundle.card.classes)
        self.publisher = Publisher(sid, fence, bundle)
        self.history = self.publisher.history
        self.horizon = Horizon(span_s=settings.horizon_s, max_bytes=settings.horizon_bytes)
        self.scorer = Scorer(student, self.history, classes=self._classes, subset=self._subset)
        self.sampling = SamplingRate(hz=settings.max_sampling_hz, max_hz=settings.max_sampling_hz)
        self.interval = TrainingInterval(base_s=settings.training_interval_s)
        self.optimizer = MaskedAdam(self._layout.size, lr=settings.learning_rate)
        self.updates = UpdateControl(settings, self._layout, np.random.default_rng([settings.seed, fence, 1]))
        self._gate = Gate(settings.gate_margin)
        self._rng = np.random.default_rng([settings.seed, fence])
        self._time = StreamTime()
        self._phis: list[float] = []
        self._fresh = False
        self._last_phase_s: float | None = None
        self.unusable_clips = 0

    @property
    def rates(self) -> Rates:
        """What the device is asked for now."""
        return Rates(
            stream=self._stream,
            sampling_hz=self.sampling.hz,
            clip_interval_s=min(self.interval.interval_s, MAX_CLIP_INTERVAL_S),
            uplink_kbps=self.settings.uplink_kbps,
        )

    def snapshot(self) -> Snapshot:
        """What the next owner goes on with."""
        return Snapshot(*self._time.snapshot(), self.sampling.hz, self.interval.interval_s, self.interval.slowed)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on where an earlier owner stopped."""
        self._time.restore(snapshot.boot_id, snapshot.offset_s, snapshot.latest_s)
        self.sampling.hz = snapshot.sampling_hz
        self.interval.interval_s, self.interval.slowed = snapshot.interval_s, snapshot.slowed

    def hear(self, event: UpstreamEvent) -> None:
        """Take note of an event from the device; the publisher may decide to answer."""
        try:
            if event.kind == "refused":
                self.publisher.heard_refusal(Refused.model_validate_json(event.body))
            elif event.kind in ("applied", "resume"):
                body = json.loads(event.body)
                self.publisher.heard_running(
                    int(body["version"]),
                    bytes.fromhex(body["digest"]),
                    connected=event.kind == "resume",
                    log_reaches=bool(body.get("log_reaches", True)),
                )
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            log.warning("%s: event %s is malformed and was skipped: %s", self.sid, event.kind, error)

    # -- labelled clips ----------------------------------------------------------------------------------------

    def take(self, labelled: LabelledClip, now_s: float, *, scored: bool = True) -> ClipScore | None:
        """Score a labelled clip and add it to the horizon. Heavy: decodes and runs the student.

        None for a repetition, for a clip that cannot be used and with `scored=False`, which a new owner uses for
        clips that the last one has scored.
        """
        if labelled.error:
            self.unusable_clips += 1
            return None
        if self.horizon.has_seen(labelled.clip_id):
            return None
        try:
            clip = Clip.model_validate_json(labelled.meta)
            if labelled.clip_id != clip.clip_id or clip.model_id != self._bundle.model_id:
                raise ModelError("clip belongs to another model or id")
            frames_NHWC, labels_NHW = self._decode(clip, labelled.payload, labelled.labels)
        except (AmsError, ValidationError) as error:
            self.unusable_clips += 1
            log.warning("%s: labelled clip %s cannot be used: %s", self.sid, labelled.clip_id, error)
            return None
        times_s = self._time.to_server(clip.boot_id, clip.sent_ns, [f.t_ns for f in clip.frames], now_s)
        added = self.horizon.add(
            HorizonClip(clip.clip_id, times_s, labelled.meta, labelled.payload, labelled.labels, labelled.entry_id)
        )
        if not added:
            self.unusable_clips += 1
            log.warning("%s: clip %s is too old or overlaps another, it is left out", self.sid, clip.clip_id)
            return None
        self._fresh = True
        if not scored:
            return None
        _, device_labels = clip.parts_of(labelled.payload)
        score = self.scorer.score(clip, times_s, frames_NHWC, labels_NHW, device_labels)
        if score.phi is not None:
            self._phis.append(score.phi)
        return score

    def _decode(self, clip: Clip, payload: bytes, labels: bytes) -> tuple[FramesNHWC, LabelMaps]:
        """Frames and label maps of a clip, both at the student's input size."""
        video, _ = clip.parts_of(payload)
        spec = self._bundle.card.input
        frames_NHWC = decode_clip(
            video, codec=clip.codec, frames=len(clip.frames), width=clip.width, height=clip.height
        )
        labels_NHW = label_map.decode(labels)
        if labels_NHW.shape != (len(clip.frames), spec.height, spec.width):
            raise ModelError(f"label maps of shape {labels_NHW.shape} for {len(clip.frames)} frames")
        return resize(frames_NHWC, width=spec.width, height=spec.height), labels_NHW

    # -- training ----------------------------------------------------------------------------------------------

    def phase_due(self, now_s: float) -> bool:
        """Whether there is something new to learn, it is time, and the device keeps up."""
        return (
            self._fresh
            and self.interval.due(now_s, self._last_phase_s)
            and self.history.may_publish
            and bool(self.horizon.trainable())
            and bool(self.horizon.held_out())
        )

    def run_phase(
        self, now_s: float, timer: Callable[[], float], should_stop: Callable[[], bool] = lambda: False
    ) -> PhaseRecord | None:
        """Train, judge on held-out frames, and decide. A published patch lies with the publisher. Heavy.

        None when it was asked to stop before it was done: half a phase is not published.

        Raises ModelError when training diverges; record and weights are then as before.
        """
        started = timer()
        self._last_phase_s, self._fresh = now_s, False
        self._control()
        start = self.history.latest
        batches = self.horizon.draw(self._rng, steps=self.settings.steps, batch=self.settings.batch)
        phase = DistillationPhase(
            self._student,
            self.optimizer,
            self.updates.begin(now_s, self.interval.interval_s),
            PhaseSettings(steps=self.settings.steps, batch=self.settings.batch, lr=self.settings.learning_rate),
        )
        origin = self.updates.origin(start)
        result = phase.run(origin, self._frames_of(batches), should_stop=should_stop)
        if len(result.losses) < len(batches):
            return None
        delta = self.updates.fit(start, result, self.publisher.size_of)
        candidate = delta.added_to(start).astype(np.int32, copy=False)
        before, after = self._judge(start), self._judge(candidate)
        verdict = self._gate.judge(before, after, self._subset)
        publish = verdict.publish and len(delta) > 0
        patch_bytes = 0
        if publish:
            patch_bytes = len(self.publisher.publish(delta).patch)
            self.updates.sent(patch_bytes)
        return PhaseRecord(
            t_s=now_s,
            seconds=timer() - started,
            steps=len(result.losses),
            loss_first=result.losses[0],
            loss_last=result.losses[-1],
            gain=verdict.gain,
            held_out=verdict.frames,
            published=publish,
            version=self.history.version,
            patch_bytes=patch_bytes,
            changed=len(delta),
        )

    def _control(self) -> None:
        """One step of the controllers, once per phase (paper sections 3.2 and the appendix on ATR)."""
        phi = float(np.mean(self._phis)) if self._phis else float("nan")
        self._phis.clear()
        if self.settings.adapt_rates:
            self.interval.update(self.sampling.update(phi))

    def _frames_of(self, batches: list[list[FrameRef]]) -> Iterator[tuple[FramesNHWC, LabelMaps]]:
        """Decoded batches. Each clip is decoded once per phase; only the frames that were drawn are kept."""
        wanted: dict[str, set[int]] = {}
        clips: dict[str, HorizonClip] = {}
        for ref in (ref for batch in batches for ref in batch):
            wanted.setdefault(ref.clip.clip_id, set()).add(ref.index)
            clips[ref.clip.clip_id] = ref.clip
        pixels: dict[tuple[str, int], tuple[FramesNHWC, LabelMaps]] = {}
        for clip_id, indices in wanted.items():
            frames_NHWC, labels_NHW = self._decode_held(clips[clip_id])
            for index in indices:
                pixels[clip_id, index] = frames_NHWC[index].copy(), labels_NHW[index].copy()
        for batch in batches:
            drawn = [pixels[ref.clip.clip_id, ref.index] for ref in batch]
            yield np.stack([frame for frame, _ in drawn]), np.stack([labels for _, labels in drawn])

    def _judge(self, weights: np.ndarray[tuple[int], np.dtype[np.int32]]) -> list[ConfusionMatrix]:
        """Confusion matrices of these weights on the held-out frames, one per frame."""
        refs = self.horizon.held_out()
        frames_NHWC, labels_NHW = self._decode_held(refs[0].clip)
        indices = [ref.index for ref in refs]
        predicted_NHW = self.scorer.predict(weights, frames_NHWC[indices])
        return [
            confusion(labels_NHW[index], predicted, classes=self._classes, subset=self._subset)
            for index, predicted in zip(indices, predicted_NHW, strict=True)
        ]

    def _decode_held(self, held: HorizonClip) -> tuple[FramesNHWC, LabelMaps]:
        return self._decode(Clip.model_validate_json(held.meta), held.payload, held.labels)
