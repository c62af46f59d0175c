"""Options of commands that start a trainer, as the trainer's settings."""

from __future__ import annotations


def selection_options(fraction: float | None, downlink_kbps: float) -> dict[str, object]:
    """The trainer's settings for a coordinate fraction, or for the downlink's budget to decide."""
    if fraction is None:
        return {"downlink_kbps": downlink_kbps}
    return {"selection": "gradient", "coordinate_fraction": fraction, "downlink_kbps": downlink_kbps}
