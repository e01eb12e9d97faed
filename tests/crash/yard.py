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

from packtrain._options import ATTEMPTS
from packtrain.testing.audit.run import audit_run
from tests.crash import children

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.process import BaseProcess

QUARANTINED = 5
KEYS_A_SHARD = 2
SHARDS = 3


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
    #: Jobs of the first shard: more than one only where the service makes two of one create, or some is asked again.
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
    Scenario(
        name="a row is missing, and asked again",
        faults='[[rules]]\ndo = "results"\nhow = "missing"\nroute = "files.download"\ncalls = [1]\n',
        shards=1,
        jobs=2,
    ),
    Scenario(
        name="results are gone, and asked again",
        faults='[[rules]]\ndo = "expire"\nroute = "files.download"\ncalls = [1]\n',
        shards=1,
        jobs=2,
    ),
)


class Calm(Struct, frozen=True, kw_only=True):
    """A run of a scenario that nobody killed: how it ended and when, its files, and how often it came to each point."""

    input: Path
    code: int
    seconds: float
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
        place, source, began = self.place(), self._root / "in.jsonl", time.monotonic()
        write_requests(source, self._scenario)
        code = self.live(place, source, f"{self._scenario.failpoints};trace={place / 'trace'}")
        if code not in (0, 1):
            raise RuntimeError(f"{self._scenario.name}: ended with {code} although nobody killed it; see {place}")
        points = Counter(line.split()[0] for line in (place / "trace").read_text().splitlines())
        return Calm(input=source, code=code, seconds=time.monotonic() - began, files=files(place), points=points)

    def place(self) -> Path:
        place = self._root / f"{next(self._numbers):05d}"
        place.mkdir()
        return place

    def live(self, place: Path, source: Path, failpoints: str = "") -> int:
        """One life of a run; its exit code."""
        return children.finish(self.start(place, source, failpoints))

    def start(self, place: Path, source: Path, failpoints: str = "") -> BaseProcess:
        arguments = ["run", str(source), "--out", str(place / "out.jsonl"), "--model", "m"]
        arguments += ["--service", self._origin, "--wire", "gemini", "--json", "--quiet"]
        arguments += ["--max-shard-requests", str(KEYS_A_SHARD), "--poll", "20ms", "--settle", "300ms"]
        return children.start(arguments, place / "log", failpoints=failpoints)

    def differences(self, place: Path, calm: Calm, code: int, *, kills: int = 1) -> Iterator[str]:
        """How a run that has ended with ``code`` can be told from a calm one.

        After as many kills as a shard has attempts it may wait for a person; then nothing is there to compare.
        """
        if self._scenario.jobs == 1:  # two jobs of one create are what an audit would complain of
            yield from self._audit(place, calm, code)
        if code == QUARANTINED and kills >= ATTEMPTS:
            yield from (f"{made} jobs for shard {shard}" for shard, made in self._jobs(place).items() if made > 1)
            return
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

    def _audit(self, place: Path, calm: Calm, code: int) -> list[str]:
        out, state = place / "out.jsonl", place / "out.jsonl.packtrain"
        return audit_run(inputs=[calm.input], out=out, state=state, service=self._root / "service", exit_code=code)

    def _jobs(self, place: Path) -> Counter[str]:
        """How many jobs the service made for each shard, by its own record."""
        token = self._token(place)
        made: Counter[str] = Counter()
        with (self._root / "service" / "truth.jsonl").open() as file:
            for entry in map(json.loads, file):
                if entry["what"] == "batch_created" and entry["displayName"].split(".")[1] == token:
                    made[entry["displayName"].split(".")[2]] += 1
        return made

    def _token(self, place: Path) -> str:
        with closing(sqlite3.connect(place / "out.jsonl.packtrain" / "manifest.db")) as manifest:
            token: str = manifest.execute("SELECT token FROM runs").fetchone()[0]
        return token

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


def undisturbed(root: Path, scenarios: Iterable[Scenario] = SCENARIOS) -> dict[str, Calm]:
    """Each scenario once."""
    found = {}
    for scenario in scenarios:
        with open_yard(root / scenario.name, scenario) as yard:
            found[scenario.name] = yard.calm()
    return found
