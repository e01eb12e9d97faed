"""The operations on the database, each within a transaction of the caller; the SQL is in ``sql/queries.sql``."""

from __future__ import annotations

from functools import lru_cache
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
    Lease,
    ListPass,
    Quota,
    Reservation,
    Run,
    Shard,
    ShardRow,
    SourceIdentity,
    State,
    Statistics,
    Tally,
)
from .._options import LONGEST_WAIT
from .._rules.lifecycle import SPOOLED, STORED, TABLE, CreateSuspected, Event
from .._rules.submission import suspicion
from . import codec, digests, errors
from .base import Change, Child, Outcome
from .codec import Value, from_json, to_json
from .statements import STATEMENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Key = tuple[str, int, int]

#: The node of the process that holds the file: its lease is the lock.
OWN = 0
TALLIED = tuple(name for name in Tally.__struct_fields__ if name not in ("sha256", "lists"))
_SQL = STATEMENTS


def instance(connection: Connection) -> str:
    name: str = connection.execute(_SQL["instance"]).fetchone()[0]
    return name


def last_event(connection: Connection) -> int:
    number: int = connection.execute(_SQL["last_event"]).fetchone()[0]
    return number


def identity(connection: Connection) -> str | None:
    text: str | None = connection.execute(_SQL["identity"]).fetchone()[0]
    return text


def set_identity(text: str, connection: Connection) -> None:
    connection.execute(_SQL["set_identity"], (text,))


def credential(connection: Connection) -> Credential | None:
    text = connection.execute(_SQL["credential"]).fetchone()[0]
    return None if text is None else from_json(text, codec.CREDENTIAL)


def set_credential(credential: Credential, connection: Connection) -> None:
    connection.execute(_SQL["set_credential"], (to_json(credential),))


def leave_instance(successor: str, now: float, connection: Connection) -> None:
    """Go on as another manifest: of any key, and in doubt about every shard that is still to be sealed."""
    connection.execute(_SQL["insert_ancestor"], (now,))
    connection.execute(_SQL["leave_instance"], (successor,))
    connection.execute(_SQL["doubt_runs"])


def doubt_unsent(now: float, connection: Connection) -> None:
    """Put every shard of which no create is known in doubt."""
    for run in runs(connection):
        for row in rows(run.id, TABLE[CreateSuspected][0], None, connection):
            event = suspicion(run.token, shard(row, connection), max(row.attempt, 1), now)
            write(Change(row, event), OWN, now, connection)


def open_run(run: Run, connection: Connection) -> Run:
    stored = find_run(run.id, connection)
    if stored is None:
        try:
            connection.execute(_SQL["insert_run"], codec.run_values(run))
        except IntegrityError as error:
            raise errors.token_taken(run.id) from error
        return run
    if stored.fingerprint != run.fingerprint:
        raise errors.other_fingerprint(stored, run, rows(run.id, None, None, connection))
    return stored


def find_run(run: str, connection: Connection) -> Run | None:
    return next(iter(codec.runs(connection.execute(_SQL["runs"], (run,)))), None)


def runs(connection: Connection) -> list[Run]:
    return codec.runs(connection.execute(_SQL["runs"], (None,)))


def cursor(run: str, connection: Connection) -> Cursor:
    return from_json(_column("cursor", run, connection) or "", codec.CURSOR)


def published(run: str, connection: Connection) -> str | None:
    return _column("published", run, connection)


def move(run: str, to: Cursor, connection: Connection) -> None:
    _set("set_cursor", run, to_json(to), connection)


def publish(run: str, sha256: str | None, connection: Connection) -> None:
    _set("set_published", run, sha256, connection)


def reopen(run: str, children: Sequence[Child], now: float, connection: Connection) -> None:
    if published(run, connection) is None:
        raise errors.not_published(run)
    publish(run, None, connection)
    for child in children:
        enter(child, OWN, now, connection)


def keep_sources(run: str, sources: Sequence[SourceIdentity], connection: Connection) -> list[SourceIdentity]:
    if cursor(run, connection).shards:
        stored = connection.execute(_SQL["sources"], (run,)).fetchall()
        for number, (*_, sound) in enumerate(stored):
            digests.refuse_changed("sources", sound, run, number)
        return [SourceIdentity(fsdecode(name), size, mtime_ns) for name, size, mtime_ns, _ in stored]
    values = [
        {"run": run, "position": at, "name": fsencode(source.name), "size": source.size, "mtime_ns": source.mtime_ns}
        for at, source in enumerate(sources)
    ]
    connection.execute(_SQL["delete_sources"], (run,))
    connection.executemany(_SQL["insert_source"], values)
    return list(sources)


def seal(shard: Shard, reached: Cursor, events: tuple[Event, ...], now: float, connection: Connection) -> None:
    move(shard.run, reached, connection)
    enter(Child(shard, events), OWN, now, connection)


