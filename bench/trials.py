"""Whole programs timed side by side: the clock, the processors, and the memory of the largest process.

Rivals run in turn, round after round, so that a machine which others use as well is unfair to all alike. What counts
are ratios within one run. A line of JSON is printed for each process that ended, and a table of medians in the end.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

MB = 10**6
Facts = Mapping[str, int | float | str]


class Rival(Struct, frozen=True, kw_only=True):
    """A command, with what must be done before each run of it and seen after it; neither is timed."""

    name: str
    command: Sequence[str]
    prepare: Callable[[], object] | None = None
    #: Raises when what the command did is not what was asked; what it returns is printed with the run.
    check: Callable[[], Facts | None] | None = None
    env: Mapping[str, str] | None = None


class Trial(Struct, frozen=True, kw_only=True):
    """One run. ``cpu_seconds`` takes in the processes that the command started and waited for; ``peak_mb`` is that of
    the largest of them, and not below what this program needs itself, some 17."""

    bench: str
    rival: str
    round: int
    bytes: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    facts: Facts = {}


def compete(bench: str, rivals: Sequence[Rival], *, size: int, rounds: int, directory: Path) -> list[Trial]:
    """Each rival once a round, in ``directory``; ``size`` is the number of bytes that each works through.

    Raises RuntimeError when a command fails, with what it said.
    """
    trials = []
    for number in range(rounds):
        for rival in rivals:
            trial = _run(bench, rival, number, size, directory)
            print(msgspec.json.encode(trial).decode(), flush=True)
            trials.append(trial)
    return trials


@contextlib.contextmanager
def local_service(directory: Path, *options: str) -> Iterator[str]:
    """The origin of a local service in a process of its own, which keeps its files in ``directory``.

    ``options`` are those of ``packtrain serve``; a backend may be a function of this folder.
    """
    command = [sys.executable, "-m", "packtrain", "serve", "--dir", str(directory), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()


def _run(bench: str, rival: Rival, number: int, size: int, directory: Path) -> Trial:
    if rival.prepare:
        rival.prepare()
    log = directory / "said.txt"
    with log.open("wb") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            rival.command, cwd=directory, stdout=said, stderr=subprocess.STDOUT, env=rival.env and {**rival.env}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for here
    if process.returncode:
        words = log.read_text("utf-8", "replace")[-2000:]
        raise RuntimeError(f"{rival.name} ended with {process.returncode}: {words}")
    return Trial(
        bench=bench,
        rival=rival.name,
        round=number,
        bytes=size,
        seconds=round(seconds, 3),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
        peak_mb=round(usage.ru_maxrss * 1024 / MB, 1),
        facts=(rival.check() if rival.check else None) or {},
    )


def table(trials: Sequence[Trial], *, against: str) -> str:
    """Medians as Markdown, with the spread of the seconds, and each rival's speed as a multiple of ``against``'s."""
    names = list(dict.fromkeys(trial.rival for trial in trials))
    base = _median(trials, against, "seconds")
    rows = ["| | seconds (spread) | MB/s | speed | CPU seconds | peak MB |", "|---|---|---|---|---|---|"]
    for name in names:
        seconds = [trial.seconds for trial in trials if trial.rival == name]
        middle = statistics.median(seconds)
        size = next(trial.bytes for trial in trials if trial.rival == name)
        rows.append(
            f"| {name} | {middle:.2f} ({min(seconds):.2f}-{max(seconds):.2f}) | {size / MB / middle:.0f} "
            f"| {base / middle:.2f}x | {_median(trials, name, 'cpu_seconds'):.2f} "
            f"| {_median(trials, name, 'peak_mb'):.0f} |"
        )
    return "\n".join(rows)


def tell(bench: str, rows: Iterable[Mapping[str, float]]) -> None:
    """Print figures that are no race: each row as JSON when it is there, then all as Markdown."""
    told = []
    for row in rows:
        print(msgspec.json.encode({"bench": bench, **row}).decode(), flush=True)
        told.append(row)
    print("| " + " | ".join(told[0]) + " |\n|" + "---|" * len(told[0]))
    for row in told:
        print("| " + " | ".join(f"{figure:,}" for figure in row.values()) + " |")


def _median(trials: Sequence[Trial], rival: str, figure: str) -> float:
    return statistics.median(float(getattr(trial, figure)) for trial in trials if trial.rival == rival)
