"""The process: exit codes, its one line on stdout, signals, and what it does not import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

from edge_agent.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
FIELDS = {
    "frames", "inferences", "stream_s", "camera_fps", "inference_fps", "uplink_kbps", "downlink_kbps", "bytes_up",
    "bytes_down", "patches", "patches_refused", "digest_mismatches", "clips", "clips_dropped", "version", "digest",
    "frames_dropped", "frames_late", "late_share", "latency_mean_ms", "latency_p50_ms", "latency_p95_ms",
}  # fmt: skip


def arguments(model: Path, source: Path, *more: str) -> list[str]:
    url = "ws://127.0.0.1:9/v1/device"  # the discard port: nobody listens
    return [
        "--server-url", url, "--device", "pi", "--token", "t", "--model", str(model), "--source", str(source), *more,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--source", "/nowhere/a.mp4"), "cannot read /nowhere/a.mp4"),
        (("--model", "/nowhere/model"), "card.json cannot be read"),
        (("--source", "/dev/video97"), "cannot open camera /dev/video97"),
        (("--source", "world:no such world"), "no such world"),
        (("--speed", "0"), "--speed"),
        (("--preview", "8765"), "--preview"),
        (("--token-file", "/nowhere/token"), "exactly one of"),
    ],
)
def test_what_a_person_must_mend_is_one_line_and_code_2(
    model_dir: Path, video: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], words: str
) -> None:
    assert main(arguments(model_dir, video, *change)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@pytest.mark.e2e
def test_run_ends_with_one_line_of_json(model_dir: Path, video: Path) -> None:
    command = [sys.executable, "-m", "edge_agent", *arguments(model_dir, video, "--speed", "20", "--drain-real-s", "0")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    totals = json.loads(line)
    assert set(totals) >= FIELDS
    assert totals["frames"] == 80
    assert "still inferring" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_cleanly(model_dir: Path, video: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "edge_agent", *arguments(model_dir, video, "--loop", "--drain-real-s", "0.1")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stderr is not None
        assert "not reachable" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=15)
    assert process.returncode == 0, err
    assert json.loads(out)["version"] == 0


@pytest.mark.e2e
def test_preview_says_its_port_first_and_shows_what_the_student_sees(model_dir: Path, video: Path) -> None:
    command = [
        sys.executable, "-m", "edge_agent",
        *arguments(model_dir, video, "--loop", "--drain-real-s", "0.1", "--preview", "127.0.0.1:0"),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["preview_port"]
        with connect(f"ws://127.0.0.1:{port}/", compression=None) as viewer:
            messages = [viewer.recv(timeout=10) for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=15)
    assert process.returncode == 0, err
    (line,) = out.splitlines()
    headers = []
    for message in messages:
        assert isinstance(message, bytes)
        size = int.from_bytes(message[:4], "little")
        headers.append(json.loads(message[4 : 4 + size]))
        assert len(message) == 4 + size + headers[-1]["jpeg"] + headers[-1]["labels"]
    assert {(header["width"], header["height"], header["version"]) for header in headers} == {(64, 48, 0)}
    assert headers[0]["t_s"] < headers[1]["t_s"] < headers[2]["t_s"]
    assert headers[2]["frames"] <= json.loads(line)["frames"]


def test_agent_imports_nothing_of_the_server() -> None:
    code = (
        "import sys, edge_agent.__main__\n"
        "heavy = {'torch', 'onnx', 'fastapi', 'uvicorn', 'redis', 'prometheus_client', 'ams.broker', 'ams.learn'}\n"
        "print(sorted(heavy & set(sys.modules)) + [m for m in sys.modules if m.startswith('services')])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment(), check=True)
    assert done.stdout.strip() == "[]"
