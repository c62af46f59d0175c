"""How a connection ends: the last message, which says what to do, and the WebSocket close code."""

from __future__ import annotations

from dataclasses import dataclass

from ams.core.messages import Error, Message, Notice

CLOSE_GOING = 1000
CLOSE_PROTOCOL = 1002
CLOSE_POLICY = 1008
CLOSE_RESTART = 1012
CLOSE_TRY_LATER = 1013

MAX_TEXT = 500


@dataclass(frozen=True)
class Ending:
    """`result` is the metrics' word for it; `message` goes out before the close if there is one."""

    result: str
    close_code: int = CLOSE_GOING
    message: Message | None = None


GONE = Ending("gone")
SILENT = Ending("silent", CLOSE_POLICY)


class ConnectionOverError(Exception):
    """Ends a connection from wherever it is noticed."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.result)
        self.ending = ending


def refusal(code: str, text: str, *, close_code: int = CLOSE_POLICY, retry: bool = False) -> Ending:
    """An ending with an Error: `code` for programs, `text` for people, `retry` when it may pass by itself."""
    return Ending(code, close_code, Error(code=code, text=text[:MAX_TEXT], retry=retry))


REPLACED = refusal(
    "replaced",
    "another connection of this device has taken over; if it is a second agent, enrol it as a device of its own",
)
DRAINING = Ending(
    "draining", CLOSE_RESTART, Notice(code="draining", text="this gateway is going down; connect again at once")
)
CLOSED = refusal("draining", "this gateway is going down; connect again at once", close_code=CLOSE_RESTART, retry=True)
FULL = refusal(
    "full", "this gateway has as many devices as it takes; connect again later", close_code=CLOSE_TRY_LATER, retry=True
)
HELLO_TIMEOUT = refusal("hello_timeout", "no Hello came in time; a device speaks first", retry=True)
BROKER_AWAY = refusal(
    "broker_unavailable",
    "the gateway cannot reach its broker now; keep your clips and connect again later",
    close_code=CLOSE_TRY_LATER,
    retry=True,
)
TOKEN = refusal(
    "token", "unknown device or wrong token; enrol the device with `ams devices enrol` and give the agent its token"
)


def malformed(text: str) -> Ending:
    """Bytes that are not the protocol's."""
    return refusal("malformed", text, close_code=CLOSE_PROTOCOL)
