"""`ams demo` as people start it: processes, page in a real browser, errors that say what to do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from worlds.shipped import MODELS, STUDENT, TEACHER

pytestmark = [pytest.mark.e2e]

QUICK_DUSK = "world:street?seed=11&camera=fixed&script=day 12, dusk 300"
SCREENSHOTS = Path("build")
COLOURS_DRAWN = """() => {
    const canvas = document.querySelector("#live");
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const colours = new Set();
    for (let i = 0; i < pixels.length; i += 404) colours.add(pixels.slice(i, i + 3).join());
    return colours.size;
}"""


class Demo:
    """A running `ams demo`; what it says on stderr is read as it comes."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ams.cli", "demo", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    @property
    def stderr(self) -> str:
        return "".join(self.said)

    def address(self, deadline_s: float = 90) -> str:
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            found = re.search(r"Open (http://\S+)", self.stderr)
            if found:
                return found[1]
            assert self.process.poll() is None, self.stderr
            time.sleep(0.1)
        raise AssertionError(f"no address within {deadline_s} s: {self.stderr}")

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.address() + "/api/state", timeout=10) as response:
            state: dict[str, Any] = json.load(response)
            return state

    def until(self, what: str, done: Any, deadline_s: float = 90) -> dict[str, Any]:
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            state = self.state()
            if done(state):
                return state
            time.sleep(0.5)
        raise AssertionError(f"not within {deadline_s} s: {what}; {self.stderr[-2000:]}")

    def end(self, how: signal.Signals = signal.SIGINT) -> tuple[int, dict[str, Any]]:
        """Exit code and the last line's JSON."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        assert self.process.stdout is not None
        lines = self.process.stdout.read().splitlines()
        code = self.process.wait(60)
        self._reader.join(5)
        return code, json.loads(lines[-1]) if lines else {}


def fill(directory: Path) -> None:
    """Leave no room on the disk of a directory."""
    with contextlib.suppress(OSError), (directory / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"\0" * (1 << 16)):
            pass
    assert shutil.disk_usage(directory).free < 1 << 16


def until(what: str, done: Callable[[], bool], deadline_s: float = 90) -> None:
    """Look until it is so."""
    end_s = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < end_s, f"not within {deadline_s} s: {what}"
        time.sleep(0.5)


@pytest.fixture
def started() -> Iterator[list[Demo]]:
    demos: list[Demo] = []
    yield demos
    for demo in demos:
        if demo.process.poll() is None:
            demo.process.terminate()  # in order: killed, it would leave its processes behind
            demo.process.wait(60)


def refused(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Stderr of a demo that must refuse at once, without a traceback."""
    finished = subprocess.run(
        [sys.executable, "-m", "ams.cli", "demo", *arguments], capture_output=True, text=True, timeout=90, check=False,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert finished.returncode == 2, finished
    assert "Traceback" not in finished.stderr
    return finished.stderr


@pytest.mark.chromium
def test_a_person_sees_the_network_learn_and_ctrl_c_ends_it(started: list[Demo], tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    demo = Demo("--source", QUICK_DUSK, "--port", "0", "--broker", "embedded", "--interval", "5", "--json",
                "--log-dir", str(tmp_path))  # fmt: skip
    started.append(demo)
    address = demo.address()
    assert "embedded broker, one process" in demo.stderr, "it says which broker it runs on"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.goto(address)
        expect(page.locator("#status")).to_contain_text("live", timeout=20_000)
        expect(page.locator("#scene")).to_contain_text("day", timeout=20_000)
        number = re.compile(r"^\d+\.\d$")
        expect(page.locator("#adapted")).to_have_text(number, timeout=60_000)
        expect(page.locator("#scene")).to_contain_text("dusk", timeout=60_000)
        before = float(page.locator("#unadapted").inner_text())
        # It learns: patches come, the gap opens, and the figures that are read from the page move.
        until("the gap opens", lambda: float(page.locator("#gain").inner_text()) >= 5)
        adapted, unadapted = (float(page.locator(name).inner_text()) for name in ("#adapted", "#unadapted"))
        assert adapted >= unadapted + 5
        assert unadapted < before, "dusk is hard for who has only seen the day"
        assert int(page.locator("#version").inner_text()) >= 2
        assert page.locator("#patches li").count() >= 2
        assert float(page.locator("#fps").inner_text()) >= 20
        assert page.evaluate(COLOURS_DRAWN) > 50, "the canvas shows a picture"
        shown = page.locator("img, canvas").count()
        assert shown >= 4, "live view and three networks"
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "demo-page.png")
        code, figures = demo.end()
        # The status follows when the demo has gone.
        expect(page.locator("#status")).to_contain_text("lost", timeout=30_000)
        browser.close()
    assert not [t for t in troubles if "ERR_CONNECTION" not in t and "WebSocket" not in t], troubles
    assert code == 130, demo.stderr
    assert "Traceback" not in demo.stderr
    assert figures["digest_mismatches"] == 0
    assert figures["patches"] >= 2
    # Browser, tests and everything else share the machine: make demo-check holds the demo to every frame.
    assert figures["inferences"] >= 0.9 * figures["frames"]
    for log in tmp_path.glob("*.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


@pytest.mark.redis
def test_on_a_redis_it_ends_by_itself_with_the_figures(started: list[Demo], redis_server: Any) -> None:
    first = Demo("--source", QUICK_DUSK, "--duration", "35", "--port", "0", "--json", "--interval", "5",
                 environment={"AMS_REDIS_SERVER": str(redis_server.executable), "AMS_BROKER_URL": ""})  # fmt: skip
    started.append(first)
    address = first.address()
    assert "one process for each service" in first.stderr
    # A second start on the same port says so at once.
    said = refused("--port", address.rpartition(":")[2], "--broker", "embedded")
    assert "is a demo running already?" in said
    assert "--port" in said
    assert first.process.wait(150) == 0, first.stderr
    code, figures = first.end()
    assert code == 0
    assert figures["clips"] >= 4
    assert figures["frames_scored"] >= 15
    assert figures["adapted_miou"] > figures["unadapted_miou"]
    assert figures["digest_mismatches"] == 0
    assert figures["camera_fps"] == pytest.approx(30, rel=0.05)
    assert figures["frames_dropped"] <= 0.01 * figures["frames"]
    assert "mIoU" in first.stderr


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused("--port", port)
    assert port in said
    assert "--port" in said


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "student"
    shutil.copytree(STUDENT, broken)
    (broken / "weights.bin").unlink()
    said = refused("--student", str(broken))
    assert str(broken / "weights.bin") in said


def test_a_damaged_model_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "student"
    shutil.copytree(STUDENT, broken)
    weights = bytearray((broken / "weights.bin").read_bytes())
    weights[1000] ^= 255
    (broken / "weights.bin").write_bytes(weights)
    said = refused("--student", str(broken))
    assert "damaged" in said


def test_swapped_models_are_refused() -> None:
    assert "imported as a student" in refused("--teacher", str(STUDENT))
    assert "imported as a teacher" in refused("--student", str(TEACHER))


def test_a_webcam_wants_models_that_know_more_than_drawn_streets() -> None:
    said = refused("--source", "0")
    assert "--teacher" in said
    assert "ams models import" in said


def test_a_webcam_that_is_not_there_is_said_by_the_agent(started: list[Demo]) -> None:
    said = refused("--source", "97", "--teacher", str(TEACHER), "--student", str(STUDENT), "--port", "0", "--broker",
                   "embedded")  # fmt: skip
    assert "camera" in said
    assert "97" in said


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("world:moon", "street"),
        ("world:street?seed=minus", "seed"),
        ("world:street?script=hail 40", "rain"),
        ("world:street?script=day", None),
        ("world:street?colour=red", "colour"),
        ("nowhere.mp4", "nowhere.mp4"),
    ],
)
def test_a_source_that_there_is_not_is_explained(source: str, named: str | None) -> None:
    if named is None:
        from worlds import open_world

        assert open_world(source.partition(":")[2]).scene(0) == "day"
        return
    said = refused("--source", source, "--teacher", str(TEACHER), "--student", str(STUDENT))
    assert named in said


