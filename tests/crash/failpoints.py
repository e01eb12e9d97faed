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
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from tests.crash import children

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

KEYS_A_SHARD = 2
SHARDS = 3
#: What the names of the points around a create and its fence begin with.
CREATE = ("manifest.Create", "create.post", "job.list", "manifest.JobKnown", "manifest.AttemptAbandoned")
FENCE = ("manifest.Fence", "file.delete", "file.get")


class Scenario(Struct, frozen=True, kw_only=True):
    """What goes wrong in a run before it is killed at all, so that it passes points which a calm one does not."""

    name: str
    #: Of the client, in every life but the last.
    failpoints: str = ""
    #: Of the service, as TOML.
    faults: str = ""
    shards: int = SHARDS
    #: A line's bytes that are sent and not echoed.
    ballast: int = 0
    #: Jobs of the first shard: more than one only where the service makes two of one create.
    jobs: int = 1


CALM = Scenario(name="calm")
#: The request never arrives: the input file is revoked, and the next attempt makes the job.
LOST = Scenario(name="a create is lost", failpoints="create.post.before=raise:ECONNRESET@1")
SCENARIOS = (
    CALM,
    Scenario(name="the answer to a create is lost", failpoints="create.post.after=raise:ECONNRESET@1"),
    LOST,
    Scenario(name="the answer to a finalize is lost", failpoints="upload.finalize.after=raise:ECONNRESET@1"),
    Scenario(name="an upload in several chunks", shards=1, ballast=17_500_000),
    Scenario(
        name="a session dies",
        faults='[[rules]]\ndo = "expire"\nroute = "upload.data"\ncalls = [1]\n',
    ),
    Scenario(
        name="a file is damaged at the service",
        faults='[[rules]]\ndo = "flip"\nroute = "upload.data"\ncalls = [1]\n',
    ),
    Scenario(
        name="creates are throttled",
        faults='[[rules]]\ndo = "status"\nstatus = 429\nroute = "batches.create"\ncalls = [1]\n',
    ),
    Scenario(
        name="a create makes two jobs",
        faults="""
[[rules]]
do = "duplicate"
route = "batches.create"
calls = [1]
[[rules]]
do = "drop"
route = "batches.create"
calls = [1]
acted = true
[[scripts]]
jobs = [1, 2]
steps = [{ state = "RUNNING", looks = 4 }]
""",
        shards=1,
        jobs=2,
    ),
    Scenario(
        name="jobs are not listed",
        faults='[[rules]]\ndo = "list"\nhow = "empty"\nroute = "batches.list"\ntimes = 6\n',
    ),
)


class Case(Struct, frozen=True, kw_only=True):
    """Where each life but the last ends: a point and its hit, as in ``create.post.after=kill@1``."""

    scenario: Scenario
    kills: tuple[str, ...]


class Verdict(Struct, frozen=True, kw_only=True):
    """``struck`` counts the kills that took place: a point may come less often the second time."""

    case: Case
    struck: int
    wrong: tuple[str, ...]


class Calm(Struct, frozen=True, kw_only=True):
    """A run of a scenario that nobody killed: how it ended, its files, and how often it came to each point."""

    input: Path
    code: int
    files: dict[str, bytes]
    points: Counter[str]


