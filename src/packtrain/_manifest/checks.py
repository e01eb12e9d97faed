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
    """All that is wrong: damaged pages and indexes, and what ``row_flaws`` finds.

    To be read as far as it is needed: each check supposes that those before it found nothing.
    """
    yield from page_flaws(connection, 100)
    yield from row_flaws(connection)


def page_flaws(connection: Connection, most: int) -> Iterator[str]:
    """Damaged pages, and indexes that are not those of their tables: a row in no index would never be claimed."""
    verdicts = connection.execute(f"PRAGMA integrity_check({most})").fetchall()
    yield from (verdict.splitlines()[-1] for (verdict,) in verdicts if verdict != "ok")


def row_flaws(connection: Connection) -> Iterator[str]:
    """References that lead nowhere, rows that have changed, and sums that are not those of their rows."""
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
    tallies = dict(connection.execute(STATEMENTS["tallies"], (run,)))
    sums = _tallies(run, connection)
    if any(tallies.get(name, 0) != sums.get(name, 0) for name in queries.TALLIED):
        yield f"the sums of answers of run {run!r} are not those of its rows"


def _tallies(run: str, connection: Connection) -> dict[str, int]:
    """The sums over all tallies; where lines were asked again they are those of trees (see ``generations.total``)."""
    if connection.execute(STATEMENTS["asked_again"], (run,)).fetchone() is None:
        return dict(connection.execute(STATEMENTS["count_tallies"], (run,)))
    shards = codec.structs(connection.execute(STATEMENTS["shards"], (run,)), Shard, "shards")
    sums = total(queries.rows(run, None, None, connection), covered(shards))
    return {name: getattr(sums, name) for name in queries.TALLIED}
