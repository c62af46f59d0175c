"""Which entries of a patch log bring a device to the newest version, decided on the log's headers alone.

A log is a set of ways: an entry leads from version `base` to `version`, one with base 0 from the model file and so
from anywhere. The owner adds cumulative patches and keyframes beside the chain, so there may be several ways; the one
with the fewest bytes is taken. Where there is none, only the owner can help, and the answer says why.

Pure: knows versions, digests and sizes; does not know what a patch holds, nor brokers or sockets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Need = Literal["", "ahead", "diverged", "gap"]
"""Why the owner must re-base a device, or "" when the log suffices.

ahead: the device runs a version that the log has never had, so the broker lost some. diverged: it holds other weights
under a version of the log, and no keyframe mends it. gap: the log has no way from its version to the newest.
"""


@dataclass(frozen=True)
class LogEntry:
    """The header of one entry of a patch log: it leads from `base` to `version`, whose weights have `digest`."""

    kind: Literal["takeover", "patch", "keyframe"]
    base: int
    version: int
    entry_id: str
    digest: str = ""
    size_bytes: int = 0


@dataclass(frozen=True)
class CatchUp:
    """What to send, in this order, and why the owner must be asked for more."""

    send: tuple[LogEntry, ...] = ()
    need: Need = ""


def catch_up(log: Sequence[LogEntry], *, version: int, digest: str = "") -> CatchUp:
    """The cheapest way from `version` to the newest version of `log` (oldest entry first).

    `digest` is that of the device's weights, or "" when it is not known. Either all that is needed is in `send`, or
    `send` is empty and `need` says why: half a way is of no use, since the owner starts from the running version.
    """
    newest = max((entry.version for entry in log), default=0)
    if version > newest:
        return CatchUp(need="ahead")
    patches = [entry for entry in log if entry.kind != "takeover" and entry.base < entry.version]
    content = {entry.version: entry.digest for entry in patches}
    expected = content.get(version, "")
    diverged = bool(digest and expected and digest != expected)
    if version == newest and not diverged:
        return CatchUp()
    way = _cheapest_way([e for e in patches if e.digest == content[e.version]], version, newest, diverged)
    if way is None:
        return CatchUp(need="diverged" if diverged else "gap")
    return CatchUp(send=way)


def _cheapest_way(
    patches: Sequence[LogEntry], version: int, newest: int, diverged: bool
) -> tuple[LogEntry, ...] | None:
    """The way with the fewest bytes, then the fewest entries; None without any.

    A device ignores what does not lead beyond its version; only a keyframe to that very version mends other weights.
    """
    ways: dict[int, tuple[LogEntry, ...]] = {} if diverged else {version: ()}
    for entry in sorted(patches, key=lambda patch: patch.version):
        keyframe = entry.base == 0
        if entry.version < version or (entry.version == version and not (diverged and keyframe)):
            continue
        starts = [ways[entry.base]] if entry.base in ways else []
        if keyframe:
            starts.append(())
        for start in starts:
            way = (*start, entry)
            if entry.version not in ways or _cost(way) < _cost(ways[entry.version]):
                ways[entry.version] = way
    return ways.get(newest)


def _cost(way: tuple[LogEntry, ...]) -> tuple[int, int]:
    return sum(entry.size_bytes for entry in way), len(way)
