"""The operations on the database, each within a transaction of the caller. SQL by parameters only."""

from __future__ import annotations

from os import fsdecode, fsencode
from sqlite3 import Connection, IntegrityError
from typing import TYPE_CHECKING

import msgspec

from .._model import Cursor, Entry, Extra, ExtraState, Job, KeyMark, Run, Shard, SourceMark, State, Statistics, Tally
from .._options import LONGEST_WAIT
from .._rules.forgotten import suspicion
from .._rules.lifecycle import SPOOLED, STORED, TABLE, Event, Suspected, advance
from . import refusals, rows
from .rows import from_json, to_json

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
WHERE run = ?1 AND state = ?2 AND claimed = 0 AND NOT (not_before > ?3 AND not_before <= ?4)
ORDER BY shard, generation LIMIT ?5
"""
CLAIM = "UPDATE jobs SET claimed = 1, fence = fence + 1 WHERE run = ? AND shard = ? AND generation = ?"
RECORD = """
UPDATE jobs SET {columns} WHERE run = :run AND shard = :shard AND generation = :generation
    AND state = :before AND attempt = :attempt_before AND fence = :fence
"""
RELEASE = """
UPDATE jobs SET claimed = 0, not_before = ifnull(:due, not_before)
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
NOTE_EXTRA = """
INSERT INTO extras (run, batch, shard, generation, attempt, state)
VALUES (:run, :batch, :shard, :generation, :attempt, :state) ON CONFLICT DO UPDATE SET state = excluded.state
"""
SELECT_EXTRAS = """
SELECT batch, shard, generation, attempt, state FROM extras
WHERE run = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.batch = extras.batch) ORDER BY shard, generation, batch
"""
COUNT_EXTRAS = f"SELECT state, count(*) FROM ({SELECT_EXTRAS}) GROUP BY state"  # noqa: S608 - a statement of ours
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


def key_mark(connection: Connection) -> KeyMark | None:
    text = connection.execute("SELECT key_mark FROM meta").fetchone()[0]
    return None if text is None else from_json(text, rows.KEY_MARK)


def mark_key(mark: KeyMark, connection: Connection) -> None:
    connection.execute("UPDATE meta SET key_mark = ?", (to_json(mark),))


def leave_instance(successor: str, at: float, connection: Connection) -> None:
    """Go on as another manifest: of any key, and in doubt about every shard that is still to be sealed."""
    connection.execute("INSERT INTO ancestors (instance, left_at) SELECT instance, ? FROM meta", (at,))
    connection.execute("UPDATE meta SET instance = ?, key_mark = NULL", (successor,))
    connection.execute("UPDATE runs SET recovered = 1")


def doubt_unsent(at: float, connection: Connection) -> None:
    """Put every shard of which no create is known in doubt."""
    for run in runs(connection):
        for job in jobs(run.id, TABLE[Suspected][0], connection):
            event = suspicion(run.token, shard(job, connection), max(job.attempt, 1), at)
            record(job, advance(job, event), event, at, connection)


def open_run(run: Run, connection: Connection) -> Run:
    stored = find_run(run.id, connection)
    if stored is None:
        try:
            connection.execute(INSERT_RUN, rows.run_values(run))
        except IntegrityError as error:
            raise refusals.token_taken(run.id) from error
        return run
    if stored.fingerprint != run.fingerprint:
        raise refusals.other_fingerprint(stored, run, jobs(run.id, None, connection))
    return stored


def find_run(run: str, connection: Connection) -> Run | None:
    return next(iter(rows.runs(connection.execute(SELECT_RUNS, (run,)))), None)


def runs(connection: Connection) -> list[Run]:
    return rows.runs(connection.execute(SELECT_RUNS, (None,)))


def cursor(run: str, connection: Connection) -> Cursor:
    return from_json(_column("SELECT cursor FROM runs WHERE id = ?", run, connection) or "", rows.CURSOR)


def published(run: str, connection: Connection) -> str | None:
    return _column("SELECT sha256 FROM runs WHERE id = ?", run, connection)


def move(run: str, to: Cursor, connection: Connection) -> None:
    _set("UPDATE runs SET cursor = ? WHERE id = ?", run, to_json(to), connection)


def publish(run: str, sha256: str, connection: Connection) -> None:
    _set("UPDATE runs SET sha256 = ? WHERE id = ?", run, sha256, connection)


def reopen(run: str, children: Sequence[tuple[Shard, Sequence[Event]]], at: float, connection: Connection) -> None:
    if published(run, connection) is None:
        raise refusals.not_published(run)
    connection.execute("UPDATE runs SET sha256 = NULL WHERE id = ?", (run,))
    for child, events in children:
        enter(child, events, at, connection)


def mark_sources(run: str, marks: Sequence[SourceMark], connection: Connection) -> list[SourceMark]:
    if cursor(run, connection).shards:
        stored = connection.execute(SELECT_SOURCES, (run,)).fetchall()
        return [SourceMark(fsdecode(name), size, mtime_ns) for name, size, mtime_ns in stored]
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
        raise refusals.sealed_already(shard)
    connection.execute(INSERT_JOB, values)
    job = Job(run=shard.run, shard=shard.index, generation=shard.generation)
    for event in events:
        after = advance(job, event)
        record(job, after, event, at, connection)
        job = after


