"""A keyframe over 200 kbit/s, 300 ms and 2 % loss, with two cuts: it goes on where it was, and arrives whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.slow_link import CUTS_AT, VERSION, transfer

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.netns, pytest.mark.anyio]

KEYFRAME_BYTES = 600_000
"""Each cut may cost a window of parts, 64 KiB, so a smaller one would prove less. 2.5 MB take minutes: see
`python -m tests.e2e.slow_link`."""


async def test_a_keyframe_goes_on_after_each_cut(tmp_path: Path) -> None:
    """Each cut ends a connection; begun again from the start each time, it would take 1.9 times its size."""
    figures = await transfer(KEYFRAME_BYTES, tmp_path)
    assert figures.keyframe_bytes > 400_000
    assert figures.connections >= 1 + len(CUTS_AT), figures
    assert figures.sent_bytes < 1.3 * figures.keyframe_bytes, figures
    assert figures.wire_bytes < 1.3 * figures.keyframe_bytes, figures
    assert (figures.version, figures.digest) == (VERSION, figures.promised_digest)
    assert (figures.patches, figures.patches_refused) == (1, 0)
