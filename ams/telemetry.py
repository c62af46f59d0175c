"""How a process tells the outside how it is doing: log lines and a Prometheus endpoint.

Nothing here runs at import; each process calls it from its `__main__`. Knows no metric by name: those stand in the
`metrics.py` beside their owner.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class _JsonLines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(process: str, *, level: str = "INFO", form: LogFormat = "text") -> None:
    """Send log lines of this process to stderr, as text for people or one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(_JsonLines(process))
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s {process} %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def serve_metrics(registry: CollectorRegistry, *, port: int, host: str = "127.0.0.1") -> None:
    """Serve `/metrics` of a registry from a daemon thread; port 0 serves none."""
    if port:
        # A device logs with this file but exports nothing, and does not install the client.
        from prometheus_client import start_http_server

        start_http_server(port, addr=host, registry=registry)
