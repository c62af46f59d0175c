"""Settings of the processes behind `ams demo`, given by the command that starts them. Prefix: AMS_DEMO_."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PageSettings(BaseSettings):
    """The live page: which session it shows and where."""

    model_config = SettingsConfigDict(env_prefix="AMS_DEMO_", extra="forbid", frozen=True)

    broker_url: str = Field(description="Broker, for example redis://127.0.0.1:6379/0.")
    broker_name: str = Field(default="", description="What the page says of the broker.")
    source_name: str = Field(default="", description="What the page says of the camera.")
    models_dir: Path = Field(description="Directory of the model store.")
    student: str = Field(min_length=1, description="model_id of the student.")
    teacher: str = Field(min_length=1, description="model_id of the teacher.")
    device: str = Field(min_length=1, description="Name of the device.")
    stream: str = Field(default="cam0", description="Name of its camera.")
    preview_url: str = Field(default="", description="The agent's preview, ws://HOST:PORT; empty for none.")
    host: str = Field(default="127.0.0.1", description="Address of the page; 0.0.0.0 shows it to the whole network.")
    port: int = Field(default=8600, ge=0, le=65_535, description="Port of the page; 0 for a free one.")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @property
    def sid(self) -> str:
        """The session's id."""
        return f"{self.device}/{self.stream}"


class EmbeddedSettings(PageSettings):
    """Gateway, labeler, trainer and page in one process, on a broker in its memory."""

    broker_url: str = Field(default="memory://demo", description="Broker within this process: memory://NAME.")
    token_hash: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the device's token.")
    teacher_threads: int = Field(default=1, ge=1, le=64, description="Threads of one teacher run.")
    trainer_options: str = Field(default="{}", description="Settings of the trainer, as a JSON object.")