def shard(job: Job, connection: Connection) -> Shard:
    found = rows.structs(connection.execute(SELECT_SHARD, key(job)), Shard)
    if not found:
        raise refusals.unknown_shard(job)
    return found[0]


def jobs(run: str, states: Collection[State] | None, connection: Connection) -> list[Job]:
    if states is None:
        return rows.jobs(connection.execute(SELECT_JOBS, (run,)))
    names = msgspec.json.encode(list(states)).decode()
    return rows.jobs(connection.execute(SELECT_JOBS_IN, (run, names)))


def claim(run: str, states: Collection[State], now: float, limit: int, connection: Connection) -> list[Job]:
    due: list[Key] = []
    for state in frozenset(states):
        # State by state, so that each look is a short walk along the index.
        due += connection.execute(SELECT_DUE, (run, state.value, now, now + LONGEST_WAIT, limit)).fetchall()
    return [_take(found, connection) for found in sorted(due)[:limit]]


def record(job: Job, after: Job, event: Event, at: float, connection: Connection) -> int:
    """The number of the event."""
    values = rows.event_values(job, after, event)
    try:
        changed = connection.execute(RECORDS[type(event)], values).rowcount
    except IntegrityError as error:
        raise refusals.name_taken(after) from error
    if changed != 1:
        raise refusals.stale(job)
    number = connection.execute(INSERT_EVENT, values | {"at": at}).lastrowid
    if after.upload is not job.upload:
        _save_session(after, connection)
    return number or 0


def decide(job: Job, after: Job, event: Event, extras: Sequence[Extra], at: float, connection: Connection) -> int:
    """As ``record``, with what it makes of jobs too many."""
    for extra in extras:
        note(job.run, extra, connection)
    return record(job, after, event, at, connection)


def hand_on(
    job: Job,
    after: Job,
    event: Event,
    child: Shard,
    events: Sequence[Event],
    extras: Sequence[Extra],
    at: float,
    connection: Connection,
) -> int:
    """As ``decide``, with the next generation of the shard."""
    enter(child, events, at, connection)
    return decide(job, after, event, extras, at, connection)


def release(job: Job, not_before: float | None, connection: Connection) -> None:
    if connection.execute(RELEASE, rows.guard_values(job) | {"due": not_before}).rowcount != 1:
        raise refusals.claim_lost(job)


def note(run: str, extra: Extra, connection: Connection) -> None:
    if find_run(run, connection) is None:
        raise refusals.unknown_run(run)
    connection.execute(NOTE_EXTRA, msgspec.structs.asdict(extra) | {"run": run, "state": extra.state.value})


def extras(run: str, connection: Connection) -> list[Extra]:
    return rows.structs(connection.execute(SELECT_EXTRAS, (run,)), Extra)


def history(run: str, shard: int | None, connection: Connection) -> list[Entry]:
    return rows.structs(connection.execute(SELECT_EVENTS, (run, shard)), Entry)


def statistics(run: str, connection: Connection) -> Statistics:
    totals = {what: (count, size, lines) for what, count, size, lines in connection.execute(SELECT_TOTALS, (run,))}
    sums = dict(connection.execute(SELECT_TALLIES, (run,)))
    extras = dict(connection.execute(COUNT_EXTRAS, (run,)))

    def total(what: str) -> tuple[int, int, int]:
        return totals.get(what, (0, 0, 0))

    return Statistics(
        run=run,
        cursor=cursor(run, connection),
        states={state: count for state in State if (count := total(state)[0])},
        spooled_bytes=sum(total(state)[1] for state in SPOOLED),
        stored_bytes=sum(total(state)[1] for state in STORED),
        uploaded_bytes=total("FileReady")[1],
        jobs_created=total("JobKnown")[0],
        duplicates_healed=sum(count for state, count in extras.items() if state != ExtraState.SEEN),
        duplicates_live=extras.get(ExtraState.CANCELLING, 0),
        retried=total("again")[2],
        lost=total("ResultLost")[2],
        tally=Tally(**{name: sums.get(name, 0) for name in TALLIED}),
        merged=published(run, connection) is not None,
    )


def key(job: Job) -> Key:
    return job.run, job.shard, job.generation


def _column(query: str, run: str, connection: Connection) -> str | None:
    row = connection.execute(query, (run,)).fetchone()
    if row is None:
        raise refusals.unknown_run(run)
    value: str | None = row[0]
    return value


def _set(statement: str, run: str, value: str, connection: Connection) -> None:
    if connection.execute(statement, (value, run)).rowcount != 1:
        raise refusals.unknown_run(run)


def _take(found: Key, connection: Connection) -> Job:
    connection.execute(CLAIM, found)
    return rows.jobs(connection.execute(SELECT_JOB, found))[0]


def _save_session(job: Job, connection: Connection) -> None:
    if job.upload is None:
        connection.execute(DROP_SESSION, key(job))
    else:
        connection.execute(SAVE_SESSION, (*key(job), to_json(job.upload)))
