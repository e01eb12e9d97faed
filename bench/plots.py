"""The plots of docs/performance.md from the lines that the benches printed: ``python bench/plots.py LINES DIRECTORY``.

Speed beside rivals, memory against the size of the input, and the cost of a run against its number of jobs; a plot
without lines is left out. Needs the package ``matplotlib``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "packtrain"  # the same lines give the same file

Line = dict[str, Any]
OURS, OTHERS = "#2b6cb0", "#a0aec0"
SPEEDS = ("ingest", "upload loopback", "merge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=Path)
    parser.add_argument("directory", type=Path)
    chosen = parser.parse_args()
    benches: defaultdict[str, list[Line]] = defaultdict(list)
    for text in chosen.lines.read_text().splitlines():
        line = json.loads(text)
        benches[line["bench"]].append(line)
    chosen.directory.mkdir(exist_ok=True)
    for name, draw in (("speed", speed), ("memory", memory), ("jobs", jobs)):
        if figure := draw(benches):
            figure.savefig(chosen.directory / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})


def speed(benches: dict[str, list[Line]]) -> Figure | None:
    """Megabytes a second, the median of the rounds, for each bench that has rivals."""
    present = [name for name in SPEEDS if benches.get(name)]
    if not present:
        return None
    figure = Figure(figsize=(9, 0.9 + 0.32 * max(len(_medians(benches[name])) for name in present)))
    for place, name in enumerate(present, 1):
        medians = sorted(_medians(benches[name]).items(), key=lambda pair: pair[1])
        axes = figure.add_subplot(1, len(present), place)
        colours = [OURS if "packtrain" in rival else OTHERS for rival, _ in medians]
        axes.barh([rival for rival, _ in medians], [value for _, value in medians], color=colours)
        axes.set_title(f"{name}, MB/s", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def memory(benches: dict[str, list[Line]]) -> Figure | None:
    lines = benches.get("memory")
    if not lines:
        return None
    figure = Figure(figsize=(5, 3))
    axes = figure.add_subplot()
    for rival, marker in (("check", "o"), ("run", "s")):
        points = sorted((line["bytes"] / 1e9, line["peak_mb"]) for line in lines if line["rival"] == rival)
        axes.plot(*zip(*points, strict=True), marker=marker, label=f"packtrain {rival}")
    axes.set_xscale("log")
    axes.set_ylim(0, 320)
    axes.axhline(300, color=OTHERS, linestyle=":")
    axes.set_xlabel("GB of input")
    axes.set_ylabel("peak MB of the largest process")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def jobs(benches: dict[str, list[Line]]) -> Figure | None:
    lines = sorted(benches.get("scaling", []), key=lambda line: int(line["jobs"]))
    if not lines:
        return None
    figure = Figure(figsize=(5, 3))
    axes = figure.add_subplot()
    numbers = [line["jobs"] for line in lines]
    for what, marker in (("CPU ms a job", "o"), ("calls a job", "s")):
        axes.plot(numbers, [line[what] for line in lines], marker=marker, label=what)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("jobs of the run")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _medians(lines: list[Line]) -> dict[str, float]:
    speeds: defaultdict[str, list[float]] = defaultdict(list)
    for line in lines:
        # Uploads are timed without the start of the program.
        seconds = line["facts"].get("upload_seconds", line["seconds"])
        speeds[line["rival"]].append(line["bytes"] / 1e6 / seconds)
    return {rival: statistics.median(found) for rival, found in speeds.items()}


if __name__ == "__main__":
    main()
