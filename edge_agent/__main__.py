"""The agent process: `python -m edge_agent`. The one place that wires it together.

The last line on stdout is one JSON object with the totals; with a preview, the first one says its port. Exit code 0
after a clean stop, 2 when a setting, the model or the source cannot be used.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import signal
import sys

import cv2

from ams.clock import ScaledClock
from ams.core.layout import FloatVector
from ams.models.bundle import ModelBundle
from ams.settings import exit_code, parse
from ams.video import ClipEncoder
from edge_agent.agent import FIRST_UPLINK_KBPS, Agent, Sizes
from edge_agent.config import EdgeSettings
from edge_agent.model_slot import ModelSlot
from edge_agent.onnx_runtime import OnnxRuntimeStudent, providers_for
from edge_agent.packer import ClipPacker
from edge_agent.preview import Preview
from edge_agent.shot import ShotEncoder
from edge_agent.sources import open_source
from edge_agent.spool import Spool
from edge_agent.uplink import Identity

log = logging.getLogger(__name__)

PATCH_BYTES_PER_WEIGHT = 8
PATCH_BYTES_BESIDES = 1 << 20
"""A patch over these bounds cannot be for this model: positions and values take at most 6 bytes a weight."""


def build(settings: EdgeSettings) -> tuple[Agent, Preview | None]:
    """The whole agent, ready to run, and its preview if wanted. Raises AmsError for what a person has to mend."""
    token = settings.read_token()
    clock = ScaledClock(settings.speed)
    bundle = ModelBundle.load(settings.model)
    source = open_source(settings.source, clock, loop=settings.loop)
    providers = providers_for(settings.provider)

    def runtime(weights: FloatVector) -> OnnxRuntimeStudent:
        return OnnxRuntimeStudent(
            bundle.card, bundle.graph, bundle.layout, weights, threads=settings.threads, providers=providers
        )

    slot = ModelSlot(bundle, runtime)
    spec = bundle.card.input
    identity = Identity(
        server_url=settings.server_url,
        device=settings.device,
        token=token,
        boot_id=secrets.token_hex(8),
        stream=settings.stream,
        model_id=bundle.model_id,
        codec=settings.codec,
        patch_limit_bytes=bundle.layout.size * PATCH_BYTES_PER_WEIGHT + PATCH_BYTES_BESIDES,
    )
    packer = ClipPacker(
        ClipEncoder(settings.codec, threads=settings.encoder_threads),
        stream=identity.stream,
        model_id=identity.model_id,
        boot_id=identity.boot_id,
        uplink_kbps=FIRST_UPLINK_KBPS,
    )
    address = settings.preview_address
    preview = None if address is None else Preview(ShotEncoder(bundle.card), host=address[0], port=address[1])
    agent = Agent(
        source,
        slot,
        packer,
        Spool(max_clips=settings.spool_clips, max_bytes=settings.spool_bytes),
        identity,
        clock,
        Sizes(spec.width, spec.height, settings.clip_width or spec.width, settings.clip_height or spec.height),
        drain_real_s=settings.drain_real_s,
        preview=preview,
    )
    return agent, preview


async def run(agent: Agent, preview: Preview | None = None) -> dict[str, float | int | str]:
    """Run an agent; SIGINT and SIGTERM end it cleanly."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, agent.stop)
    if preview is None:
        return await agent.run()
    async with preview.serving() as port:
        print(json.dumps({"preview_port": port}), flush=True)
        return await agent.run()


def _start(arguments: list[str] | None) -> None:
    settings = parse(EdgeSettings, arguments, program="python -m edge_agent")
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s edge %(levelname)s %(message)s"
    )
    logging.getLogger("websockets").setLevel(logging.WARNING)
    cv2.setNumThreads(settings.threads)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what a camera lacks is said in our own words
    totals = asyncio.run(run(*build(settings)))
    print(json.dumps(totals), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run until the source ends or a signal comes; 2 for what a person has to mend."""
    return exit_code("edge_agent", lambda: _start(arguments))


if __name__ == "__main__":
    sys.exit(main())
