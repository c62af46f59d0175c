"""Settings of the edge agent, read once in `__main__`. Environment prefix: AMS_EDGE_."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ams.errors import ConfigError

MAX_TOKEN_CHARACTERS = 200
"""What Hello allows."""

MAX_PORT = 65_535


class EdgeSettings(BaseSettings):
    """The edge agent: inference at camera rate, clips up, patches down. `_real_s` is in real seconds."""

    model_config = SettingsConfigDict(env_prefix="AMS_EDGE_", extra="forbid", frozen=True)

    server_url: str = Field(description="WebSocket of the gateway, for example wss://ams.example/v1/device.")
    device: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="Name of this device.")
    stream: str = Field(
        default="cam0", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="Name of this camera on the device."
    )
    token: SecretStr | None = Field(
        default=None, description="The device's token; on a command line others can read it, so prefer a token file."
    )
    token_file: Path | None = Field(default=None, description="File that holds the device's token.")
    model: Path = Field(description="Directory of the student: model.onnx, card.json, weights.bin.")
    source: str = Field(
        min_length=1,
        description="Where frames come from: a camera by its number or path (0, /dev/video0), a world that is drawn on "
        "the spot (world:NAME), or a video file, played as if it were a camera (street.mp4, ./0).",
    )
    loop: bool = Field(default=False, description="Play the file again when it ends; for video files only.")
    codec: Literal["h264", "jpeg"] = Field(default="h264", description="How clips are encoded: h264 or jpeg.")
    clip_width: int = Field(
        default=0, ge=0, le=4096, description="Width of the frames that are sent; 0 for the student's input."
    )
    clip_height: int = Field(
        default=0, ge=0, le=4096, description="Height of the frames that are sent; 0 for the student's input."
    )
    provider: Literal["auto", "cuda", "cpu"] = Field(
        default="auto", description="Where the student runs: auto takes CUDA where ONNX Runtime has it, else the CPU."
    )
    threads: int = Field(default=1, ge=1, le=256, description="Threads of inference; leave a core for the swapper.")
    encoder_threads: int = Field(default=1, ge=1, le=64, description="Threads of the clip encoder.")
    spool_clips: int = Field(default=32, ge=1, le=10_000, description="Clips kept until the server has them.")
    spool_bytes: int = Field(
        default=16 << 20, ge=1 << 16, le=1 << 34, description="Bytes of clips kept until the server has them."
    )
    drain_real_s: float = Field(
        default=10.0, ge=0, le=600, description="How long to wait for the last clips to arrive once the source ends."
    )
    speed: float = Field(default=1.0, gt=0, le=100, description="Stream seconds per real second.")
    preview: str = Field(
        default="",
        description="HOST:PORT where programs can watch live what the student sees (WebSocket); port 0 for any free "
        "one, empty for no preview. Whoever reaches it sees the camera, so prefer 127.0.0.1.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR."
    )

    @field_validator("server_url")
    @classmethod
    def _is_a_websocket(cls, url: str) -> str:
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"expected ws://HOST/v1/device or wss://HOST/v1/device, got {url!r}")
        return url

    @field_validator("preview")
    @classmethod
    def _is_an_address(cls, preview: str) -> str:
        if preview:
            split_address(preview)
        return preview

    @property
    def preview_address(self) -> tuple[str, int] | None:
        """Host and port of the preview; None when none is wanted."""
        return split_address(self.preview) if self.preview else None

    def read_token(self) -> str:
        """The token itself. Raises ConfigError when there is none, two, or the file cannot be read."""
        if (self.token is None) == (self.token_file is None):
            raise ConfigError("give the device's token by exactly one of --token-file and AMS_EDGE_TOKEN")
        if self.token is not None:
            token = self.token.get_secret_value()
        else:
            assert self.token_file is not None
            try:
                token = self.token_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"token file {self.token_file} cannot be read: {error}") from error
        token = token.strip()
        if not 1 <= len(token) <= MAX_TOKEN_CHARACTERS:
            raise ConfigError(f"expected a token of 1 to {MAX_TOKEN_CHARACTERS} characters, got {len(token)}")
        return token


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, an IPv6 host in brackets. Raises ValueError for anything else."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > MAX_PORT:
        raise ValueError(f"expected HOST:PORT, for example 127.0.0.1:8765 or [::1]:0, got {address!r}")
    return host, int(port)