def test_a_broker_that_is_not_there() -> None:
    assert "127.0.0.1:1" in refused("--broker", "redis://127.0.0.1:1/0", "--port", "0")


@pytest.mark.mount
def test_a_full_disk_is_said_before_anything_starts(small_disk: Any) -> None:
    with small_disk(megabytes=8) as directory:
        said = refused("--port", "0", environment={"TMPDIR": str(directory)})
    assert "the disk is full" in said
    assert "TMPDIR" in said


@pytest.mark.mount
def test_a_disk_that_fills_up_stops_nothing(started: list[Demo], small_disk: Any) -> None:
    with small_disk(megabytes=96) as directory:
        demo = Demo("--source", QUICK_DUSK, "--port", "0", "--broker", "embedded", "--interval", "5", "--json",
                    environment={"TMPDIR": str(directory)})  # fmt: skip
        started.append(demo)
        demo.until("the first labels", lambda state: len(state["frames"]) > 0)
        fill(directory)
        frames = len(demo.state()["frames"])
        demo.until("more labels on a full disk", lambda state: len(state["frames"]) >= frames + 8)
        code, figures = demo.end()
    assert code == 130, demo.stderr
    assert figures["clips"] >= 2


def test_services_that_die_end_it_with_the_end_of_their_log(started: list[Demo]) -> None:
    demo = Demo("--source", QUICK_DUSK, "--port", "0", "--broker", "embedded")
    started.append(demo)
    demo.address()
    subprocess.run(["pkill", "-KILL", "-f", "ams.demo.embedded", "-P", str(demo.process.pid)], check=True)
    assert demo.process.wait(60) == 2, demo.stderr
    assert "the services died" in demo.stderr
    assert "Traceback" not in demo.stderr


def test_what_ships_is_small() -> None:
    bundles = [path for name in (TEACHER, STUDENT) for path in name.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in bundles) <= 6 << 20
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) <= 6 << 20
