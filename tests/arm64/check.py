"""What the core computes, as one line per result, to be compared between processors: `python -m tests.arm64.check`.

Reads the recorded patches and applies them, then a chain of patches of a larger student: each patch, their sum, and a
keyframe, by both entropy coders. Everything that a device and a server must agree on bit for bit is in the lines; which
machine it was is said on standard error only.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard

from ams.core import label_map
from ams.core.card import Parameter, ParameterKind, model_id
from ams.core.delta import Delta
from ams.core.envelope import decode, encode
from ams.core.grid import LIMIT
from ams.core.layout import IntVector, Layout
from ams.core.patch import GAP_ZSTD, RANS, Patch
from tests.golden import content

FOLDER = Path(__file__).parent.parent / "golden" / content.FOLDER
CODERS = {"gap": GAP_ZSTD, "rans": RANS}
START_OF = {
    "patch": content.VERSION0,
    "keyframe": content.VERSION0,
    "empty": content.VERSION2,
    "dense": content.VERSION0,
}
"""The weights that each recorded patch leads on from."""

MODEL_ID = "c" * 64
CHANGED = (5, 700, 3_000, 50, 14_000, 1)
"""How many weights each patch of the chain changes, or tries to: some are moved by 0."""

CHAIN = len(CHANGED)
SHAPES = ((16, 3, 3, 3), (16,), (64, 16, 3, 3), (64,), (19, 64, 1, 1), (4000,), (1,))


def main() -> None:
    print(f"{platform.machine()}, numpy {np.__version__}, zstandard {zstandard.__version__}", file=sys.stderr)
    for name, data in (*_recorded(), *_chain(), *_floats()):
        print(f"{name}: {len(data)} bytes, {hashlib.sha256(data).hexdigest()}")


def _recorded() -> Iterator[tuple[str, bytes]]:
    """What the recorded files hold, and what today's code writes in their place."""
    for path in sorted(FOLDER.glob("message-*.bin")):
        yield path.name, encode(*decode(path.read_bytes()))
    for path in sorted(FOLDER.glob("patch-*.bin")):
        kind = path.stem.rpartition("-")[2]
        patch = Patch.decode(path.read_bytes(), content.LAYOUT)
        yield f"{path.name} applied", _applied(patch, content.LAYOUT, START_OF[kind])
        for coder, number in CODERS.items():
            yield f"{path.name} encoded by {coder}", patch.encode(content.LAYOUT, coder=number)
    labels = label_map.decode((FOLDER / "label-maps.bin").read_bytes())
    yield "label maps", labels.tobytes()
    yield "label maps encoded", label_map.encode(labels)
    yield "model id", bytes.fromhex(model_id(content.CARD, content.SKELETON))


def _chain() -> Iterator[tuple[str, bytes]]:
    """A student of 15,000 weights that learns: some weights a phase, some of them by much."""
    layout = Layout(
        tuple(
            Parameter(name=f"t{i}", shape=shape, kind=ParameterKind.WEIGHT, exponent=-20 - i % 3)
            for i, shape in enumerate(SHAPES)
        )
    )
    rng = np.random.default_rng(11)
    versions: list[IntVector] = [rng.integers(1 - LIMIT, LIMIT, layout.size).astype(np.int32)]
    for changed in CHANGED:
        at = rng.choice(layout.size, changed, replace=False)
        moved = versions[-1].astype(np.int64)
        moved[at] += rng.integers(-9, 10, len(at)) << rng.integers(0, 15, len(at))
        versions.append(np.clip(moved, 1 - LIMIT, LIMIT - 1).astype(np.int32))
    for coder, number in CODERS.items():
        running = versions[0]
        deltas = []
        for version in range(1, CHAIN + 1):
            base = version, versions[version - 1]
            data = Patch.between(layout, MODEL_ID, base, (version + 1, versions[version])).encode(layout, coder=number)
            yield f"chain {version} by {coder}", data
            patch = Patch.decode(data, layout)
            deltas.append(patch.delta)
            running = patch.apply(running, layout, model_id=MODEL_ID, version=version)
            yield f"chain {version} by {coder} applied", layout.digest(running)
        sum_of_all = Patch(1, CHAIN + 1, MODEL_ID, layout.digest(versions[-1]), Delta.total(deltas))
        data = sum_of_all.encode(layout, coder=number)
        yield f"cumulative by {coder}", data
        yield f"cumulative by {coder} applied", _applied(Patch.decode(data, layout), layout, versions[0])
        keyframe = Patch.between(layout, MODEL_ID, (0, versions[0]), (CHAIN + 1, versions[-1]))
        data = keyframe.encode(layout, coder=number)
        yield f"keyframe by {coder}", data
        yield f"keyframe by {coder} applied", _applied(Patch.decode(data, layout), layout, versions[0])
    yield "weights as floats", layout.to_float(versions[-1]).tobytes()


def _floats() -> Iterator[tuple[str, bytes]]:
    """From floats to the grid, ties and the ends of the grid among them, and back."""
    halves = np.arange(content.LAYOUT.size, dtype=np.float32) / 2 - 77
    weights = halves * content.LAYOUT.scales
    weights[:4] = [1e9, -1e9, 1e-30, -0.0]
    grid = content.LAYOUT.to_grid(weights)
    yield "floats on the grid", grid.tobytes()
    yield "and back", content.LAYOUT.to_float(grid).tobytes()


def _applied(patch: Patch, layout: Layout, start: IntVector) -> bytes:
    """The digest of the weights after a patch, which `apply` has checked against the promised one."""
    return layout.digest(patch.apply(start, layout, model_id=patch.model_id, version=patch.base))


if __name__ == "__main__":
    main()
