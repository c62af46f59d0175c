"""`ams gateway | labeler | trainer | edge`: start one process, with the options of its own settings."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import typer

SERVICES = {
    "gateway": "Run a gateway: devices connect here.",
    "labeler": "Run a labeler: the teacher.",
    "trainer": "Run a trainer: students are distilled here.",
    "edge": "Run the agent on a device.",
}
MODULES = {
    "gateway": "services.gateway.__main__",
    "labeler": "services.labeler.__main__",
    "trainer": "services.trainer.__main__",
    "edge": "edge_agent.__main__",
}
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def command(name: str) -> Callable[[typer.Context], None]:
    """The command that hands its arguments to a process's own `main`."""

    def start(context: typer.Context) -> None:
        module = importlib.import_module(MODULES[name])
        sys.exit(module.main(context.args))

    return start
