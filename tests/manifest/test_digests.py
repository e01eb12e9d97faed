"""Rows that decide carry a digest, because SQLite does not notice a value that has changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain._errors import ManifestDamaged
from packtrain._manifest import queries
from packtrain._manifest.database import open_database
from packtrain._manifest.digests import COLUMNS
from packtrain._manifest.sqlite import open_sqlite
from packtrain._model import DuplicateJob, DuplicateState, SourceIdentity, State
from packtrain.testing.lives import RUN, claimed, live, sealed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "manifest.db"


#: A value of each table that decides, changed as a disk may change it.
CHANGES = {
    "runs": "UPDATE runs SET cursor = replace(cursor, '2', '3')",
    "shards": "UPDATE shards SET lines = 11",
    "jobs": "UPDATE jobs SET state = 'sealed' WHERE state = 'submitted'",
    "jobs, another file": "UPDATE jobs SET file = 'files/other' WHERE shard = 0",
    "sessions": "UPDATE sessions SET upload = replace(upload, '1', '2')",
    "events": "UPDATE events SET event = 'CreateIntendee' WHERE number = 4",
    "sources": "UPDATE sources SET size = 8",
    "duplicate_jobs": "UPDATE duplicate_jobs SET state = 'ended'",
    "totals": "UPDATE totals SET count = 0 WHERE what = 'submitted'",
    "sums of answers": "INSERT INTO tallies SELECT id, 'answered', 5 FROM runs",
    "events 6 are there": "DELETE FROM events WHERE number = 3",
    "identity": "UPDATE meta SET identity = '?'",
}


@pytest.mark.parametrize("table", CHANGES)
async def test_a_value_that_changed_in_its_page_is_refused(path: Path, table: str) -> None:
    """SQLite does not notice it; the start does, before anything is sent (B12)."""
    async with open_sqlite(path) as manifest:
        await manifest.open_run(RUN)
        await manifest.keep_sources(RUN.id, [SourceIdentity("in.jsonl", 7, 7)])
        await sealed(manifest, 2)
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        await live(manifest, await claimed(manifest), State.UPLOADING)
        await manifest.note(RUN.id, DuplicateJob(job="j", shard=0, attempt=1, state=DuplicateState.SEEN))
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(CHANGES[table]).rowcount > 0
    with pytest.raises(ManifestDamaged, match=table.split(",")[0]):
        async with open_sqlite(path):
            pass


def test_a_value_that_changes_under_a_driver_is_refused_when_it_is_read(path: Path) -> None:
    """Not only at a start."""

    async def begin() -> None:
        async with open_sqlite(path) as manifest:
            await sealed(manifest, 1)

    anyio.run(begin)
    with open_database(path) as connection:
        connection.execute("UPDATE jobs SET state = 'submitted'")
        with pytest.raises(ManifestDamaged, match="a row of jobs is not as it was written"):
            queries.rows(RUN.id, None, None, connection)


def test_every_column_that_decides_is_covered(path: Path) -> None:
    """A new column must be added to the digest, or be named here."""
    left_out = {"digest", "owner", "fence", "due", "number"}
    with open_database(path) as connection:
        for table, covered in COLUMNS.items():
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            assert columns - left_out == set(covered) - left_out, table
