"""Checks of a database that opens: of its pages, its rows, and the sums that are kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model import Shard
from .._rules.generations import covered, total
from . import codec, queries
from .digests import find_changed
from .statements import STATEMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection


def flaws(connection: Connection) -> Iterator[str]:
    """What is wrong: damaged pages and indexes, references that lead nowhere, rows that have changed, and sums that are
    not those of their rows.

    To be read as far as it is needed: each check supposes that those before it found nothing.
    """
    verdicts = [row[0] for row in connection.execute("PRAGMA integrity_check(100)")]
    yield from (verdict.splitlines()[-1] for verdict in verdicts if verdict != "ok")
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        yield f"a row of {table} belongs to none of {parent}"
    if changed := find_changed(connection):
        yield changed
    if (missing := _events(connection)) is not None:
        yield missing
    for run in queries.runs(connection):
        yield from _sums(run.id, connection)


def _events(connection: Connection) -> str | None:
    """Events are numbered without a gap, and each row counts its own."""
    last, count, counted = connection.execute(STATEMENTS["count_events"]).fetchone()
    return None if last == count == counted else f"of {max(last, counted)} events {count} are there"


def _sums(run: str, connection: Connection) -> Iterator[str]:
    kept = {what: sums for what, *sums in connection.execute(STATEMENTS["totals"], (run,)) if any(sums)}
    if kept != {what: sums for what, *sums in connection.execute(STATEMENTS["count_totals"], {"run": run})}:
        yield f"the totals of run {run!r} are not those of its rows"
    rows, tallies = queries.rows(run, None, None, connection), dict(connection.execute(STATEMENTS["tallies"], (run,)))
    shards = codec.structs(connection.execute(STATEMENTS["shards"], (run,)), Shard, "shards")
    sums = total(rows, covered(shards))
    if any(tallies.get(name, 0) != getattr(sums, name) for name in queries.TALLIED):
        yield f"the sums of answers of run {run!r} are not those of its rows"
