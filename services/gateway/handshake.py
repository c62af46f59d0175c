"""The first exchange of a connection: who is it, may it come in, what does it get to hear.

Every refusal is an Error whose text says what to do. Tokens are compared as SHA-256 digests in constant time, the
same work is done for unknown devices, and neither a token nor its digest is ever logged.
"""

from __future__ import annotations

import hashlib
import hmac

import ams
from ams.core.envelope import decode
from ams.core.messages import PROTOCOL, Hello, Rates, StreamHello, StreamWelcome
from ams.errors import EnvelopeError
from services.gateway.config import GatewaySettings
from services.gateway.ending import TOKEN, ConnectionOverError, malformed, refusal
from services.gateway.shared import Shared

SERVER = f"ams-gateway/{ams.__version__}"

NO_DEVICE = hashlib.sha256(b"no device has this").hexdigest()
"""Compared with when there is nothing to compare with, and never accepted."""


def read_hello(data: bytes) -> Hello:
    """The first message of a connection. Raises ConnectionOverError when it is not a Hello that we can serve."""
    try:
        message, _ = decode(data)
    except EnvelopeError as error:
        raise ConnectionOverError(malformed(str(error))) from error
    if not isinstance(message, Hello):
        raise ConnectionOverError(refusal("order", f"expected hello first, got {message.type}"))
    if PROTOCOL not in message.protocols:
        offered = ", ".join(str(protocol) for protocol in message.protocols)
        raise ConnectionOverError(
            refusal("protocol", f"the device speaks protocol {offered}, this gateway {PROTOCOL}; update the older one")
        )
    return message


async def authenticate(shared: Shared, hello: Hello) -> str:
    """The stored token hash that the device's token fits.

    Raises ConnectionOverError when it does not, BrokerUnavailableError when nobody can say.
    """
    stored = await shared.broker.devices.token_hash(hello.device)
    given = hashlib.sha256(hello.token.encode()).hexdigest()
    fits = hmac.compare_digest(given.encode(), (stored or NO_DEVICE).encode())
    if stored is None or not fits:
        raise ConnectionOverError(TOKEN)
    return stored


def default_rates(settings: GatewaySettings, stream: str) -> Rates:
    """The rates of a stream that has no owner yet."""
    return Rates(
        stream=stream,
        sampling_hz=settings.sampling_hz,
        clip_interval_s=settings.clip_interval_s,
        uplink_kbps=settings.uplink_kbps,
    )


def stream_welcome(settings: GatewaySettings, sid: str, rates: Rates) -> StreamWelcome:
    """One stream's part of the Welcome."""
    return StreamWelcome(name=rates.stream, session=sid, rates=rates, max_clip_bytes=settings.max_clip_bytes)


def announcement(shared: Shared, hello: Hello, stream: StreamHello) -> dict[str, str]:
    """The fields of a session's state that say who serves it and what its device runs."""
    return {
        "model_id": stream.model_id,
        "gateway": shared.name,
        "device_version": str(stream.version),
        "device_digest": stream.digest,
        "agent": hello.agent,
        "features": " ".join(hello.features),
        "connected": "1",
    }
