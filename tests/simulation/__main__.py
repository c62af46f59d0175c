"""`python -m tests.simulation`: run seeds, say what went wrong and how to see it again.

python -m tests.simulation --seeds 2000 [--start N] [--jobs 1]
python -m tests.simulation --seed 1234 --trace
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

TAIL = 60
"""Lines of the event log that a failure shows."""

PROGRESS_S = 2.0


def _fixed_hashes() -> None:
    """Start again with fixed string hashes: what iterates over a set of names is then the same every time."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def main() -> int:
    """0 when all seeds held, 1 when one did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="print the whole event log")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    options = parser.parse_args()
    _fixed_hashes()
    from tests.simulation.run import run_seed

    if options.seed is not None:
        outcome = run_seed(options.seed)
        print("\n".join(outcome.lines if options.trace else outcome.lines[-TAIL:]))
        print(f"seed {outcome.seed}: {len(outcome.lines)} lines, {outcome.digest}")
        for violation in outcome.violations:
            print(f"  {violation}")
        return 0 if outcome.ok else 1
    seeds = range(options.start, options.start + options.seeds)
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    failed, longest_s, shown_s, began_s = 0, 0.0, 0.0, time.monotonic()
    for done, outcome in enumerate(_outcomes(seeds, options.jobs), start=1):
        faults.update(outcome.faults)
        counts.update(outcome.counts)
        longest_s = max(longest_s, outcome.settled_s)
        now_s = time.monotonic()
        if now_s - shown_s > PROGRESS_S or done == len(seeds):
            shown_s = now_s
            rate = done / max(1e-9, now_s - began_s)
            print(f"\r{done}/{len(seeds)} seeds, {rate:.1f} a second, {failed} failed ", end="", flush=True)
        if outcome.ok:
            continue
        failed += 1
        print(f"\nseed {outcome.seed} failed: {outcome.violations[0]}")
        print(f"  python -m tests.simulation --seed {outcome.seed} --trace")
        if not options.keep_going:
            print("\n".join(outcome.lines[-TAIL:]))
            break
    print(f"\n{failed} of {done} seeds failed; the longest took {longest_s:.0f} s to settle")
    for title, counter in (("faults", faults), ("work", counts)):
        print(f"{title}: " + ", ".join(f"{name} {count}" for name, count in sorted(counter.items())))
    return 1 if failed else 0


def _outcomes(seeds: Iterable[int], jobs: int) -> Iterable:  # type: ignore[type-arg]
    from tests.simulation.run import run_seed

    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_seed, seeds, chunksize=4)


if __name__ == "__main__":
    sys.exit(main())
