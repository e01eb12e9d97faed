"""The operations on the database, each within a transaction of the caller. SQL by parameters only."""

from __future__ import annotations

from os import fsdecode, fsencode
from sqlite3 import Connection, IntegrityError
from typing import TYPE_CHECKING

import msgspec

from .._model import (
    Credential,
    Cursor,
    DuplicateJob,
    DuplicateState,
    Entry,
    Run,
    Shard,
    ShardRow,
    SourceIdentity,
    State,
    Statistics,
    Tally,
)
from .._options import LONGEST_WAIT
from .._rules.lifecycle import SPOOLED, STORED, TABLE, CreateSuspected, Event, advance
from .._rules.submission import suspicion
from . import codec, errors
from .codec import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Key = tuple[str, int, int]

INSERT_RUN = """
INSERT INTO runs (id, token, fingerprint, model, task, limits, joined, recovered, cursor)
VALUES (:id, :token, :fingerprint, :model, :task, :limits, :join, :recovered, :cursor)
"""
SELECT_RUNS = """
SELECT id, token, fingerprint, model, task, limits, joined AS "join", recovered FROM runs
WHERE ?1 IS NULL OR id = ?1 ORDER BY number
"""
INSERT_SHARD = """
INSERT INTO shards (run, shard, generation, parent, bytes, lines, sha256, first, last)
VALUES (:run, :index, :generation, :parent, :bytes, :lines, :sha256, :first, :last)
ON CONFLICT DO NOTHING
"""
SELECT_SHARD = """
SELECT run, shard AS "index", generation, parent, bytes, lines, sha256, first, last FROM shards
WHERE run = ? AND shard = ? AND generation = ?
"""
INSERT_JOB = "INSERT INTO jobs (run, shard, generation, state) VALUES (:run, :index, :generation, :state)"
SELECT_JOBS = """
SELECT jobs.*, upload FROM jobs LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? ORDER BY shard, generation
"""
SELECT_JOBS_IN = """
SELECT jobs.*, upload FROM jobs LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? AND state IN (SELECT value FROM json_each(?)) ORDER BY shard, generation
"""
SELECT_JOB = """
SELECT jobs.*, upload FROM jobs LEFT JOIN sessions USING (run, shard, generation)
WHERE run = ? AND shard = ? AND generation = ?
"""
SELECT_DUE = """
SELECT run, shard, generation FROM jobs INDEXED BY jobs_by_state
WHERE run = ?1 AND state = ?2 AND claimed = 0 AND NOT (due > ?3 AND due <= ?4)
ORDER BY shard, generation LIMIT ?5
"""
CLAIM = "UPDATE jobs SET claimed = 1, fence = fence + 1 WHERE run = ? AND shard = ? AND generation = ?"
RECORD = """
UPDATE jobs SET {columns} WHERE run = :run AND shard = :shard AND generation = :generation
    AND state = :before AND attempt = :attempt_before AND fence = :fence
"""
RELEASE = """
UPDATE jobs SET claimed = 0, due = ifnull(:due, due)
WHERE run = :run AND shard = :shard AND generation = :generation AND fence = :fence
"""
INSERT_EVENT = """
INSERT INTO events (run, shard, generation, at, attempt, event, before, after, detail)
VALUES (:run, :shard, :generation, :at, :attempt_after, :event, :before, :after, :detail)
"""
SAVE_SESSION = """
INSERT INTO sessions (run, shard, generation, upload) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET upload = excluded.upload
"""
DROP_SESSION = "DELETE FROM sessions WHERE run = ? AND shard = ? AND generation = ?"
SELECT_EVENTS = """
SELECT at, shard, generation, attempt, event, before, after, detail FROM events
WHERE run = ?1 AND shard BETWEEN ifnull(?2, 0) AND ifnull(?2, 9223372036854775807) ORDER BY number
"""
SELECT_TOTALS = "SELECT what, count, bytes, lines FROM totals WHERE run = ?"
SELECT_TALLIES = "SELECT what, count FROM tallies WHERE run = ?"
NOTE_DUPLICATE = """
INSERT INTO duplicate_jobs (run, job, shard, generation, attempt, state)
VALUES (:run, :job, :shard, :generation, :attempt, :state) ON CONFLICT DO UPDATE SET state = excluded.state
"""
SELECT_DUPLICATES = """
SELECT job, shard, generation, attempt, state FROM duplicate_jobs
WHERE run = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.job = duplicate_jobs.job) ORDER BY shard, generation, job
"""
COUNT_DUPLICATES = f"SELECT state, count(*) FROM ({SELECT_DUPLICATES}) GROUP BY state"  # noqa: S608 - a statement of ours
TALLIED = ("answered", "failed", "missing", "again", "duplicates", "unknown", "bytes")
INSERT_SOURCE = "INSERT INTO sources (run, position, name, size, mtime_ns) VALUES (?, ?, ?, ?, ?)"
SELECT_SOURCES = "SELECT name, size, mtime_ns FROM sources WHERE run = ? ORDER BY position"


