"""`python -m benchmarks [NAME ...] [--quick]`: a table for people, and one JSON object a line at the end.

Ratios come from one run on one machine; absolute times of different machines cannot be compared.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys

NAMES = ("patch_bytes", "patch_entropy", "patch_frontier", "patch_speed", "training_phase")


def main() -> int:
    """Run the named benchmarks, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller versions")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in options.names or NAMES:
        result = importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)
        print(f"\n{name}")
        for key, value in result.items():
            print(f"  {key:<28} {value:.4g}" if isinstance(value, float) else f"  {key:<28} {value}")
        print(json.dumps({"name": name, **result}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
