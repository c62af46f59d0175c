"""mIoU against kbps: our update control and patches against the paper's selection and encoding, in the closed loop.

Street worlds that no network has seen (day, dusk, rain) with the student that ships and with the paper's of 2.1 M
weights, and the kit's pedestrians with the kit's student. Headers and digests included. Figures: the BD-rate per
student, and how far ours at the paper's bytes (gamma 5 %) is from training all weights and sending them as float16,
paired over traces and seeds. Writes docs/patch-frontier.md and its plot. Long the first time; runs are kept in
build/runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frontier import Points, bd_rate, paired
from benchmarks.replay import Replayed
from benchmarks.runs import KIT, Run, replay_all

PAPER = ("paper-1", "paper-5", "paper-10", "paper-20")
OURS = ("ours-0.1", "ours-0.2", "ours-0.45", "ours-1")
PAIRED = ("paper-5", "ours-0.2", "ours-1", "float16")
"""Run with every seed; the others of the frontier with the first."""

SEEDS = (0, 1, 2)
STREETS = ("moving:31", "moving:32", "fixed:33")
PEDESTRIANS = ("pedestrians_static_vtest",)
TRACES = {"shipped": STREETS, "paper": STREETS, "kit": PEDESTRIANS}
NAMES = {"shipped": "shipped student, 0.16 M", "paper": "paper's student, 2.1 M", "kit": "kit's student, 0.08 M"}
DOCS = Path("docs")


@dataclass(frozen=True)
class Frontier:
    """The results of one student."""

    student: str
    results: dict[Run, Replayed]

    def of(self, scheme: str, trace: str, seed: int = SEEDS[0]) -> Replayed | None:
        """One run's result."""
        return self.results.get(Run(self.student, trace, scheme, seed))

    @property
    def traces(self) -> tuple[str, ...]:
        """Traces with results."""
        return TRACES[self.student]

    def points(self, schemes: Sequence[str], trace: str) -> Points:
        """(kbps, mIoU in points) of the first seed on one trace."""
        held = [self.of(scheme, trace) for scheme in schemes]
        return [(run.kbps, 100 * run.miou) for run in held if run is not None]

    def bd_rates(self) -> list[float]:
        """One per trace."""
        return [bd_rate(self.points(PAPER, t), self.points(OURS, t)) for t in self.traces]

    def differences(self, scheme: str, other: str) -> list[float]:
        """mIoU in points, `scheme` minus `other`, over all traces and seeds that have both."""
        pairs = [(self.of(scheme, t, s), self.of(other, t, s)) for t in self.traces for s in SEEDS]
        return [100 * (a.miou - b.miou) for a, b in pairs if a is not None and b is not None]

    def mean(self, scheme: str) -> tuple[float, float]:
        """Mean kbps and mIoU in points over all traces and seeds."""
        held = [run for key, run in self.results.items() if key.scheme == scheme]
        return float(np.mean([run.kbps for run in held])), 100 * float(np.mean([run.miou for run in held]))


def runs_of(student: str, *, quick: bool) -> list[Run]:
    """What to replay for a student."""
    seeds = SEEDS[:1] if quick or student == "kit" else SEEDS
    traces = TRACES[student][:1] if quick else TRACES[student]
    runs = [Run(student, trace, scheme, seed) for trace in traces for scheme in PAIRED for seed in seeds]
    # The other students' phases take ten times as long: fewer points of the curve.
    more = ("none", *PAPER, *OURS) if student == "shipped" else ("none", "paper-1", "paper-20", "ours-0.45")
    return list(dict.fromkeys(runs + [Run(student, trace, scheme, SEEDS[0]) for trace in traces for scheme in more]))


