"""What the fuzzers begin with: the recorded bytes, and scripts of parts that arrive as they should."""

from __future__ import annotations

from ams.core import envelope
from ams.core.messages import Patch as PatchHeader
from tests.fuzz.promises import FILES, LARGE

MESSAGES = {name: data for name, data in FILES.items() if name.startswith("message-")}
PATCHES = {name: data for name, data in FILES.items() if name.startswith("patch-")}

WITH_PAYLOAD = {
    f"message-with-{name}": envelope.encode(PatchHeader(stream="front", base=1, target=2), data)
    for name, data in PATCHES.items()
}
"""The recorded patches as they travel."""

SCRIPTS = {
    f"in-order-{which}": b"".join(bytes([which, index, 0, 0]) for index in range(outgoing.count))
    for which, outgoing in enumerate(LARGE)
}

SEEDS: dict[str, dict[str, bytes]] = {"envelope": MESSAGES | WITH_PAYLOAD, "patch": PATCHES, "parts": SCRIPTS}
"""File names and bytes for each promise that is fuzzed."""
