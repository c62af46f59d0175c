"""Scenes that the project makes by itself, with exact labels: for the demo and for tests without the kit."""
