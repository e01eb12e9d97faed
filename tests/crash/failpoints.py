"""Kill a run at every point that it passes, before and after each effect, and see whether anybody can tell.

``python -m tests.crash.failpoints`` is the long form: every point of every scenario up to its third hit, all pairs
among the points of create and fence (the second kill strikes the recovery of the first), and some three deep. After
the last kill the run is started once more and left alone. Its files must then be, byte for byte, those of a run that
nobody disturbed, and the service's own record must show one job for each shard.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from tests.crash.small_runs import LOST, SCENARIOS, Calm, Scenario, SmallRuns, open_runs, undisturbed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: What the names of the points around a create and its fence begin with.
CREATE = ("manifest.Create", "create.post", "job.list", "manifest.JobAdopted", "manifest.AttemptAbandoned")
FENCE = ("manifest.Revoke", "file.delete", "file.get")


class Case(Struct, frozen=True, kw_only=True):
    """Where each life but the last ends: a point and its hit, as in ``create.post.after=kill@1``."""

    scenario: Scenario
    kills: tuple[str, ...]


class Verdict(Struct, frozen=True, kw_only=True):
    """``struck`` counts the kills that took place: a point may come less often the second time."""

    case: Case
    struck: int
    wrong: tuple[str, ...]


def judge(runs: SmallRuns, calm: Calm, case: Case) -> Verdict:
    """Kill as the case says, go on, and compare."""
    place, struck = runs.place(), 0
    for kill in case.kills:
        struck += runs.live(place, calm.input, f"{case.scenario.failpoints};{kill}") == -signal.SIGKILL
    code = runs.live(place, calm.input)
    return Verdict(case=case, struck=struck, wrong=tuple(runs.differences(place, calm, code, lives=len(case.kills))))


def torture(root: Path, calm: dict[str, Calm], cases: Sequence[Case], *, abreast: int = 2) -> Iterator[Verdict]:
    """Judge them, some side by side. A service takes 40 cases, or one if it has faults, which count its calls."""
    for number, (scenario, group) in enumerate(grouped(cases)):
        with open_runs(root / f"{number:04d}", scenario) as runs, ThreadPoolExecutor(abreast) as pool:
            yield from pool.map(partial(judge, runs, calm[scenario.name]), group)


def grouped(cases: Iterable[Case]) -> Iterator[tuple[Scenario, list[Case]]]:
    for _, same in itertools.groupby(cases, key=lambda case: case.scenario.name):
        listed = list(same)
        size = 1 if listed[0].scenario.faults else 40
        for at in range(0, len(listed), size):
            yield listed[0].scenario, listed[at : at + size]


def singles(calm: dict[str, Calm], *, hits: int) -> Iterator[Case]:
    """Each point of each scenario up to so many hits, unless an earlier scenario came as often to it."""
    seen: Counter[str] = Counter()
    for scenario in SCENARIOS:
        points = calm[scenario.name].points if scenario.name in calm else Counter()
        for point, count in points.items():
            for hit in range(seen[point] + 1, min(count, hits) + 1):
                yield Case(scenario=scenario, kills=(f"{point}=kill@{hit}",))
        seen |= points


def pairs(points: Iterable[str]) -> Iterator[Case]:
    """All pairs around create and fence, the second kill in the life after the first."""
    for first, second in itertools.product(around_creates(points), repeat=2):
        yield Case(scenario=LOST, kills=(f"{first}=kill@1", f"{second}=kill@1"))


def triples(points: Iterable[str], count: int, seed: int) -> Iterator[Case]:
    """Some that are three deep."""
    chance, near = random.Random(seed), around_creates(points)
    for _ in range(count):
        yield Case(scenario=LOST, kills=tuple(f"{chance.choice(near)}=kill@1" for _ in range(3)))


def around_creates(points: Iterable[str]) -> list[str]:
    points = list(points)
    idle = [prefix for prefix in CREATE + FENCE if not any(point.startswith(prefix) for point in points)]
    if idle:
        raise ValueError(f"no point begins with {' or '.join(idle)}, so nothing would be killed there")
    return [point for point in points if point.startswith(CREATE + FENCE)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=3, help="of each point, at the most")
    parser.add_argument("--triples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--without-pairs", action="store_true")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        calm = undisturbed(root / "calm")
        near = calm[LOST.name].points
        cases = list(singles(calm, hits=chosen.hits))
        if not chosen.without_pairs:
            cases += pairs(near)
        cases += triples(near, chosen.triples, chosen.seed)
        figures = report(torture(root / "torn", calm, cases))
    points = set().union(*(each.points for each in calm.values()))
    print(json.dumps({"seed": chosen.seed, "points": len(points), **figures}))
    return 1 if figures["failures"] else 0


def report(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """The figures; what went wrong is said at once."""
    figures: Counter[str] = Counter()
    for verdict in verdicts:
        figures += Counter(cases=1, kills=verdict.struck, failures=bool(verdict.wrong))
        if verdict.struck < len(verdict.case.kills):
            figures["missed"] += 1
        for wrong in verdict.wrong:
            print(
                f"{verdict.case.scenario.name}, {', '.join(verdict.case.kills)}: {wrong}", file=sys.stderr, flush=True
            )
    return {name: figures[name] for name in ("cases", "kills", "missed", "failures")}


if __name__ == "__main__":
    sys.exit(main())
