"""Metrics of the labeler. No label names a session."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SECONDS_BUCKETS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class LabelerMetrics:
    """One registry per process; built in `__main__`, handed down."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.clips = Counter(
            "ams_labeler_clips",
            "Clips by result: labelled, unusable, repeated, failed (comes again), buried.",
            ["result"],
            registry=self.registry,
        )
        self.frames = Counter("ams_labeler_frames", "Frames that got labels.", registry=self.registry)
        self.decode_errors = Counter(
            "ams_labeler_decode_errors", "Clips that could not be decoded.", registry=self.registry
        )
        self.batch_frames = Histogram(
            "ams_labeler_batch_frames", "Frames per teacher run.", buckets=BATCH_BUCKETS, registry=self.registry
        )
        self.teacher_seconds = Histogram(
            "ams_labeler_teacher_seconds", "Seconds per teacher run, preprocessing and argmax included.",
            buckets=SECONDS_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.queue_depth = Gauge(
            "ams_labeler_queue_depth", "Clips that wait or are worked on, by all labelers.", registry=self.registry
        )
        self.broker_errors = Counter(
            "ams_labeler_broker_errors", "Operations that failed since the broker was away.", registry=self.registry
        )
