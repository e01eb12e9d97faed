"""A full and a failing disk at every write of a run, and what a person sees of it.

``python -m tests.crash.disk`` is the long form: each of a run's writes in turn meets ENOSPC, and each fails with EIO,
before it took place and after; first the first of its name, then the second, until a run comes through without meeting
the error. Each time the run must end with 75 and say what to do, must not try the failed write again, and must come to
the same files as a calm run when it is started again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from tests.crash.small_runs import CALM, open_runs, undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.crash.small_runs import Calm, SmallRuns

AGAIN = 75
ADVICE = "start the same command again"
#: Effects at the service; the errors of a disk are none of theirs.
REMOTE = ("create.", "file.", "job.", "upload.", "results.get.")


class Fault(Struct, frozen=True, kw_only=True):
    point: str
    error: str
    hit: int


class Verdict(Struct, frozen=True, kw_only=True):
    fault: Fault
    struck: bool
    wrong: tuple[str, ...]


def judge(runs: SmallRuns, calm: Calm, fault: Fault) -> Verdict:
    """One life with the fault, one without."""
    place = runs.place()
    code = runs.live(place, calm.input, f"trace={place / 'trace'};{fault.point}=raise:{fault.error}@{fault.hit}")
    trace, said = (place / "trace").read_text().splitlines(), (place / "log").read_text()
    met = f"{fault.point} {fault.hit}"
    wrong = list(_ending(code, said)) + _commits_behind(trace, met) if met in trace else []
    code = runs.live(place, calm.input)
    wrong += runs.differences(place, calm, code)
    return Verdict(fault=fault, struck=met in trace, wrong=tuple(wrong))


def _ending(code: int, said: str) -> Iterator[str]:
    if code != AGAIN:
        yield f"ended with {code}"
    if ADVICE not in said:
        yield f"did not say what to do: {said[-300:]}"


def _commits_behind(trace: list[str], met: str) -> list[str]:
    """After a commit that failed, nobody knows what is on the disk: there must be no other."""
    if not met.startswith("manifest.commit."):
        return []
    behind = trace[trace.index(met) + 1 :]
    return [f"went on to {point}" for point in behind if point.startswith("manifest.commit.before")]


def faults(points: Iterable[str], error: str, *, hit: int = 1) -> list[Fault]:
    """An error for every point that is about this machine's disk."""
    return [Fault(point=point, error=error, hit=hit) for point in points if not point.startswith(REMOTE)]


def suffer(root: Path, calm: Calm, chosen: list[Fault], *, abreast: int = 2) -> list[Verdict]:
    with open_runs(root, CALM) as runs, ThreadPoolExecutor(abreast) as pool:
        return list(pool.map(partial(judge, runs, calm), chosen))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=200, help="of each point, at the most")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        figures = campaign(Path(name), chosen.hits)
    print(json.dumps(figures))
    return 1 if figures["failures"] else 0


def campaign(root: Path, hits: int) -> dict[str, int]:
    calm = undisturbed(root / "calm", [CALM])[CALM.name]
    figures: Counter[str] = Counter(points=len(faults(calm.points, "EIO")))
    for error, side in itertools.product(("ENOSPC", "EIO"), (".before", ".after")):
        points = {point for point in calm.points if point.endswith(side)}
        for hit in range(1, hits + 1):
            verdicts = suffer(root / f"{error}{side}{hit}", calm, faults(sorted(points), error, hit=hit))
            for verdict in verdicts:
                figures += Counter(runs=1, errors=verdict.struck, failures=bool(verdict.wrong))
                for wrong in verdict.wrong:
                    print(f"{verdict.fault}: {wrong}", file=sys.stderr, flush=True)
            points = {verdict.fault.point for verdict in verdicts if verdict.struck}
    return {name: figures[name] for name in ("points", "runs", "errors", "failures")}


if __name__ == "__main__":
    sys.exit(main())
