"""A slow, lossy link between two network namespaces, that can be cut: the emulator of ../shared/tools, run as root.

Knows namespaces, addresses and bytes on the wire; does not know what is said over it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

EMULATOR = Path(__file__).resolve().parents[3] / "shared" / "tools" / "link-emu"
PREFIX_BITS = 24


def why_no_link() -> str | None:
    """Why there can be no link on this machine, or None."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "no right to make network namespaces (needs root on Linux)"
    if shutil.which("ip") is None:
        return "no ip command (apt-get install iproute2)"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    if not EMULATOR.is_file():
        return f"no link emulator at {EMULATOR}, which is not part of this repository"
    probe = f"ams-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode:
        return "network namespaces cannot be made here"
    subprocess.run(["ip", "netns", "del", probe], capture_output=True)
    return None


@dataclass(frozen=True)
class LinkQuality:
    """Both directions alike; the delay is one way, lost are that many percent of all frames."""

    kbps: float
    delay_ms: float
    loss_percent: float


class Link:
    """Two namespaces with one link between them, while the context lasts. `edge` and `server` are their names."""

    edge_address, server_address = "10.55.0.2", "10.55.0.1"

    def __init__(self, quality: LinkQuality) -> None:
        self._quality = quality
        self.edge, self.server = f"ams-edge-{os.getpid()}", f"ams-server-{os.getpid()}"
        self._emulator: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            for namespace in (self.edge, self.server):
                _ip("netns", "add", namespace)
            quality = self._quality
            self._emulator = subprocess.Popen(
                [
                    *(sys.executable, str(EMULATOR)),
                    *(self.edge, f"{self.edge_address}/{PREFIX_BITS}"),
                    *(self.server, f"{self.server_address}/{PREFIX_BITS}"),
                    *("--mbit", str(quality.kbps / 1000), "--delay-ms", str(quality.delay_ms)),
                    *("--loss", str(quality.loss_percent)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert self._emulator.stdout is not None
            if self._emulator.stdout.readline().strip() != "ready":
                self._emulator.kill()
                raise RuntimeError(f"{EMULATOR} did not start: {self._emulator.communicate()[0][-500:]}")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def cut(self) -> None:
        """From now on nothing arrives on either side."""
        self._tell("down")

    def mend(self) -> None:
        """It goes on."""
        self._tell("up")

    def bytes_to_edge(self) -> int:
        """Bytes of all frames that came out at the edge since the link was made, headers and repetitions included."""
        found = json.loads(_ip("-n", self.edge, "-s", "-j", "link", "show"))
        return sum(item["stats64"]["rx"]["bytes"] for item in found if item["ifname"] != "lo")

    @staticmethod
    def command_in(namespace: str, command: Sequence[str]) -> list[str]:
        """The command that runs in a namespace, as the same process."""
        return ["ip", "netns", "exec", namespace, *command]

    def _tell(self, line: str) -> None:
        assert self._emulator is not None
        assert self._emulator.stdin is not None
        self._emulator.stdin.write(line + "\n")
        self._emulator.stdin.flush()

    def _close(self) -> None:
        if self._emulator is not None:
            self._emulator.kill()
            self._emulator.communicate()
        for namespace in (self.edge, self.server):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
