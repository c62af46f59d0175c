"""What gets installed: the wheel's packages, and extras that keep heavy things off small machines."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
EXTRAS: dict[str, list[str]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]

IMPORTS = """
import sys
sys.modules.update(dict.fromkeys({absent!r}))  # importing one of these raises ImportError
import importlib
for name in {modules!r}:
    importlib.import_module(name)
"""


def names(extra: str) -> set[str]:
    return {line.split(">")[0].split("[")[0].split(";")[0].strip() for line in EXTRAS[extra]}


def test_a_device_installs_neither_torch_nor_onnx() -> None:
    assert not names("edge") & {"torch", "onnx", "transformers", "redis", "fastapi"}


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (["edge_agent.__main__", "edge_agent.agent"], ["torch", "onnx", "redis", "fastapi", "prometheus_client"]),
        (["services.gateway.__main__", "services.gateway.service"], ["torch", "onnx", "onnxruntime", "av", "cv2"]),
        (["services.labeler.__main__", "services.labeler.service"], ["torch", "onnx", "fastapi"]),
        (["ams.cli"], ["torch", "onnx", "onnxruntime", "av", "cv2", "fastapi", "redis", "matplotlib"]),
    ],
)
def test_a_process_imports_without_what_its_extra_leaves_out(modules: list[str], absent: list[str]) -> None:
    program = IMPORTS.format(absent=absent, modules=modules)
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
