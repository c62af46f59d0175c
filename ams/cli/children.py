"""The child processes of a command: start each, wait until it is ready, stop all in order.

Each child is a session of its own, so a Ctrl-C in the terminal reaches only us and we decide who stops first. Its
stderr goes to a log file, whose end is shown when it dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ams.errors import AmsError

STOP_S = 15.0
TAIL_LINES = 15


class ChildError(AmsError):
    """A child process did not start or died."""


class Child:
    """One process. Lines of JSON on its stdout are collected in `messages`."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log_dir: Path, *, nice: int = 0
    ) -> None:
        self.name = name
        self.log_path = log_dir / f"{name}.log"
        self.messages: list[dict[str, Any]] = []
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                ["nice", "-n", str(nice), *command] if nice else list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        if nice:
            _yield_to_others(self._process.pid, nice)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    self.messages.append(message)

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def wait_ready(self, deadline_s: float, stopped: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """The child's ready message, empty once `stopped`. Raises ChildError with the end of its log if none comes."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            if stopped():
                return {}
            for message in self.messages:
                if message.get("ready"):
                    return message
            if self.returncode is not None:
                break
            time.sleep(0.05)
        raise self.failure("did not start" if self.returncode is None else "stopped while starting")

    def failure(self, what: str) -> ChildError:
        """An error that shows the end of the child's log."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        code = "" if self.returncode is None else f" (exit code {self.returncode})"
        return ChildError(f"the {self.name} {what}{code}; its log {self.log_path} ends:\n  " + "\n  ".join(lines))

    def stop(self, deadline_s: float = STOP_S) -> None:
        """SIGTERM, and SIGKILL after the deadline."""
        if self.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(1.0)


def _yield_to_others(pid: int, nice: int) -> None:
    """Make a niceness hold between sessions, too.

    Linux with autogroups shares the processor out between sessions first and heeds a process's niceness only within
    its own; each child is a session. Where there are no autogroups, the niceness is enough.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


class Children:
    """All processes of a command; leaving the context stops them, last started first."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self.all: list[Child] = []

    def start(self, name: str, module: str, options: Mapping[str, Any], *, threads: int, nice: int = 0,
              environment: Mapping[str, str] | None = None) -> Child:  # fmt: skip
        """Start `python -m module --option value ...` with its thread pools limited to `threads`."""
        command = [sys.executable, "-m", module]
        for option, value in options.items():
            flag = option.replace("_", "-")
            if isinstance(value, bool):
                command.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                command += [f"--{flag}", str(value)]
        limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
        child = Child(name, command, {**limits, **(environment or {})}, self._log_dir, nice=nice)
        self.all.append(child)
        return child

    def check(self, *, except_for: Child | None = None) -> None:
        """Raises ChildError when one has died."""
        for child in self.all:
            if child is not except_for and child.returncode is not None:
                raise child.failure("died")

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self.all):
            child.stop()
