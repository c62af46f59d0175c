"""Settings of the trainer, read once in `__main__`. Environment prefix: AMS_TRAINER_."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ams.telemetry import LogFormat, LogLevel


class TrainerSettings(BaseSettings):
    """The paper's defaults (section 4.1) where it has them. All `_s` are stream seconds unless they say otherwise."""

    model_config = SettingsConfigDict(env_prefix="AMS_TRAINER_", extra="forbid", frozen=True)

    broker_url: str = Field(description="Broker, for example redis://127.0.0.1:6379/0.")
    models_dir: Path = Field(description="Directory of the model store.")
    name: str = Field(default="", description="Name of this process on the broker; random when empty.")
    steps: int = Field(default=20, ge=1, le=1000, description="Training steps per phase (K).")
    batch: int = Field(default=8, ge=1, le=64, description="Frames per training step.")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Adam's step size.")
    selection: Literal["auto", "all", "gradient", "random", "first", "last", "first_and_last"] = Field(
        default="auto",
        description="Which weights a phase may change: auto (by gradient, as many as the downlink's budget is good "
        "for), all, or the paper's with a fixed coordinate fraction: gradient, random, first, last, first_and_last.",
    )
    coordinate_fraction: float = Field(
        default=0.05, gt=0, le=1, description="Share of the weights that the paper's selections change (gamma)."
    )
    downlink_kbps: float = Field(
        default=100.0, ge=0, le=1_000_000, description="Downlink budget of a stream's updates in kbps; 0 for none."
    )
    step_rms: float = Field(
        default=2.0, ge=0, le=8, description="Finest quantiser step, as a multiple of the RMS change of a tensor."
    )
    carry: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of what quantising lost that the next phase trains on from, where all weights are trained.",
    )
    dead_zone: float = Field(
        default=0.5, ge=0.5, le=2, description="Share of a quantiser step below which a change is not sent."
    )
    training_interval_s: float = Field(default=10.0, gt=0, le=600, description="Base of T_update.")
    horizon_s: float = Field(default=240.0, gt=0, le=3600, description="Length of the replay horizon.")
    horizon_bytes: int = Field(
        default=4 << 20, ge=1 << 16, le=1 << 30, description="Bound of one session's encoded horizon in bytes."
    )
    gate_margin: float = Field(
        default=0.002, ge=-1, le=1, description="Held-out gain in mIoU (0 to 1) that a phase must exceed to be sent."
    )
    max_sampling_hz: float = Field(default=1.0, gt=0, le=30, description="Highest sampling rate that devices get.")
    uplink_kbps: float = Field(default=200.0, gt=0, le=100_000, description="Uplink budget per stream.")
    adapt_rates: bool = Field(default=True, description="Adapt sampling rate and training interval to the scene.")
    threads: int = Field(default=1, ge=1, le=256, description="Threads of one training step.")
    speed: float = Field(default=1.0, gt=0, le=100, description="Stream seconds per real second.")
    seed: int = Field(default=0, ge=0, description="Seed of the draws from the horizon.")
    max_sessions: int = Field(default=64, ge=1, le=10_000, description="Sessions that this process owns at most.")
    lease_ttl_real_s: float = Field(default=10.0, gt=0.5, le=300, description="Lease of a session, real seconds.")
    sweep_real_s: float = Field(default=1.0, gt=0, le=60, description="How often to look without a ring, real seconds.")
    idle_session_real_s: float = Field(
        default=120.0, gt=1, le=86_400, description="A session that is silent for so long is let go, real seconds."
    )
    metrics_port: int = Field(default=0, ge=0, le=65_535, description="Port of /metrics; 0 for none.")
    metrics_host: str = Field(default="127.0.0.1", description="Address of /metrics.")
    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: LogFormat = Field(default="text", description="text for people, json for machines.")
