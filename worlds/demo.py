"""`make demo`: the whole system on a street of blocks, made on the spot.

Films a minute and a half of a street at dusk, writes down a teacher that is right under every light, trains a
student for a few seconds on streets by day, and plays the film through `ams run`: gateway, labeler, trainer and agent
as separate processes. Leaves the picture build/demo.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from ams.cli import app
from ams.errors import AmsError
from ams.models.store import DirectoryStore
from worlds import networks
from worlds.blocks import BlockStreet
from worlds.films import film


def main() -> int:
    """Make the world, then run on it."""
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=90.0, help="length of the film")
    parser.add_argument("--out", type=Path, default=Path("build"), help="where film, models and picture go")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    street = BlockStreet(light="dusk", seed=3)
    console = Console(stderr=True)
    with console.status("filming a street at dusk"):
        video = film(options.out / "demo.mp4", street, seconds=options.seconds)
    with console.status("training a student on streets by day"):
        store = DirectoryStore(options.out / "models")
        teacher = store.put(networks.teacher(options.out, street))
        student = store.put(networks.student(options.out, street))
    picture = options.out / "demo.png"
    console.print(
        "A student that has only seen the day looks at a street at dusk. Watch 'adapted' leave 'unadapted' behind."
    )
    arguments = [
        "run", "--video", str(video), "--teacher", teacher, "--student", student, "--models-dir", str(store.root),
        "--interval", "5", "--fraction", "0.3", "--learning-rate", "0.003", "--threads", "1", "--report", str(picture),
    ]  # fmt: skip
    try:
        code = app([*arguments, "--json"] if options.json else arguments, standalone_mode=False)
    except AmsError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    if code:
        return int(code)
    console.print(f"The picture of it: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