class Yard:
    """Runs of one scenario against one service; each case has a directory of its own."""

    def __init__(self, root: Path, scenario: Scenario, origin: str) -> None:
        self._root = root
        self._scenario = scenario
        self._origin = origin
        self._numbers = itertools.count()

    def calm(self) -> Calm:
        place, source = self.place(), self._root / "in.jsonl"
        write_requests(source, self._scenario)
        code = self.live(place, source, f"{self._scenario.failpoints};trace={place / 'trace'}")
        if code not in (0, 1):
            raise RuntimeError(f"{self._scenario.name}: ended with {code} although nobody killed it; see {place}")
        points = Counter(line.split()[0] for line in (place / "trace").read_text().splitlines())
        return Calm(input=source, code=code, files=files(place), points=points)

    def place(self) -> Path:
        place = self._root / f"{next(self._numbers):05d}"
        place.mkdir()
        return place

    def live(self, place: Path, source: Path, failpoints: str) -> int:
        """One life of a run; its exit code."""
        arguments = ["run", str(source), "--out", str(place / "out.jsonl"), "--model", "m"]
        arguments += ["--service", self._origin, "--wire", "gemini", "--json", "--quiet"]
        arguments += ["--max-shard-requests", str(KEYS_A_SHARD), "--poll", "20ms", "--settle", "300ms"]
        return children.finish(children.start(arguments, place / "log", failpoints=failpoints))

    def judge(self, calm: Calm, case: Case) -> Verdict:
        """Kill as the case says, go on, and compare."""
        place, struck = self.place(), 0
        for kill in case.kills:
            struck += self.live(place, calm.input, f"{self._scenario.failpoints};{kill}") == -signal.SIGKILL
        code = self.live(place, calm.input, "")
        return Verdict(case=case, struck=struck, wrong=tuple(self.differences(place, calm, code)))

    def differences(self, place: Path, calm: Calm, code: int) -> Iterator[str]:
        """How a run that has ended with ``code`` can be told from a calm one."""
        if code != calm.code:
            yield f"ended with {code} instead of {calm.code}"
        found = files(place)
        for name in sorted(found | calm.files):
            if found.get(name) != calm.files.get(name):
                yield f"{name} differs"
        jobs = self._jobs(place)
        if jobs != self._expected():
            yield f"jobs by shard: {dict(jobs)}"
        if "Traceback" in (place / "log").read_text():
            yield "a traceback was shown"

    def _jobs(self, place: Path) -> Counter[str]:
        """How many jobs the service made for each shard, by its own record."""
        log = (place / "log").read_text()
        token = json.loads(log[log.rindex("{") :])["run"] if "{" in log else "?"
        made: Counter[str] = Counter()
        with (self._root / "service" / "truth.jsonl").open() as file:
            for entry in map(json.loads, file):
                if entry["what"] == "batch_created" and entry["displayName"].split(".")[1] == token:
                    made[entry["displayName"].split(".")[2]] += 1
        return made

    def _expected(self) -> Counter[str]:
        jobs = Counter({str(shard): 1 for shard in range(self._scenario.shards)})
        jobs["0"] = self._scenario.jobs
        return +jobs


@contextmanager
def open_yard(root: Path, scenario: Scenario) -> Iterator[Yard]:
    """With faults, the service lives for one case only, since its rules count the calls of its life."""
    root.mkdir(parents=True)
    arguments = []
    if scenario.faults:
        (root / "faults.toml").write_text(scenario.faults)
        arguments = ["--faults", str(root / "faults.toml")]
    with children.serving(root / "service", *arguments) as origin:
        yield Yard(root, scenario, origin)


def write_requests(path: Path, scenario: Scenario) -> None:
    """Some lines a shard, and one that cannot be used."""
    with path.open("w") as file:
        for number in range(KEYS_A_SHARD * scenario.shards):
            parts = [{"text": f"prompt number {number}"}]
            body = {"contents": [{"parts": [{"text": "x" * scenario.ballast}]}, {"parts": parts}]}
            file.write(json.dumps({"key": f"key-{number}", "request": body}) + "\n")
        file.write("rubbish\n")


def files(place: Path) -> dict[str, bytes]:
    """What stands beside the output and under its name."""
    return {path.name: path.read_bytes() for path in place.glob("out.jsonl*") if path.is_file()}


def torture(root: Path, calm: dict[str, Calm], cases: Sequence[Case], *, abreast: int = 2) -> Iterator[Verdict]:
    """Judge them, some side by side. A service takes 40 cases, or one if it has faults, which count its calls."""
    for number, (scenario, group) in enumerate(grouped(cases)):
        with open_yard(root / f"{number:04d}", scenario) as yard, ThreadPoolExecutor(abreast) as pool:
            yield from pool.map(partial(yard.judge, calm[scenario.name]), group)


def grouped(cases: Iterable[Case]) -> Iterator[tuple[Scenario, list[Case]]]:
    for _, same in itertools.groupby(cases, key=lambda case: case.scenario.name):
        listed = list(same)
        size = 1 if listed[0].scenario.faults else 40
        for at in range(0, len(listed), size):
            yield listed[0].scenario, listed[at : at + size]


def undisturbed(root: Path, scenarios: Iterable[Scenario] = SCENARIOS) -> dict[str, Calm]:
    """Each scenario once."""
    found = {}
    for scenario in scenarios:
        with open_yard(root / scenario.name, scenario) as yard:
            found[scenario.name] = yard.calm()
    return found


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
