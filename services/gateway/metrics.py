"""Metrics of the gateway. No label names a device: cardinality is the number of codes and message types."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

TRANSPORT = "transport"
"""Message type of what the connection deals with itself: parts, their acknowledgements, pings, unknown messages."""


class GatewayMetrics:
    """One registry per process; built in `__main__`, handed down."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connections = Gauge("ams_gateway_connections", "Devices connected now.", registry=self.registry)
        self.handshakes = Counter(
            "ams_gateway_handshakes", "Connections by how their handshake ended.", ["result"], registry=self.registry
        )
        self.messages = Counter(
            "ams_gateway_messages", "Messages from (up) and to (down) devices.", ["direction", "type"],
            registry=self.registry,
        )  # fmt: skip
        bytes_moved = Counter(
            "ams_gateway_bytes", "Bytes of WebSocket messages.", ["direction"], registry=self.registry
        )
        self.bytes_up, self.bytes_down = bytes_moved.labels("up"), bytes_moved.labels("down")
        self.clips = Counter(
            "ams_gateway_clips", "Clips: admitted, repeated, or the code of their refusal.", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self.patches = Counter("ams_gateway_patches_relayed", "Patches sent to devices.", registry=self.registry)
        self.patch_bytes = Counter(
            "ams_gateway_patch_bytes_relayed", "Bytes of patches sent to devices.", registry=self.registry
        )
        self.events_dropped = Counter(
            "ams_gateway_events_dropped", "Events lost since the broker was away too long.", registry=self.registry
        )
        self.broker_errors = Counter(
            "ams_gateway_broker_errors", "Operations that failed since the broker was away.", registry=self.registry
        )
