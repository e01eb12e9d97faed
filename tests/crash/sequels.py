"""Kill what a person does about a run that came to a stand, and the run after it, at every point that they pass.

``python -m tests.crash.sequels`` is the long form. A run needs a decision, or has lost its manifest, or goes on with
an older copy of it; the command that helps is killed, or else the run that follows. Both are given again and left
alone. The files must then be, byte for byte, those of the same story without a kill, the service's own record must show
one job for each shard that was to have one, and an audit of the run must find nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from tests.crash import children
from tests.crash.small_runs import LOST, Calm, Scenario, SmallRuns, open_runs, read_trace, state_of, token_of
from tests.forks import exit_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Brings a run to a stand; gives the command that helps, none where the run itself goes on.
Beginning = Callable[[SmallRuns, Path, Path], list[str]]

#: Of the lives before the stand: the first create is that of the first shard.
IN_ORDER = ("--uploads", "1")
QUARANTINE = (*IN_ORDER, "--on-ambiguous", "quarantine")


class Sequel(Struct, frozen=True):
    scenario: Scenario
    begin: Beginning


class Case(Struct, frozen=True, kw_only=True):
    sequel: Sequel
    #: Who is killed.
    victim: Literal["command", "run"]
    kill: str


class Verdict(Struct, frozen=True, kw_only=True):
    case: Case
    #: Where a life was cut off before, the next one does not always come to the same points.
    struck: bool
    wrong: tuple[str, ...]


def first_job(runs: SmallRuns, place: Path, source: Path) -> list[str]:
    """Every create after the first is refused."""
    runs.live(place, source, "manifest.JobAdopted.after=kill@1", IN_ORDER)
    return []


def asked(decision: str, runs: SmallRuns, place: Path, source: Path) -> list[str]:
    """Nobody knows whether there is a job of the first shard, and there is none."""
    runs.live(place, source, LOST.failpoints, QUARANTINE)
    return ["resolve", str(state_of(place)), "--shard", "0", decision]


def shown(runs: SmallRuns, place: Path, source: Path) -> list[str]:
    """There is a job of the first shard, and the service says strange things about it."""
    runs.live(place, source, "create.post.after=raise:ECONNRESET@1", QUARANTINE)
    name = dict(runs.jobs(place))["0"]
    return ["resolve", str(state_of(place)), "--shard", "0", "--adopt", name, *runs.service]


def lost(runs: SmallRuns, place: Path, source: Path) -> list[str]:
    """The manifest is lost when two jobs are known."""
    runs.live(place, source, "manifest.JobAdopted.after=kill@2", IN_ORDER)
    token = token_of(place)
    shutil.rmtree(state_of(place))
    return ["recover", *runs.given(place, source), "--run", token]


def put_back(runs: SmallRuns, place: Path, source: Path) -> list[str]:
    """A copy from before the first create is put back when two jobs were made."""
    runs.live(place, source, "manifest.CreateIntended.before=kill@1", IN_ORDER)
    shutil.copytree(state_of(place), place / "copy")
    runs.live(place, source, "manifest.JobAdopted.after=kill@2", IN_ORDER)
    shutil.rmtree(state_of(place))
    shutil.copytree(place / "copy", state_of(place))
    return ["adopt", str(state_of(place))]


SEQUELS = (
    Sequel(
        Scenario(
            name="creates are refused for good",
            faults=f'[[rules]]\ndo = "status"\nstatus = 400\nroute = "batches.create"\ncalls = {list(range(2, 99))}\n',
            jobs=(1, 0, 0),
        ),
        first_job,
    ),
    Sequel(Scenario(name="tried once more by a person's decision"), partial(asked, "--retry")),
    Sequel(Scenario(name="dropped by a person's decision", jobs=(0, 1, 1)), partial(asked, "--drop")),
    Sequel(
        Scenario(
            name="adopted by a person's decision",
            faults="""
[[rules]]
do = "edit"
route = "batches.get"
calls = [1]
member = "metadata.batchStats.requestCount"
value = "7"
""",
        ),
        shown,
    ),
    Sequel(Scenario(name="a lost manifest is recovered"), lost),
    Sequel(Scenario(name="an older manifest is adopted"), put_back),
)


def undisturbed(root: Path, sequel: Sequel, *, hits: int = 1) -> tuple[Calm, list[Case]]:
    """The sequel without a kill, and a case for each point that it passes, up to so many hits."""
    with open_runs(root, sequel.scenario) as runs:
        place, source = runs.place(), runs.requests()
        perform(place, sequel.begin(runs, place, source), f"trace={place / 'helped'}")
        calm = runs.observe(place, source)
        if wrong := list(runs.differences(place, calm, calm.code)):
            raise RuntimeError(f"{sequel.scenario.name}: {wrong} although nobody was killed; see {place}")
    helped = read_trace(place / "helped") if (place / "helped").exists() else Counter[str]()
    return calm, [
        *(Case(sequel=sequel, victim="command", kill=kill) for kill in kills(helped, hits)),
        *(Case(sequel=sequel, victim="run", kill=kill) for kill in kills(calm.points, hits)),
    ]


def kills(points: Counter[str], hits: int) -> Iterator[str]:
    for point, count in points.items():
        yield from (f"{point}=kill@{hit}" for hit in range(1, min(count, hits) + 1))


def judge(root: Path, calm: Calm, case: Case) -> Verdict:
    """The service is the case's own: some of them count their calls."""
    with open_runs(root, case.sequel.scenario) as runs:
        place = runs.place()
        command = case.sequel.begin(runs, place, calm.input)
        if case.victim == "command":
            struck = perform(place, command, case.kill) == -signal.SIGKILL
            perform(place, command)  # it may say that there is nothing to do any more
        else:
            perform(place, command)
            struck = runs.live(place, calm.input, case.kill) == -signal.SIGKILL
        code = runs.live(place, calm.input)
        return Verdict(case=case, struck=struck, wrong=tuple(runs.differences(place, calm, code)))


def perform(place: Path, command: list[str], failpoints: str = "") -> int:
    return exit_code(children.start(command, place / "log", failpoints=failpoints)) if command else 0


def torture(root: Path, calm: Calm, cases: Sequence[Case], *, abreast: int = 2) -> Iterator[Verdict]:
    """Judge them, some side by side."""
    places = (root / f"{number:05d}" for number in range(len(cases)))
    with ThreadPoolExecutor(abreast) as pool:
        yield from pool.map(judge, places, itertools.repeat(calm), cases)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=1, help="of each point, at the most")
    chosen = parser.parse_args(arguments)
    figures: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for sequel in SEQUELS:
            calm, cases = undisturbed(Path(name) / sequel.scenario.name, sequel, hits=chosen.hits)
            figures += report(torture(Path(name) / f"{sequel.scenario.name}, torn", calm, cases))
    told = {name: figures[name] for name in ("cases", "kills", "missed", "failures")}
    print(json.dumps({"sequels": len(SEQUELS), **told}))
    return 1 if figures["failures"] else 0


def report(verdicts: Iterable[Verdict]) -> Counter[str]:
    """The figures; what went wrong is said at once."""
    figures: Counter[str] = Counter()
    for verdict in verdicts:
        figures += Counter(cases=1, kills=verdict.struck, missed=not verdict.struck, failures=bool(verdict.wrong))
        for wrong in verdict.wrong:
            case = verdict.case
            print(f"{case.sequel.scenario.name}, {case.victim} {case.kill}: {wrong}", file=sys.stderr, flush=True)
    return figures


if __name__ == "__main__":
    sys.exit(main())
