"""A deterministic simulation of device, gateway, labeler and trainer: docs/simulation.md."""
