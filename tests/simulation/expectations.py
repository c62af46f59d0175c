"""What must hold: bounds at every moment, rest and progress in the end. Looks at a world and changes nothing in it."""

from __future__ import annotations

from typing import Any

from ams.core.history import MAX_UNACKNOWLEDGED
from ams.core.session import MAX_WAITING
from ams.core.transfer import MAX_FINISHED, MAX_PARTIAL
from edge_agent.patch_intake import PATCHES_WAITING
from services.gateway.postbox import MAX_EVENTS
from services.gateway.registry import KEPT_CLIPS, KEPT_DEVICES
from services.trainer.publisher import MAX_ANSWERS
from tests.simulation.device import MAX_SPOOL_BYTES, MAX_SPOOLED, DeviceHost
from tests.simulation.hosts import CREDIT, GatewayHost
from tests.simulation.world import World


def check_bounds(world: World) -> None:
    """Bounds, once a second."""
    wrong = world.storage.over_bounds(CREDIT)
    for device in world.devices:
        if not device.running or device.uplink is None:
            continue
        if len(device.spool) > MAX_SPOOLED or device.spool.bytes_held > MAX_SPOOL_BYTES:
            wrong.append(f"{device.name}: {len(device.spool)} clips in the spool")
        if device.uplink.patches._waiting.qsize() > PATCHES_WAITING:
            wrong.append(f"{device.name}: {device.uplink.patches._waiting.qsize()} patches wait")
        wrong += _over(device.name, device.uplink._inbox, device.uplink._connection)
        if len(device.uplink._outbox) > 1:
            wrong.append(f"{device.name}: {len(device.uplink._outbox)} clips in the outbox")
    for gateway in world.gateways:
        if gateway.running and hasattr(gateway, "service"):
            wrong += _of_gateway(gateway)
    for process, sid, session in world.workers():
        # At most so many are decided before the broker takes them: answers, a keyframe for each, one phase.
        if len(session.publisher.outgoing) > 4 * (MAX_ANSWERS + 1):
            wrong.append(f"{process.name}: {len(session.publisher.outgoing)} entries of {sid} wait for the broker")
    for labeler in world.labelers:
        if labeler.running and hasattr(labeler, "service") and len(labeler.service._in_hand) > 12:
            wrong.append(f"{labeler.name}: {len(labeler.service._in_hand)} clips in hand")
    for text in wrong:
        world.diary.violation(f"bound: {text}")


def _of_gateway(gateway: GatewayHost) -> list[str]:
    wrong = []
    devices = gateway.service._shared.devices
    if len(devices._kept) > KEPT_DEVICES:
        wrong.append(f"{gateway.name}: {len(devices._kept)} devices remembered")
    for name, (connection, memory, _) in devices._connected.items():
        assert hasattr(connection, "_streams")
        wrong += _over(f"{gateway.name} for {name}", memory.inbox, getattr(connection, "_connection", None))
        if len(memory._admitted) > KEPT_CLIPS:
            wrong.append(f"{gateway.name}: {len(memory._admitted)} clips remembered for {name}")
        for stream in connection._streams.values():
            if len(stream._relay._unanswered) > MAX_UNACKNOWLEDGED:
                wrong.append(f"{gateway.name}: {len(stream._relay._unanswered)} patches of {name} unanswered")
            if len(stream._postbox._events) > MAX_EVENTS:
                wrong.append(f"{gateway.name}: {len(stream._postbox._events)} events wait")
    return wrong


def unsettled(world: World, published_before: dict[str, int]) -> list[str]:
    """What keeps the system from being at rest, as text; empty when all is as it must be."""
    open_points = []
    if world.storage.queue._stream.entries:
        open_points.append(f"{len(world.storage.queue._stream.entries)} clips are queued")
    missing = world.ledger.missing()
    if missing:
        open_points.append(f"acknowledged and neither labelled nor reported: {[m[:8] for m in missing]}")
    logs = world.storage.patch_logs()
    for device in world.devices:
        open_points += _open_points_of(world, device, logs.get(device.sid, []), published_before)
    return open_points


def _open_points_of(world: World, device: DeviceHost, log: list[Any], published_before: dict[str, int]) -> list[str]:
    sid = device.sid
    if device.uplink is None or device.slot is None or not device.uplink.connected:
        return [f"{sid}: not connected"]
    points = []
    if len(device.spool):
        points.append(f"{sid}: {len(device.spool)} clips in the spool")
    running = device.slot.current
    newest = max((entry.version for entry in log), default=0)
    digests = {e.digest for e in log if e.version == newest and e.kind != "takeover"}
    if running.version != newest or (digests and running.digest.hex() not in digests):
        points.append(f"{sid}: runs version {running.version}, the log has {newest}")
    owned = [session for _, owned_sid, session in world.workers() if owned_sid == sid]
    if len(owned) != 1:
        points.append(f"{sid}: {len(owned)} owners")
        return points
    history = owned[0].history
    if owned[0].publisher.outgoing or history.version != newest:
        points.append(f"{sid}: the record is at version {history.version}, the log at {newest}")
    if not (running.weights == history.latest).all():
        points.append(f"{sid}: the device has other weights than the record")
    if world.ledger.books[sid].published <= published_before[sid]:
        points.append(f"{sid}: nothing was learnt since the faults ended")
    return points


def _over(who: str, inbox: Any, connection: Any) -> list[str]:
    wrong = []
    if len(inbox._partial) > MAX_PARTIAL or len(inbox._finished) > MAX_FINISHED:
        wrong.append(f"{who}: {len(inbox._partial)} unfinished transfers")
    if connection is not None and len(connection._control) > MAX_WAITING:
        wrong.append(f"{who}: {len(connection._control)} messages wait")
    return wrong