def enter(child: Child, node: int, now: float, connection: Connection) -> None:
    shard = child.shard
    values = msgspec.structs.asdict(shard) | {"state": State.SEALED.value}
    if connection.execute(_SQL["insert_shard"], values).rowcount != 1:
        raise errors.sealed_already(shard)
    connection.execute(_SQL["insert_job"], values)
    row = ShardRow(run=shard.run, shard=shard.index, generation=shard.generation)
    for event in child.events:
        row, _ = write(Change(row, event), node, now, connection)


def shard(row: ShardRow, connection: Connection) -> Shard:
    found = codec.structs(connection.execute(_SQL["shard"], key(row)), Shard, "shards")
    if not found:
        raise errors.unknown_shard(row)
    return found[0]


def rows(run: str, states: Collection[State] | None, shard: int | None, connection: Connection) -> list[ShardRow]:
    if shard is not None:
        found = codec.rows(connection.execute(_SQL["rows_of_shard"], (run, shard)))
        return [row for row in found if states is None or row.state in states]
    if states is None:
        return codec.rows(connection.execute(_SQL["rows"], (run,)))
    names = msgspec.json.encode(list(states)).decode()
    return codec.rows(connection.execute(_SQL["rows_in"], (run, names)))


def claim(
    run: str, states: Collection[State], now: float, limit: int, node: int, connection: Connection
) -> list[ShardRow]:
    if node != OWN and connection.execute(_SQL["node"], (node,)).fetchone() is None:
        raise errors.lease_lost(node)
    due: list[Key] = []
    for state in frozenset(states):
        # State by state, so that each look is a short walk along the index.
        due += connection.execute(_SQL["due"], (run, state.value, now, now + LONGEST_WAIT, limit)).fetchall()
    return [_take(found, node, connection) for found in sorted(due)[:limit]]


def write(change: Change, node: int, now: float, connection: Connection) -> tuple[ShardRow, int]:
    """Apply a change as ``node``, or as the owner that its row names. Returns the row, and the number of the event."""
    change = change.stamped(now)
    after, row = change.applied(now), change.row
    node = node if row.owner is None else row.owner
    for duplicate in change.duplicate_jobs:
        note(row.run, duplicate, connection)
    for child in change.children:
        enter(child, node, now, connection)
    if change.event is None:
        _release(change, after, node, connection)
        number = 0
    else:
        number = _record(change, change.event, after, node, now, connection)
    if change.free:
        connection.execute(_SQL["free"], _place(row))
    for reservation in change.reserve:
        _reserve(row, reservation, connection)
    return after, number


def _record(change: Change, event: Event, after: ShardRow, node: int, now: float, connection: Connection) -> int:
    row = change.row
    values = codec.event_values(row, after, event, node, now)
    statement = _recording(type(event), change.release, change.wait is not None)
    try:
        changed = connection.execute(statement, values).rowcount
    except IntegrityError as error:
        raise errors.name_taken(after) from error
    if changed != 1:
        raise errors.stale(row)
    number = connection.execute(_SQL["insert_event"], values).lastrowid
    if after.upload is not row.upload:
        _save_session(after, connection)
    return number or 0


@lru_cache
def _recording(kind: type[Event], release: bool, waits: bool) -> str:
    """The statement that sets what an event sets, and so leaves the other columns and their indexes alone."""
    columns = {name: f":{name}" for name in ("state", *kind.__struct_fields__) if name != "upload"}
    if release:
        columns["owner"] = "NULL"
    if waits:
        columns["due"] = ":due"
    covered = {name: value for name, value in columns.items() if name in digests.COLUMNS["jobs"]}
    return _SQL["write"].format(
        columns=", ".join(f"{name} = {value}" for name, value in columns.items()),
        digest=digests.digest_of("jobs", **covered, version="version + 1"),
    )


def _release(change: Change, after: ShardRow, node: int, connection: Connection) -> None:
    due = None if change.wait is None else after.due
    values = codec.guard_values(change.row, node) | {"due": due, "release": change.release}
    if connection.execute(_SQL["release"], values).rowcount != 1:
        raise errors.claim_lost(change.row)


def _reserve(row: ShardRow, reservation: Reservation, connection: Connection) -> None:
    values = _place(row) | msgspec.structs.asdict(reservation)
    if connection.execute(_SQL["reserve"], values).rowcount == 1:
        return
    found = connection.execute(_SQL["quota"], (reservation.service, reservation.what))
    quota = next(iter(codec.structs(found, Quota)), None)
    if quota is None:
        raise errors.unknown_quota(reservation)
    raise errors.quota_full(quota, reservation.amount)


