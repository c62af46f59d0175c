"""The networks that ship with the street worlds: where they lie, and which cameras they know. Made by `make models`."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).parent / "models"
TEACHER = MODELS / "street-teacher"
STUDENT = MODELS / "street-student"
ORACLE = MODELS / "street-oracle"
"""The student's network trained on all conditions: for comparison, nothing that runs uses it."""
