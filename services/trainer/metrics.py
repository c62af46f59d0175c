"""Metrics of the trainer. Labels: `session` is bounded by max_sessions and removed when a session is let go."""

from __future__ import annotations

import collections
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ams.core.score import ClipScore

if TYPE_CHECKING:
    from services.trainer.session import Session

Totals = tuple[int, int, collections.Counter[str]]

PHASE_SECONDS_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 100)
PATCH_BYTES_BUCKETS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)


class TrainerMetrics:
    """One registry per process; built in `__main__`, handed down."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        session = ["session"]
        self.adapted_miou = Gauge(
            "ams_adapted_miou", "mIoU over 10 s of what the device ran, 0 to 1.", session, registry=self.registry
        )
        self.unadapted_miou = Gauge(
            "ams_unadapted_miou", "mIoU over 10 s of version 0 on the same frames.", session, registry=self.registry
        )
        self.agreement = Gauge(
            "ams_device_agreement",
            "Share of pixels in which the device's label map equals the server's recomputation.",
            session,
            registry=self.registry,
        )
        self.phi = Gauge("ams_phi_score", "Likeness of consecutive label maps.", session, registry=self.registry)
        self.sampling_hz = Gauge(
            "ams_sampling_hz", "Sampling rate asked of the device.", session, registry=self.registry
        )
        self.interval_s = Gauge(
            "ams_training_interval_seconds", "T_update in stream seconds.", session, registry=self.registry
        )
        self.version = Gauge("ams_published_version", "Newest published version.", session, registry=self.registry)
        self.horizon_bytes = Gauge(
            "ams_horizon_bytes", "Encoded bytes of the replay horizon.", session, registry=self.registry
        )
        self.sessions = Gauge("ams_sessions_owned", "Sessions that this trainer owns.", registry=self.registry)
        self.frames = Counter(
            "ams_frames_scored", "Frames by whether they could be scored.", ["result"], registry=self.registry
        )
        self.phases = Counter(
            "ams_training_phases", "Phases: published, refused by the gate, failed.", ["result"], registry=self.registry
        )
        self.phase_seconds = Histogram(
            "ams_training_phase_seconds",
            "Real seconds per phase.",
            buckets=PHASE_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.patch_bytes = Histogram(
            "ams_patch_bytes", "Bytes of a published patch.", buckets=PATCH_BYTES_BUCKETS, registry=self.registry
        )
        self.digest_mismatches = Counter(
            "ams_digest_mismatches", "Versions that a device reported with another digest.", registry=self.registry
        )
        self.unusable_clips = Counter(
            "ams_unusable_clips", "Labelled clips that could not be used.", registry=self.registry
        )
        self.refusals = Counter(
            "ams_patches_refused", "Patches that a device refused.", ["reason"], registry=self.registry
        )
        self.broker_errors = Counter(
            "ams_broker_errors", "Operations that failed since the broker was away.", registry=self.registry
        )

    def observe_score(self, sid: str, score: ClipScore) -> None:
        """Take note of a scored clip."""
        self.frames.labels("scored").inc(len(score.frames) - score.unscored)
        self.frames.labels("unscored").inc(score.unscored)
        last = score.frames[-1]
        for gauge, value in (
            (self.adapted_miou, last.adapted),
            (self.unadapted_miou, last.unadapted),
            (self.agreement, score.agreement),
            (self.phi, score.phi),
        ):
            if value is not None:
                gauge.labels(sid).set(value)

    def observe_session(self, session: Session) -> None:
        """Set the gauges of a session."""
        self.sampling_hz.labels(session.sid).set(session.sampling.hz)
        self.interval_s.labels(session.sid).set(session.interval.interval_s)
        self.version.labels(session.sid).set(session.history.version)
        self.horizon_bytes.labels(session.sid).set(session.horizon.bytes)

    def count_news(self, before: Totals, after: Totals) -> None:
        """Count what was added to a session's totals of digest mismatches, unusable clips and refusals by reason."""
        self.digest_mismatches.inc(max(0, after[0] - before[0]))
        self.unusable_clips.inc(max(0, after[1] - before[1]))
        for reason, count in (after[2] - before[2]).items():
            self.refusals.labels(reason).inc(count)

    def forget(self, sid: str) -> None:
        """Drop the series of a session."""
        for gauge in (
            self.adapted_miou, self.unadapted_miou, self.agreement, self.phi, self.sampling_hz, self.interval_s,
            self.version, self.horizon_bytes,
        ):  # fmt: skip
            with suppress(KeyError):  # a session that never got so far has no series
                gauge.remove(sid)