def run(*, quick: bool) -> dict[str, float | int | str]:
    """`ratio` is the worst student's mean BD-rate plus one: the bytes that ours takes of the paper's, at equal mIoU."""
    students = ["shipped"] if quick else ["shipped", "paper"]
    if not quick and KIT.is_dir():
        students.append("kit")
    elif not quick:
        print(f"NOT RUN: the kit's student and video, since there is no {KIT} (set AMS_KIT)")
    frontiers = {
        student: Frontier(student, replay_all(runs_of(student, quick=quick))) for student in students
    }  # fmt: skip
    figures: dict[str, float | int | str] = {}
    for student, frontier in frontiers.items():
        rates = frontier.bd_rates()
        gap, half = paired(frontier.differences("ours-1", "float16"))
        figures[f"{student}_bd_rate"] = round(float(np.nanmean(rates)), 4)
        figures[f"{student}_bd_rates"] = ", ".join(
            "no common range" if np.isnan(rate) else f"{100 * rate:.0f} %" for rate in rates
        )
        figures[f"{student}_minus_float16"] = round(gap, 2)
        figures[f"{student}_minus_float16_95"] = f"+- {half:.2f}" if not np.isnan(half) else "one pair"
        figures[f"{student}_ours_kbps"], figures[f"{student}_paper_kbps"] = (
            round(frontier.mean(scheme)[0], 2) for scheme in ("ours-1", "paper-5")
        )
    worst = max(float(figures[f"{student}_bd_rate"]) for student in frontiers)
    if not quick:
        _write(frontiers, figures)
    return {"ratio": 1 + worst, **figures}


def _write(frontiers: dict[str, Frontier], figures: dict[str, float | int | str]) -> None:
    lines = [
        "# mIoU against kbps",
        "",
        "Made by `python -m benchmarks patch_frontier`; what is measured, and how, stands in that file. A phase of 20",
        "steps every 10 s; mIoU against the teacher on frames not yet trained on (10-s windows, mean over frames);",
        "bytes with headers and digests. `paper-5`: gradient-guided, gamma 5 %, bitmap + gzip -9 + float16. `ours-x`:",
        "rate control at x times those bytes. `float16`: all weights trained and sent.",
        "",
        "![mIoU against kbps](images/patch-frontier.png)",
        "",
    ]
    for student, frontier in frontiers.items():
        lines += [
            f"## {NAMES[student]}",
            "",
            (
                f"BD-rate of ours against the paper's: {100 * float(figures[f'{student}_bd_rate']):.0f} % "
                f"(by trace: {figures[f'{student}_bd_rates']}). At the paper's bytes ours minus float16: "
                f"{figures[f'{student}_minus_float16']:+} points (95 %: {figures[f'{student}_minus_float16_95']})."
            ),
            "",
            "| scheme | " + " | ".join(f"{trace} kbps | mIoU" for trace in frontier.traces) + " |",
            "|---" * (1 + 2 * len(frontier.traces)) + "|",
        ]
        for scheme in ("none", *PAPER, *OURS, "float16"):
            cells = []
            for trace in frontier.traces:
                held = [frontier.of(scheme, trace, seed) for seed in SEEDS]
                known = [result for result in held if result is not None]
                if not known:
                    cells += ["", ""]
                    continue
                mious = [100 * result.miou for result in known]
                spread = f" ({min(mious):.1f} to {max(mious):.1f})" if len(mious) > 1 else ""
                cells += [f"{np.mean([r.kbps for r in known]):.1f}", f"{np.mean(mious):.1f}{spread}"]
            lines.append(f"| {scheme} | {' | '.join(cells)} |")
        lines.append("")
    (DOCS / "patch-frontier.md").write_text("\n".join(lines))
    _plot(frontiers, DOCS / "images" / "patch-frontier.png")


def _plot(frontiers: dict[str, Frontier], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    figure = Figure(figsize=(5.2 * len(frontiers), 4.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(frontiers), squeeze=False)[0]
    for axis, (student, frontier) in zip(axes, frontiers.items(), strict=True):
        for index, trace in enumerate(frontier.traces):
            style: dict[str, Any] = {"marker": "os^"[index], "markersize": 5, "linewidth": 1.6, "alpha": 0.9}
            for schemes, colour, label in ((PAPER, "#9aa0a6", "paper's"), (OURS, "#0b7a75", "ours")):
                rates, mious = zip(*frontier.points(schemes, trace), strict=True)
                axis.plot(rates, mious, color=colour, label=f"{label}, {trace}", **style)
            ceiling = frontier.of("float16", trace)
            if ceiling is not None:
                axis.axhline(100 * ceiling.miou, color="#e07a1f", linewidth=0.8, linestyle=":")
        axis.set(xscale="log", xlabel="downlink, kbps", ylabel="mIoU, points", title=NAMES[student])
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
