"""Small runs to be killed: trouble that they may be in, a service to speak to, and what they must come to.

A scenario is what goes wrong before anybody is killed. Whatever is done to a run, once it was left alone its files
must be, byte for byte, those of a calm run, the service's own record must show one job for each shard, and an audit of
the run must find nothing.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from packtrain._options import Policy
from packtrain.testing.audit.run import audit_run
from tests.crash import children
from tests.forks import exit_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from multiprocessing.process import BaseProcess

QUARANTINED = 5
KEYS_A_SHARD = 2
#: Each look at the jobs costs both sides something, and each doubt waits for the settling.
PACE = ["--poll", "50ms", "--settle", "200ms"]


class Scenario(Struct, frozen=True, kw_only=True):
    """What goes wrong in a run before it is killed at all, so that it passes points which a calm one does not."""

    name: str
    #: Of the client, in every life but the last.
    failpoints: str = ""
    #: Of the service, as TOML.
    faults: str = ""
    #: A line's bytes that are sent and not echoed.
    ballast: int = 0
    #: Jobs of each shard: more than one only where the service makes two of one create, or some is asked again.
    jobs: tuple[int, ...] = (1, 1, 1)


CALM = Scenario(name="calm")
#: The request never arrives: the input file is revoked, and the next attempt makes the job.
LOST = Scenario(name="a create is lost", failpoints="create.post.before=raise:ECONNRESET@1")
SCENARIOS = (
    CALM,
    Scenario(name="the answer to a create is lost", failpoints="create.post.after=raise:ECONNRESET@1"),
    LOST,
    Scenario(name="the answer to a finalize is lost", failpoints="upload.finalize.after=raise:ECONNRESET@1"),
    Scenario(name="an upload in several chunks", jobs=(1,), ballast=17_500_000),
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
        jobs=(2,),
    ),
    Scenario(
        name="jobs are not listed",
        faults='[[rules]]\ndo = "list"\nhow = "empty"\nroute = "batches.list"\ntimes = 6\n',
    ),
    Scenario(
        name="a row is missing, and asked again",
        faults='[[rules]]\ndo = "results"\nhow = "missing"\nroute = "files.download"\ncalls = [1]\n',
        jobs=(2,),
    ),
    Scenario(
        name="results are gone, and asked again",
        faults='[[rules]]\ndo = "expire"\nroute = "files.download"\ncalls = [1]\n',
        jobs=(2,),
    ),
)


class Calm(Struct, frozen=True, kw_only=True):
    """A run of a scenario that nobody killed: how it ended and when, its files, and how often it came to each point."""

    input: Path
    code: int
    seconds: float
    files: dict[str, bytes]
    points: Counter[str]


class SmallRuns:
    """Runs of one scenario against one service; each case has a directory of its own."""

    def __init__(self, root: Path, scenario: Scenario, origin: str) -> None:
        self._root = root
        self._scenario = scenario
        self.service = ["--service", origin, "--wire", "gemini"]
        self._numbers = itertools.count()

    def calm(self) -> Calm:
        return self.observe(self.place(), self.requests(), self._scenario.failpoints)

    def requests(self) -> Path:
        source = self._root / "in.jsonl"
        write_requests(source, self._scenario)
        return source

    def observe(self, place: Path, source: Path, failpoints: str = "") -> Calm:
        """One life that nobody ends."""
        began = time.monotonic()
        code = self.live(place, source, f"{failpoints};trace={place / 'trace'}")
        if code not in (0, 1):
            raise RuntimeError(f"{self._scenario.name}: ended with {code} although nobody killed it; see {place}")
        seconds, points = time.monotonic() - began, read_trace(place / "trace")
        return Calm(input=source, code=code, seconds=seconds, files=files(place), points=points)

    def place(self) -> Path:
        place = self._root / f"{next(self._numbers):05d}"
        place.mkdir()
        return place

    def live(self, place: Path, source: Path, failpoints: str = "", options: Sequence[str] = ()) -> int:
        """One life of a run; its exit code."""
        return exit_code(self.start(place, source, failpoints, options))

    def start(self, place: Path, source: Path, failpoints: str = "", options: Sequence[str] = ()) -> BaseProcess:
        arguments = ["run", *self.given(place, source), "--json", "--quiet", *PACE, *options]
        return children.start(arguments, place / "log", failpoints=failpoints)

    def given(self, place: Path, source: Path) -> list[str]:
        """What a run is made of, as every command about it wants to be told."""
        made_of = [str(source), "--out", str(place / "out.jsonl"), "--model", "m"]
        return [*made_of, "--max-shard-requests", str(KEYS_A_SHARD), *self.service]

    def differences(self, place: Path, calm: Calm, code: int, *, lives: int = 1) -> Iterator[str]:
        """How a run that has ended with ``code`` can be told from a calm one.

        Each of so many ``lives`` before the last may have lost a create, by a kill or by the scenario. After as many of
        them as a shard has attempts it may wait for a person; then nothing is there to compare.
        """
        jobs = Counter(shard for shard, _ in self.jobs(place))
        if max(self._scenario.jobs) == 1:  # two jobs of one create are what an audit would complain of
            yield from self._audit(place, calm, code)
        if code == QUARANTINED and lives >= Policy().attempts:
            yield from (f"{made} jobs for shard {shard}" for shard, made in jobs.items() if made > 1)
            return
        if code != calm.code:
            yield f"ended with {code} instead of {calm.code}"
        found = files(place)
        for name in sorted(found | calm.files):
            if found.get(name) != calm.files.get(name):
                yield f"{name} differs"
        if jobs != +Counter({str(shard): made for shard, made in enumerate(self._scenario.jobs)}):
            yield f"jobs by shard: {dict(jobs)}"
        if "Traceback" in (place / "log").read_text():
            yield "a traceback was shown"

    def _audit(self, place: Path, calm: Calm, code: int) -> list[str]:
        out, service = place / "out.jsonl", self._root / "service"
        return audit_run(inputs=[calm.input], out=out, state=state_of(place), service=service, exit_code=code)

    def jobs(self, place: Path) -> list[tuple[str, str]]:
        """The shard and the name of each job that the service made for the run, by its own record."""
        return self.jobs_of(token_of(place))

    def jobs_of(self, token: str) -> list[tuple[str, str]]:
        """As ``jobs``, for a run by its token."""
        with (self._root / "service" / "truth.jsonl").open() as file:
            # The last line may be in the making, of another run.
            whole = (line for line in file if line.endswith("\n"))
            made = [entry for entry in map(json.loads, whole) if entry["what"] == "batch_created"]
        tags = [(entry["displayName"].split("."), entry["name"]) for entry in made]
        return [(tag[2], name) for tag, name in tags if tag[1] == token]


@contextmanager
def open_runs(root: Path, scenario: Scenario) -> Iterator[SmallRuns]:
    """With faults, the service lives for one case only, since its rules count the calls of its life."""
    root.mkdir(parents=True)
    arguments = []
    if scenario.faults:
        (root / "faults.toml").write_text(scenario.faults)
        arguments = ["--faults", str(root / "faults.toml")]
    with children.serving(root / "service", *arguments) as origin:
        yield SmallRuns(root, scenario, origin)


def write_requests(path: Path, scenario: Scenario) -> None:
    """Some lines a shard, and one that cannot be used."""
    with path.open("w") as file:
        for number in range(KEYS_A_SHARD * len(scenario.jobs)):
            parts = [{"text": f"prompt number {number}"}]
            body = {"contents": [{"parts": [{"text": "x" * scenario.ballast}]}, {"parts": parts}]}
            file.write(json.dumps({"key": f"key-{number}", "request": body}) + "\n")
        file.write("rubbish\n")


def state_of(place: Path) -> Path:
    return place / "out.jsonl.packtrain"


def token_of(place: Path) -> str:
    with closing(sqlite3.connect(state_of(place) / "manifest.db")) as manifest:
        token: str = manifest.execute("SELECT token FROM runs").fetchone()[0]
    return token


def read_trace(path: Path) -> Counter[str]:
    """How often a life came to each point."""
    return Counter(line.split()[0] for line in path.read_text().splitlines())


def files(place: Path) -> dict[str, bytes]:
    """What stands beside the output and under its name."""
    return {path.name: path.read_bytes() for path in place.glob("out.jsonl*") if path.is_file()}


def undisturbed(root: Path, scenarios: Iterable[Scenario] = SCENARIOS) -> dict[str, Calm]:
    """Each scenario once."""
    found = {}
    for scenario in scenarios:
        with open_runs(root / scenario.name, scenario) as runs:
            found[scenario.name] = runs.calm()
    return found
