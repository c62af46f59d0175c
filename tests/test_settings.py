"""Settings: command line over environment over default, and errors that a person can act on."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ams.settings import explain, parse
from services.trainer.config import TrainerSettings

NEEDED = ["--broker-url", "memory://x", "--models-dir", "models"]


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMS_TRAINER_STEPS", "7")
    assert parse(TrainerSettings, NEEDED, program="x").steps == 7
    assert parse(TrainerSettings, [*NEEDED, "--steps", "9", "--no-adapt-rates"], program="x").steps == 9


def test_booleans_are_switches() -> None:
    assert parse(TrainerSettings, NEEDED, program="x").adapt_rates
    assert not parse(TrainerSettings, [*NEEDED, "--no-adapt-rates"], program="x").adapt_rates


def test_a_value_out_of_range_is_explained_in_one_line() -> None:
    with pytest.raises(ValidationError) as caught:
        parse(TrainerSettings, [*NEEDED, "--coordinate-fraction", "3"], program="x")
    said = explain(caught.value)
    assert "--coordinate-fraction" in said
    assert "\n" not in said


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ValidationError) as caught:
        parse(TrainerSettings, ["--models-dir", "models"], program="x")
    assert "--broker-url" in explain(caught.value)


def test_help_teaches_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(TrainerSettings, ["--help"], program="x")
    said = capsys.readouterr().out
    for name, field in TrainerSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in said
        assert field.description
