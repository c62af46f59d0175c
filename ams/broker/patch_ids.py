"""Which id the next entry of a patch log gets: `<fence>-<n>`, always above every id before it.

One rule for all adapters. Knows fences and counters; stores nothing.
"""

from __future__ import annotations

from ams.errors import BrokerError, FencedError
from ams.ports import PatchEntry


def next_patch_id(last: tuple[int, int], sid: str, entry: PatchEntry) -> str:
    """The id for `entry`, where `last` is fence and n of the newest entry ever, (0, 0) for none.

    A takeover is the first entry of its fence. Raises FencedError when a higher fence has written, or when this
    fence is begun a second time: two owners cannot have the same one.
    """
    fence, n = last
    if entry.fence < 1:
        raise BrokerError(f"a patch log entry for {sid} has fence {entry.fence}, expected 1 or more: acquire a lease")
    if entry.fence < fence:
        raise FencedError(f"{sid} belongs to an owner with fence {fence}, ours is {entry.fence}: let the session go")
    if entry.fence > fence:
        return f"{entry.fence}-1"
    if entry.kind == "takeover":
        raise FencedError(f"{sid} has been taken over with fence {fence} already: acquire a new lease")
    return f"{entry.fence}-{n + 1}"
