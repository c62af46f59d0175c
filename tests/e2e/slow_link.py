"""A keyframe over a slow link that breaks: a gateway process on one side, an agent process on the other.

    python -m tests.e2e.slow_link --keyframe-kb 2500      as root; prints times and bytes as JSON

The link is cut for longer than the agent takes to give the connection up, so each cut ends a connection and the
transfer has to go on on the next one.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import hashlib
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ams.broker import connect
from ams.broker.server import RedisServer
from ams.cli.children import Child
from ams.core.patch import Patch
from ams.models.bundle import ModelBundle
from ams.ports import PatchEntry
from tests.e2e.link import Link, LinkQuality, why_no_link
from tests.edge_agent.conftest import changed, make_student, write_video

BROKEN_LINK = LinkQuality(kbps=200, delay_ms=300, loss_percent=2)
CUTS_AT = (0.3, 0.6)
"""The link is cut when so much of the keyframe has come out of it, headers and all."""

CUT_S = 20.0
HEARTBEAT_S = 5.0
"""The agent gives a silent connection up after three of them: before a cut ends, and seldom while TCP repeats what was
lost."""

DEVICE, STREAM, TOKEN = "cam-slow", "cam0", "a token"
PORT = 8080
VERSION = 7
BYTES_PER_WEIGHT = 2.3
"""Of the keyframes that `changed` makes."""

SLOWEST_KBPS = 60
"""What the deadline allows for: a third of the link, which congestion control with 2 % of loss may leave."""

METRIC = 'ams_gateway_bytes_total{direction="down"}'


@dataclass(frozen=True)
class Figures:
    """What came of it. Times in real seconds since the agent was started."""

    keyframe_bytes: int
    took_s: float
    cuts: int
    connections: int
    endings: tuple[str, ...]
    """Why the agent gave up each connection, or attempt at one."""

    sent_bytes: int
    """By the gateway to its sockets, messages of all kinds and all connections."""

    wire_bytes: int
    """Of frames that came out of the link at the edge."""

    received_bytes: int
    """By the agent, in whole WebSocket messages."""

    version: int
    digest: str
    promised_digest: str
    patches: int
    patches_refused: int


def keyframe_for(size_bytes: int) -> tuple[ModelBundle, PatchEntry]:
    """A student and a keyframe for it of about this size."""
    channels = max(4, round(math.sqrt(size_bytes / (9 * BYTES_PER_WEIGHT))))
    student = make_student(channels=channels, stride=8)  # many weights, few pixels: inference costs little
    target = changed(student, student.version0, seed=5)
    patch = Patch.between(student.layout, student.model_id, (0, student.version0), (VERSION, target))
    data = patch.encode(student.layout)
    return student, PatchEntry("keyframe", 1, 0, VERSION, patch.digest.hex(), data)


async def transfer(size_bytes: int, directory: Path, *, cuts_at: Sequence[float] = CUTS_AT) -> Figures:
    """Send a keyframe of about `size_bytes` over a link that is cut; returns when the device says that it runs it."""
    student, entry = keyframe_for(size_bytes)
    student.save(directory / "student")
    video = write_video(directory / "street.mp4", count=80)
    socket = directory / "redis.sock"  # a unix socket: it is reached from every namespace
    processes: list[Child] = []
    with RedisServer(directory / "redis", socket_path=socket) as redis, Link(BROKEN_LINK) as link:
        broker = connect(redis.url)
        try:
            await broker.devices.enrol(DEVICE, hashlib.sha256(TOKEN.encode()).hexdigest())
            await broker.patches.append(f"{DEVICE}/{STREAM}", entry)
            gateway = _start(
                link, link.server, "gateway", directory,
                "services.gateway", f"--broker-url={redis.url}", f"--teacher={'t' * 64}", "--name=g1",
                f"--host={link.server_address}", f"--port={PORT}", f"--heartbeat-s={HEARTBEAT_S}",
            )  # fmt: skip
            processes.append(gateway)
            await asyncio.to_thread(gateway.wait_ready, 60)
            began_s = time.monotonic()
            agent = _start(
                link, link.edge, "agent", directory,
                "edge_agent", f"--server-url=ws://{link.server_address}:{PORT}/v1/device", f"--device={DEVICE}",
                f"--stream={STREAM}", f"--model={directory / 'student'}", f"--source={video}", "--loop",
                "--drain-real-s=0",
            )  # fmt: skip
            processes.append(agent)
            deadline_s = 60 + len(cuts_at) * (CUT_S + 30) + len(entry.patch) / (SLOWEST_KBPS * 125)
            async with asyncio.timeout(deadline_s):
                for share in cuts_at:
                    while link.bytes_to_edge() < share * len(entry.patch):
                        await asyncio.sleep(0.1)
                    link.cut()
                    await asyncio.sleep(CUT_S)
                    link.mend()
                while True:
                    state = await broker.directory.state(f"{DEVICE}/{STREAM}")
                    if state.get("device_version") == str(VERSION):
                        break
                    await asyncio.sleep(0.1)
            took_s = time.monotonic() - began_s
            wire_bytes = link.bytes_to_edge()
            sent_bytes = await asyncio.to_thread(_sent_bytes, link)
            await asyncio.to_thread(agent.stop)
            totals = next(m for m in reversed(agent.messages) if "bytes_down" in m)
            log = agent.log_path.read_text()
            return Figures(
                keyframe_bytes=len(entry.patch),
                took_s=round(took_s, 1),
                cuts=len(cuts_at),
                connections=log.count("connected to ws://"),
                endings=tuple(re.findall(r"not reachable at \S+: (.*); still inferring", log)),
                sent_bytes=sent_bytes,
                wire_bytes=wire_bytes,
                received_bytes=totals["bytes_down"],
                version=totals["version"],
                digest=totals["digest"],
                promised_digest=entry.digest,
                patches=totals["patches"],
                patches_refused=totals["patches_refused"],
            )
        except TimeoutError as error:
            logs = "\n".join(f"--- {child.name}\n{child.log_path.read_text()[-1500:]}" for child in processes)
            raise AssertionError(f"the keyframe did not arrive within {deadline_s:.0f} s\n{logs}") from error
        finally:
            for child in reversed(processes):
                await asyncio.to_thread(child.stop)
            await broker.connection.close()


def _start(link: Link, namespace: str, name: str, directory: Path, module: str, *options: str) -> Child:
    command = link.command_in(namespace, [sys.executable, "-m", module, *options])
    environment = {"AMS_EDGE_TOKEN": TOKEN, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return Child(name, command, environment, directory)


def _sent_bytes(link: Link) -> int:
    """The gateway's own count, asked for on its side of the link."""
    url = f"http://{link.server_address}:{PORT}/metrics"
    asking = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=10).read().decode())"
    command = link.command_in(link.server, [sys.executable, "-c", asking])
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(float(next(line.split()[-1] for line in text.splitlines() if line.startswith(METRIC))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keyframe-kb", type=int, default=2500, help="size of the keyframe in 1000 bytes")
    arguments = parser.parse_args()
    reason = why_no_link()
    if reason is not None:
        sys.exit(f"NOT RUN: {reason}")
    with tempfile.TemporaryDirectory() as directory:
        figures = asyncio.run(transfer(arguments.keyframe_kb * 1000, Path(directory)))
    print(json.dumps(dataclasses.asdict(figures), indent=1))


if __name__ == "__main__":
    main()
