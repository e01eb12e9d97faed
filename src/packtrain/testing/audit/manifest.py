"""Manifest of a run as plain rows, read from a copy, since even reading would change the files."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from os import fsdecode
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")
#: Shard and generation.
Place = tuple[int, int]


class Source(Struct, frozen=True):
    """An input at the start of the run; -1 for other sources than files."""

    name: str
    size: int
    mtime_ns: int


class Shard(Struct, frozen=True):
    """``first`` and ``last`` count the valid lines of the input from 0."""

    bytes: int
    lines: int
    sha256: str
    first: int
    last: int
    parent: int | None = None


class Tally(Struct, frozen=True):
    """Totals of a shard's results."""

    answered: int
    failed: int
    bytes: int
    sha256: str


class Row(Struct, frozen=True):
    """State row of a shard."""

    state: str
    attempt: int
    job: str | None
    tally: Tally | None


class Event(Struct, frozen=True):
    """One event of a shard."""

    at: float
    attempt: int
    event: str
    before: str
    after: str
    #: From ``detail``: names at the service.
    tag: str | None = None
    job: str | None = None


class Records(Struct, kw_only=True):
    """Rows of one run."""

    token: str
    recovered: bool
    published: str | None
    sources: list[Source]
    shards: dict[Place, Shard]
    rows: dict[Place, Row]
    events: dict[Place, list[Event]]
    #: State of each duplicate job, by name.
    duplicate_jobs: dict[str, str]

    def latest(self) -> list[tuple[Place, Row]]:
        """The generations that hold what became of each shard, a parent before its children: an only child takes the
        place of its parent."""
        below: dict[Place, list[Place]] = {}
        for place, shard in sorted(self.shards.items()):
            if shard.parent is not None:
                below.setdefault((place[0], shard.parent), []).append(place)

        def holders(place: Place) -> list[Place]:
            children = below.get(place, [])
            own = [place] if len(children) != 1 else []
            return own + [holder for child in children for holder in holders(child)]

        roots = [place for place in sorted(self.rows) if self.shards[place].parent is None]
        return [(place, self.rows[place]) for root in roots for place in holders(root)]


def read_records(state: Path, run: str) -> Records:
    """Raises LookupError when there is no such run, and sqlite3.Error for a manifest that cannot be read."""
    with tempfile.TemporaryDirectory() as copy:
        for path in state.glob("manifest.db*"):
            shutil.copy(path, copy)
        with closing(sqlite3.connect(Path(copy) / "manifest.db")) as database:
            return _records(database, run)


def _records(database: sqlite3.Connection, run: str) -> Records:
    run_row = database.execute("SELECT token, recovered, sha256 FROM runs WHERE id = ?", (run,)).fetchone()
    if run_row is None:
        raise LookupError(f"the manifest has no run {run!r}")

    def rows(query: str) -> list[tuple[int, int, list[object]]]:
        return [(shard, generation, rest) for shard, generation, *rest in database.execute(query, (run,))]

    events: dict[Place, list[Event]] = {}
    for shard, generation, (*values, detail) in rows(_EVENTS):
        details = msgspec.json.decode(str(detail) or "{}", type=dict[str, object])
        event = _struct([*values, details.get("tag"), details.get("job")], Event)
        events.setdefault((shard, generation), []).append(event)
    sources = database.execute("SELECT name, size, mtime_ns FROM sources WHERE run = ? ORDER BY position", (run,))
    return Records(
        token=run_row[0],
        recovered=bool(run_row[1]),
        published=run_row[2],
        sources=[Source(fsdecode(name), size, mtime_ns) for name, size, mtime_ns in sources],
        shards={(shard, generation): _struct(rest, Shard) for shard, generation, rest in rows(_SHARDS)},
        rows={(shard, generation): _row(*rest) for shard, generation, rest in rows(_ROWS)},
        events=events,
        duplicate_jobs=dict(database.execute("SELECT job, state FROM duplicate_jobs WHERE run = ?", (run,))),
    )


def _row(state: object, attempt: object, job: object, tally: object) -> Row:
    return _struct([state, attempt, job, tally and msgspec.json.decode(str(tally))], Row)


def _struct(values: list[object], kind: type[T]) -> T:
    return msgspec.convert(dict(zip(kind.__annotations__, values, strict=True)), kind)


_EVENTS = (
    "SELECT shard, generation, at, attempt, event, before, after, detail FROM events WHERE run = ? ORDER BY number"
)
_SHARDS = "SELECT shard, generation, bytes, lines, sha256, first, last, parent FROM shards WHERE run = ?"
_ROWS = "SELECT shard, generation, state, attempt, job, tally FROM jobs WHERE run = ?"
