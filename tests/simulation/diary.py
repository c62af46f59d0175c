"""The event log of one seed: what happened when and to whom, its hash, and the first thing that went wrong.

Takes the log lines of the code under test in, too; an exception in them, or one that nobody caught, is a violation.
"""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.simulation.loop import PROCESS, VirtualLoop

LOGGERS = ("ams", "services", "edge_agent")


class Diary(logging.Handler):
    """Lines in order of time."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.violations: list[str] = []
        self._loop = loop

    def note(self, text: str) -> None:
        """Write a line in the name of whoever runs now."""
        process = PROCESS.get()
        who = "world" if process is None else process.name
        self.lines.append(f"{self._loop.now_s:10.4f} {who:<12} {text}")

    def violation(self, text: str) -> None:
        """Something that must never happen has happened."""
        self.violations.append(text)
        self.note(f"VIOLATION {text}")

    @property
    def digest(self) -> str:
        """SHA-256 of all lines."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    # -- what the code under test says -------------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        """One log line of ours."""
        process = PROCESS.get()
        if process is not None and process.dying:
            return
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            self.violation(f"unexpected {record.exc_info[1]!r}: {text}")
            for line in traceback.format_exception(record.exc_info[1]):
                self.note(line.rstrip())
        else:
            self.note(f"{record.levelname.lower()}: {text}")

    def unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        """The loop's exception handler."""
        self.violation(f"nobody caught it: {context.get('exception')!r}: {context.get('message')}")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take in what our loggers say, and nobody else's."""
        loggers = [logging.getLogger(name) for name in LOGGERS]
        before = [(logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.INFO)
            logger.propagate = False
            logger.handlers = [self]
        self._loop.set_exception_handler(self.unhandled)
        try:
            yield
        finally:
            for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
                logger.setLevel(level)
                logger.propagate = propagate
                logger.handlers = handlers