def _recording(kind: type[Event]) -> str:
    """The statement that sets what an event sets, and so leaves the other columns and their indexes alone."""
    fields = ["state", *(name for name in kind.__struct_fields__ if name != "upload")]
    return RECORD.format(columns=", ".join(f"{name} = :{name}" for name in fields))


RECORDS = {kind: _recording(kind) for kind in TABLE}


def instance(connection: Connection) -> str:
    name: str = connection.execute("SELECT instance FROM meta").fetchone()[0]
    return name


def last_event(connection: Connection) -> int:
    number: int = connection.execute("SELECT ifnull(max(number), 0) FROM events").fetchone()[0]
    return number


def credential(connection: Connection) -> Credential | None:
    text = connection.execute("SELECT credential FROM meta").fetchone()[0]
    return None if text is None else from_json(text, codec.KEY_MARK)


def set_credential(mark: Credential, connection: Connection) -> None:
    connection.execute("UPDATE meta SET credential = ?", (to_json(mark),))


def leave_instance(successor: str, at: float, connection: Connection) -> None:
    """Go on as another manifest: of any key, and in doubt about every shard that is still to be sealed."""
    connection.execute("INSERT INTO ancestors (instance, left_at) SELECT instance, ? FROM meta", (at,))
    connection.execute("UPDATE meta SET instance = ?, credential = NULL", (successor,))
    connection.execute("UPDATE runs SET recovered = 1")


def doubt_unsent(at: float, connection: Connection) -> None:
    """Put every shard of which no create is known in doubt."""
    for run in runs(connection):
        for row in rows(run.id, TABLE[CreateSuspected][0], connection):
            event = suspicion(run.token, shard(row, connection), max(row.attempt, 1), at)
            record(row, advance(row, event), event, at, connection)


def open_run(run: Run, connection: Connection) -> Run:
    stored = find_run(run.id, connection)
    if stored is None:
        try:
            connection.execute(INSERT_RUN, codec.run_values(run))
        except IntegrityError as error:
            raise errors.token_taken(run.id) from error
        return run
    if stored.fingerprint != run.fingerprint:
        raise errors.other_fingerprint(stored, run, rows(run.id, None, connection))
    return stored


def find_run(run: str, connection: Connection) -> Run | None:
    return next(iter(codec.runs(connection.execute(SELECT_RUNS, (run,)))), None)


def runs(connection: Connection) -> list[Run]:
    return codec.runs(connection.execute(SELECT_RUNS, (None,)))


def cursor(run: str, connection: Connection) -> Cursor:
    return from_json(_column("SELECT cursor FROM runs WHERE id = ?", run, connection) or "", codec.CURSOR)


def published(run: str, connection: Connection) -> str | None:
    return _column("SELECT sha256 FROM runs WHERE id = ?", run, connection)


def move(run: str, to: Cursor, connection: Connection) -> None:
    _set("UPDATE runs SET cursor = ? WHERE id = ?", run, to_json(to), connection)


def publish(run: str, sha256: str, connection: Connection) -> None:
    _set("UPDATE runs SET sha256 = ? WHERE id = ?", run, sha256, connection)


def reopen(run: str, children: Sequence[tuple[Shard, Sequence[Event]]], at: float, connection: Connection) -> None:
    if published(run, connection) is None:
        raise errors.not_published(run)
    connection.execute("UPDATE runs SET sha256 = NULL WHERE id = ?", (run,))
    for child, events in children:
        enter(child, events, at, connection)


def keep_sources(run: str, marks: Sequence[SourceIdentity], connection: Connection) -> list[SourceIdentity]:
    if cursor(run, connection).shards:
        stored = connection.execute(SELECT_SOURCES, (run,)).fetchall()
        return [SourceIdentity(fsdecode(name), size, mtime_ns) for name, size, mtime_ns in stored]
    values = [(run, at, fsencode(mark.name), mark.size, mark.mtime_ns) for at, mark in enumerate(marks)]
    connection.execute("DELETE FROM sources WHERE run = ?", (run,))
    connection.executemany(INSERT_SOURCE, values)
    return list(marks)


def seal(shard: Shard, reached: Cursor, events: Sequence[Event], at: float, connection: Connection) -> None:
    move(shard.run, reached, connection)
    enter(shard, events, at, connection)


def enter(shard: Shard, events: Sequence[Event], at: float, connection: Connection) -> None:
    values = msgspec.structs.asdict(shard) | {"state": State.SEALED.value}
    if connection.execute(INSERT_SHARD, values).rowcount != 1:
        raise errors.sealed_already(shard)
    connection.execute(INSERT_JOB, values)
    row = ShardRow(run=shard.run, shard=shard.index, generation=shard.generation)
    for event in events:
        after = advance(row, event)
        record(row, after, event, at, connection)
        row = after


def shard(row: ShardRow, connection: Connection) -> Shard:
    found = codec.structs(connection.execute(SELECT_SHARD, key(row)), Shard)
    if not found:
        raise errors.unknown_shard(row)
    return found[0]


