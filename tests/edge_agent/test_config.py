"""Settings: environment, command line, token, and what is said when they cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ams.errors import ConfigError
from ams.settings import parse
from edge_agent.config import EdgeSettings

NEEDED = ["--server-url", "ws://127.0.0.1:1/v1/device", "--device", "pi-7", "--model", "m", "--source", "s.mp4"]


def settings(*more: str) -> EdgeSettings:
    return parse(EdgeSettings, [*NEEDED, *more], program="edge")


def test_command_line_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMS_EDGE_STREAM", "front")
    monkeypatch.setenv("AMS_EDGE_SPEED", "0.5")
    assert (settings().stream, settings().speed) == ("front", 0.5)
    assert settings("--stream", "back").stream == "back"


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in EdgeSettings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    "more",
    [
        ("--server-url", "http://x"),
        ("--device", "a b"),
        ("--threads", "0"),
        ("--speed", "-1"),
        ("--codec", "av2"),
        ("--spool-bytes", "1"),
        ("--source", ""),
        ("--preview", "8765"),
        ("--preview", ":8765"),
        ("--preview", "127.0.0.1:"),
        ("--preview", "127.0.0.1:65536"),
        ("--preview", "::1:8765"),
    ],
)
def test_values_out_of_bounds_are_refused(more: tuple[str, str]) -> None:
    with pytest.raises(ValidationError):
        settings(*more)


@pytest.mark.parametrize(
    ("preview", "address"),
    [("", None), ("127.0.0.1:8765", ("127.0.0.1", 8765)), ("[::1]:0", ("::1", 0)), ("localhost:0", ("localhost", 0))],
)
def test_address_of_the_preview(preview: str, address: tuple[str, int] | None) -> None:
    assert settings("--preview", preview).preview_address == address


def test_token_comes_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret-1\n")
    assert settings("--token-file", str(file)).read_token() == "secret-1"
    assert settings("--token", "secret-2").read_token() == "secret-2"
    for more in ((), ("--token", "a", "--token-file", str(file))):
        with pytest.raises(ConfigError, match="exactly one of --token-file and AMS_EDGE_TOKEN"):
            settings(*more).read_token()


def test_token_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        settings("--token-file", str(tmp_path / "none")).read_token()
    for bad in (" ", "x" * 201):
        with pytest.raises(ConfigError, match="expected a token of 1 to 200 characters"):
            settings("--token", bad).read_token()


def test_token_is_not_printed() -> None:
    assert "secret" not in repr(settings("--token", "secret"))


def test_every_setting_is_in_the_readme() -> None:
    import edge_agent

    readme = (Path(edge_agent.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in EdgeSettings.model_fields if f"`{name}`" not in readme] == []
