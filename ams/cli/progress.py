"""A live line for people who wait: in place on a terminal, else printed now and then. Knows terminals, no figures."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

PLAIN_LINE_REAL_S = 10.0
"""Without a terminal a line is printed so often."""


@contextlib.contextmanager
def live_line(name: str) -> Iterator[Callable[[str], None]]:
    """A function that shows a line in place on a terminal, else prints it every ten seconds to stderr."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(f"{escape(name)}: starting") as status:
            yield lambda text: status.update(escape(f"{name} | {text}"))
        return
    printed = -PLAIN_LINE_REAL_S

    def show(text: str) -> None:
        nonlocal printed
        if time.monotonic() - printed >= PLAIN_LINE_REAL_S:
            printed = time.monotonic()
            print(f"{name} | {text}", file=sys.stderr, flush=True)

    yield show