def rows(run: str, states: Collection[State] | None, connection: Connection) -> list[ShardRow]:
    if states is None:
        return codec.rows(connection.execute(SELECT_JOBS, (run,)))
    names = msgspec.json.encode(list(states)).decode()
    return codec.rows(connection.execute(SELECT_JOBS_IN, (run, names)))


def claim(run: str, states: Collection[State], now: float, limit: int, connection: Connection) -> list[ShardRow]:
    due: list[Key] = []
    for state in frozenset(states):
        # State by state, so that each look is a short walk along the index.
        due += connection.execute(SELECT_DUE, (run, state.value, now, now + LONGEST_WAIT, limit)).fetchall()
    return [_take(found, connection) for found in sorted(due)[:limit]]


def record(row: ShardRow, after: ShardRow, event: Event, at: float, connection: Connection) -> int:
    """The number of the event."""
    values = codec.event_values(row, after, event)
    try:
        changed = connection.execute(RECORDS[type(event)], values).rowcount
    except IntegrityError as error:
        raise errors.name_taken(after) from error
    if changed != 1:
        raise errors.stale(row)
    number = connection.execute(INSERT_EVENT, values | {"at": at}).lastrowid
    if after.upload is not row.upload:
        _save_session(after, connection)
    return number or 0


def decide(
    row: ShardRow,
    after: ShardRow,
    event: Event,
    duplicate_jobs: Sequence[DuplicateJob],
    at: float,
    connection: Connection,
) -> int:
    """As ``record``, with what it makes of jobs too many."""
    for duplicate in duplicate_jobs:
        note(row.run, duplicate, connection)
    return record(row, after, event, at, connection)


def hand_on(
    row: ShardRow,
    after: ShardRow,
    event: Event,
    child: Shard,
    events: Sequence[Event],
    duplicate_jobs: Sequence[DuplicateJob],
    at: float,
    connection: Connection,
) -> int:
    """As ``decide``, with the next generation of the shard."""
    enter(child, events, at, connection)
    return decide(row, after, event, duplicate_jobs, at, connection)


def release(row: ShardRow, due: float | None, connection: Connection) -> None:
    if connection.execute(RELEASE, codec.guard_values(row) | {"due": due}).rowcount != 1:
        raise errors.claim_lost(row)


def note(run: str, duplicate: DuplicateJob, connection: Connection) -> None:
    if find_run(run, connection) is None:
        raise errors.unknown_run(run)
    connection.execute(NOTE_DUPLICATE, msgspec.structs.asdict(duplicate) | {"run": run, "state": duplicate.state.value})


def duplicate_jobs(run: str, connection: Connection) -> list[DuplicateJob]:
    return codec.structs(connection.execute(SELECT_DUPLICATES, (run,)), DuplicateJob)


def history(run: str, shard: int | None, connection: Connection) -> list[Entry]:
    return codec.structs(connection.execute(SELECT_EVENTS, (run, shard)), Entry)


def statistics(run: str, connection: Connection) -> Statistics:
    totals = {what: (count, size, lines) for what, count, size, lines in connection.execute(SELECT_TOTALS, (run,))}
    sums = dict(connection.execute(SELECT_TALLIES, (run,)))
    duplicate_jobs = dict(connection.execute(COUNT_DUPLICATES, (run,)))

    def total(what: str) -> tuple[int, int, int]:
        return totals.get(what, (0, 0, 0))

    return Statistics(
        run=run,
        cursor=cursor(run, connection),
        states={state: count for state in State if (count := total(state)[0])},
        spooled_bytes=sum(total(state)[1] for state in SPOOLED),
        stored_bytes=sum(total(state)[1] for state in STORED),
        uploaded_bytes=total("FileReady")[1],
        jobs_created=total("JobAdopted")[0],
        duplicates_healed=sum(count for state, count in duplicate_jobs.items() if state != DuplicateState.SEEN),
        duplicates_live=duplicate_jobs.get(DuplicateState.CANCELLING, 0),
        retried=total("again")[2],
        lost=total("ResultLost")[2],
        tally=Tally(**{name: sums.get(name, 0) for name in TALLIED}),
        merged=published(run, connection) is not None,
    )


def key(row: ShardRow) -> Key:
    return row.run, row.shard, row.generation


def _column(query: str, run: str, connection: Connection) -> str | None:
    row = connection.execute(query, (run,)).fetchone()
    if row is None:
        raise errors.unknown_run(run)
    value: str | None = row[0]
    return value


def _set(statement: str, run: str, value: str, connection: Connection) -> None:
    if connection.execute(statement, (value, run)).rowcount != 1:
        raise errors.unknown_run(run)


def _take(found: Key, connection: Connection) -> ShardRow:
    connection.execute(CLAIM, found)
    return codec.rows(connection.execute(SELECT_JOB, found))[0]


def _save_session(row: ShardRow, connection: Connection) -> None:
    if row.upload is None:
        connection.execute(DROP_SESSION, key(row))
    else:
        connection.execute(SAVE_SESSION, (*key(row), to_json(row.upload)))
