"""Settings of the labeler, read once in `__main__`. Environment prefix: AMS_LABELER_."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ams.telemetry import LogFormat, LogLevel


class LabelerSettings(BaseSettings):
    """The teacher and how it is fed. `_s` are real seconds."""

    model_config = SettingsConfigDict(env_prefix="AMS_LABELER_", extra="forbid", frozen=True)

    broker_url: str = Field(description="Broker, for example redis://127.0.0.1:6379/0.")
    models_dir: Path = Field(description="Directory of the model store.")
    teacher: str = Field(min_length=1, description="Teacher: name, model_id or directory.")
    name: str = Field(
        default="", description="Name of this process on the broker, unlike any other labeler's; random if empty."
    )
    threads: int = Field(default=1, ge=1, le=256, description="Threads of one teacher run on the CPU.")
    batch: int = Field(default=8, ge=1, le=256, description="Frames per teacher run at most, across clips.")
    batch_wait_s: float = Field(
        default=0.05, ge=0, le=10, description="How long a batch that is not full waits for more frames, in seconds."
    )
    reclaim_idle_s: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="A clip that a labeler took and did not finish for so long goes to another, in seconds; longer "
        "than the slowest batch.",
    )
    max_deliveries: int = Field(
        default=3, ge=1, le=100, description="A clip that failed so often is moved to the dead letters."
    )
    max_clip_pixels: int = Field(
        default=64 * 1024 * 1024, ge=4096, le=1 << 30, description="Frames x height x width of a clip at most."
    )
    stop_s: float = Field(
        default=10.0, gt=0, le=300, description="How long to finish what is begun after SIGTERM, in seconds."
    )
    metrics_port: int = Field(default=0, ge=0, le=65_535, description="Port of /metrics; 0 for none.")
    metrics_host: str = Field(default="127.0.0.1", description="Address of /metrics.")
    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: LogFormat = Field(default="text", description="text for people, json for machines.")
