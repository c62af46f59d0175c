"""Child processes of a command: they yield where they are told to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ams.cli.children import Child

pytestmark = pytest.mark.e2e

AUTOGROUP = Path("/proc/self/autogroup")


@pytest.mark.parametrize("nice", [0, 7])
def test_a_niceness_holds_between_sessions(nice: int, tmp_path: Path) -> None:
    waiting = (
        "import json, os, time; print(json.dumps({'ready': True, 'nice': os.nice(0)}), flush=True); time.sleep(60)"
    )
    child = Child("idle", [sys.executable, "-c", waiting], {}, tmp_path, nice=nice)
    try:
        assert child.wait_ready(20)["nice"] == nice
        if AUTOGROUP.exists() and AUTOGROUP.read_text().strip():
            assert Path(f"/proc/{child.pid}/autogroup").read_text().split()[-1] == str(nice)
    finally:
        child.stop(5)
