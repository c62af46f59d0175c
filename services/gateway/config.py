"""Settings of the gateway, read once in `__main__`. Environment prefix: AMS_GATEWAY_."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from ams.telemetry import LogFormat, LogLevel

LARGEST_CLIP_BYTES = 1 << 26


class GatewaySettings(BaseSettings):
    """Where devices connect. `_s` are real seconds, except in the first rates of a stream."""

    model_config = SettingsConfigDict(env_prefix="AMS_GATEWAY_", extra="forbid", frozen=True)

    broker_url: str = Field(description="Broker, for example redis://127.0.0.1:6379/0.")
    teacher: str = Field(min_length=1, description="model_id of the teacher; it names the queue that clips go to.")
    name: str = Field(default="", description="Name of this process on the broker, unlike any other; random if empty.")
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 for a free one.")
    credit: int = Field(default=8, ge=1, le=1024, description="Clips of one session that may wait for the teacher.")
    credit_retry_s: float = Field(
        default=5.0, gt=0, le=3600, description="When a device without credit is to try again, in seconds."
    )
    broker_retry_s: float = Field(
        default=2.0, gt=0, le=3600, description="When a device is to try again while the broker is away, in seconds."
    )
    heartbeat_s: float = Field(default=10.0, gt=0, le=600, description="Longest silence of either end, in seconds.")
    hello_timeout_s: float = Field(default=10.0, gt=0, le=120, description="Seconds that a device has to say Hello.")
    sweep_s: float = Field(
        default=1.0, gt=0, le=60, description="How often to look for news without a ring, in seconds; rarer with many."
    )
    max_clip_bytes: int = Field(default=1 << 20, ge=1024, le=LARGEST_CLIP_BYTES, description="Largest clip in bytes.")
    max_connections: int = Field(default=4096, ge=1, le=100_000, description="Devices on this process at most.")
    sampling_hz: float = Field(default=1.0, gt=0, le=30, description="First sampling rate of a stream, in frames/s.")
    clip_interval_s: float = Field(
        default=10.0, gt=0, le=600, description="First interval between clips, in stream seconds."
    )
    uplink_kbps: float = Field(default=200.0, gt=0, le=100_000, description="First uplink budget of a stream in kbps.")
    speed: float = Field(
        default=1.0, gt=0, le=100, description="Stream seconds per real second; the gateway itself has no stream time."
    )
    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: LogFormat = Field(default="text", description="text for people, json for machines.")