def outcome(change: Change, connection: Connection) -> Outcome:
    row = change.row
    stored = next(iter(codec.rows(connection.execute(_SQL["row"], key(row)))), None)
    if stored is None or change.event is None:
        released = stored is not None and (stored.fence, stored.owner) == (row.fence, None)
        return Outcome.WRITTEN if released else Outcome.NOT_WRITTEN
    event = connection.execute(_SQL["event_of_version"], (*key(row), row.version)).fetchone()
    written = event == (change.name, row.state.value, row.fence)
    return Outcome.WRITTEN if written else Outcome.NOT_WRITTEN


def note(run: str, duplicate: DuplicateJob, connection: Connection) -> None:
    _require_run(run, connection)
    values = msgspec.structs.asdict(duplicate) | {"run": run, "state": duplicate.state.value}
    connection.execute(_SQL["note_duplicate"], values)


def duplicate_jobs(run: str, connection: Connection) -> list[DuplicateJob]:
    return codec.structs(connection.execute(_SQL["duplicate_jobs"], (run,)), DuplicateJob, "duplicate_jobs")


def history(run: str, shard: int | None, connection: Connection) -> list[Entry]:
    return codec.structs(connection.execute(_SQL["history"], (run, shard)), Entry, "events")


def statistics(run: str, connection: Connection) -> Statistics:
    totals = {what: (count, size, lines) for what, count, size, lines in connection.execute(_SQL["totals"], (run,))}
    sums = dict(connection.execute(_SQL["tallies"], (run,)))
    counted = connection.execute(_SQL["count_duplicates"], (run,))
    duplicates = {state: (count, lines) for state, count, lines in counted if state != DuplicateState.SEEN}

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
        duplicates_healed=sum(count for count, _ in duplicates.values()),
        duplicates_live=duplicates.get(DuplicateState.CANCELLING, (0, 0))[0],
        duplicates_lines=sum(lines for _, lines in duplicates.values()),
        retried=total("again")[2],
        lost=total("ResultLost")[2],
        tally=Tally(**{name: sums.get(name, 0) for name in TALLIED}),
        merged=published(run, connection) is not None,
    )


def lease(seconds: float, node: int | None, name: str, now: float, connection: Connection) -> Lease:
    until = now + seconds
    if node is None:
        node = connection.execute(_SQL["insert_node"], (name, now, until)).lastrowid
        return Lease(node=node or OWN, until=until)
    if connection.execute(_SQL["extend_lease"], (until, node)).rowcount != 1:
        raise errors.lease_lost(node)
    return Lease(node=node, until=until)


def take_over(now: float, connection: Connection) -> int:
    if connection.execute(_SQL["bury_nodes"], {"now": now}).rowcount == 0:
        return 0
    return connection.execute(_SQL["take_over"]).rowcount


def void_claims(now: float, connection: Connection) -> None:
    """Free whatever an earlier handle, and the nodes of its time, have claimed."""
    connection.execute(_SQL["void_leases"], (now,))
    connection.execute(_SQL["void_claims"])


def note_pass(run: str, done: ListPass, connection: Connection) -> None:
    _require_run(run, connection)
    connection.execute(_SQL["insert_pass"], msgspec.structs.asdict(done) | {"run": run})


def passes(run: str, since: float, connection: Connection) -> list[ListPass]:
    return codec.flagged(connection.execute(_SQL["passes"], (run, since)), ListPass, "valid")


def set_quota(service: str, what: str, most: int, connection: Connection) -> None:
    connection.execute(_SQL["set_quota"], (service, what, most))


def quotas(service: str, connection: Connection) -> list[Quota]:
    return codec.structs(connection.execute(_SQL["quotas"], (service,)), Quota)


def key(row: ShardRow) -> Key:
    return row.run, row.shard, row.generation


def _place(row: ShardRow) -> dict[str, Value]:
    return {"run": row.run, "shard": row.shard, "generation": row.generation}


def _require_run(run: str, connection: Connection) -> None:
    if find_run(run, connection) is None:
        raise errors.unknown_run(run)


def _column(statement: str, run: str, connection: Connection) -> str | None:
    row = connection.execute(_SQL[statement], (run,)).fetchone()
    if row is None:
        raise errors.unknown_run(run)
    value, sound = row
    digests.refuse_changed("runs", sound, run)
    column: str | None = value
    return column


def _set(statement: str, run: str, value: str | None, connection: Connection) -> None:
    if connection.execute(_SQL[statement], {"value": value, "run": run}).rowcount != 1:
        raise errors.unknown_run(run)


def _take(found: Key, node: int, connection: Connection) -> ShardRow:
    connection.execute(_SQL["claim"], (node, *found))
    return codec.rows(connection.execute(_SQL["row"], found))[0]


def _save_session(row: ShardRow, connection: Connection) -> None:
    if row.upload is None:
        connection.execute(_SQL["drop_session"], key(row))
    else:
        connection.execute(_SQL["save_session"], _place(row) | {"upload": to_json(row.upload)})
