"""A state directory of the release before goes on: schema 5 is migrated whole, or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from packtrain._errors import ManifestDamaged
from packtrain._manifest.base import Change
from packtrain._manifest.database import open_database
from packtrain._manifest.sqlite import open_sqlite
from packtrain._manifest.statements import migrations
from packtrain._model import Cursor, DuplicateJob, DuplicateState, Shard, State, Tally, Upload
from packtrain._rules.lifecycle import Closed, Landed
from packtrain.testing.lives import RUN, SECRET

if TYPE_CHECKING:
    from pathlib import Path

#: State then, state now.
STATES = {state.value: state.value for state in State} | {"fence_intent": "revoke_intent", "fenced": "revoked"}
#: Event then, event now.
EVENTS = {
    "FileSpoiled": "FileUnusable",
    "CreateWithdrawn": "CreateDeferred",
    "CreateRefused": "CreateRejected",
    "CreateDoubtful": "CreateAmbiguous",
    "Suspected": "CreateSuspected",
    "JobKnown": "JobAdopted",
    "FenceIntended": "RevokeIntended",
    "Fenced": "Revoked",
    "Readopted": "JobKept",
    **{name: name for name in ("UploadIntended", "FileReady", "RetryDecided", "DropDecided", "ResultLost", "Landed")},
}
OLD_STATES = [state for state in STATES if state not in ("revoke_intent", "revoked")]
DETAIL = '{"batch":"batches/\\"batch\\":1","doubtful_at":3.5,"not_before":4.5,"reason":"r"}'
NOW_DETAIL = '{"job":"batches/\\"batch\\":1","ambiguous_at":3.5,"due":4.5,"reason":"r"}'
TALLY = Tally(answered=6, failed=4, missing=1, again=4, bytes=60, sha256="cd" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A manifest of schema 5: a shard in each state, shard 0 with a second generation, every event, an extra job."""
    path = tmp_path / "state" / "manifest.db"
    path.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        for script in migrations()[:5]:
            old.executescript(script)
        old.execute("PRAGMA user_version = 5")
        run = (RUN.id, RUN.token, RUN.fingerprint, RUN.model, RUN.task, msgspec.json.encode(RUN.limits).decode())
        cursor = msgspec.json.encode(Cursor(shards=len(OLD_STATES), valid=10 * len(OLD_STATES), done=True)).decode()
        old.execute("INSERT INTO runs VALUES (1, ?, ?, ?, ?, ?, ?, 1, ?, NULL, 0)", (*run, cursor))
        old.execute('UPDATE meta SET key_mark = \'{"salt":"s","digest":"d","place":"p"}\'')
        for index, state in enumerate(OLD_STATES):
            _insert_shard(old, index, 0, state)
        _insert_shard(old, 0, 1, "ended")
        landed = msgspec.json.encode(TALLY).decode()
        old.execute("UPDATE jobs SET tally = ? WHERE shard = 0 AND generation = 0", (landed,))
        old.execute(
            "INSERT INTO sessions VALUES (?, 1, 0, ?)", (RUN.id, f'{{"size":7,"url":"{SECRET}","doubtful":true}}')
        )
        for event in EVENTS:
            values = (RUN.id, event, DETAIL)
            old.execute("INSERT INTO events VALUES (NULL, ?, 2, 0, 1.5, 1, ?, 'fence_intent', 'fenced', ?)", values)
        old.execute("INSERT INTO extras VALUES (?, 'batches/x', 3, 0, 2, 'cancelling')", (RUN.id,))
    return path


def _insert_shard(old: sqlite3.Connection, index: int, generation: int, state: str) -> None:
    parent = index if generation else None
    shard = (RUN.id, index, generation, parent, 1000, 4 if generation else 10, "ab" * 32, index * 10, index * 10 + 9)
    old.execute("INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", shard)
    name = f"{index}.{generation}"
    job = (RUN.id, index, generation, state, 5.5, f"files/{name}", f"tag.{name}", f"batches/{name}")
    old.execute(
        "INSERT INTO jobs (run, shard, generation, state, attempt, fence, claimed, not_before, file, tag, batch, "
        "intent_at, doubtful_at) VALUES (?, ?, ?, ?, 2, 7, 1, ?, ?, ?, ?, 8.5, 9.5)",
        job,
    )


async def test_a_manifest_of_the_release_before_goes_on(path: Path) -> None:
    """Rows, events with their details, duplicate jobs, totals and the fingerprint are what they were, in new words."""
    async with open_sqlite(path) as manifest:
        assert await manifest.open_run(RUN) == RUN
        rows = await manifest.rows(RUN.id)
        first = {row.shard: row for row in rows if not row.generation}
        assert [first[index].state for index in range(len(OLD_STATES))] == [STATES[state] for state in OLD_STATES]
        row = first[5]
        assert (row.attempt, row.due, row.file, row.tag, row.job) == (2, 5.5, "files/5.0", "tag.5.0", "batches/5.0")
        assert (row.intent_at, row.ambiguous_at, row.owner, row.epoch, row.version) == (8.5, 9.5, None, 0, 0)
        assert (first[2].version, first[0].tally) == (len(EVENTS), TALLY)
        assert first[1].upload == Upload(size=7, session=SECRET, offset_unknown=True)
        assert [(entry.event, entry.before, entry.after, entry.detail) for entry in await manifest.history(RUN.id)] == [
            (event, "revoke_intent", "revoked", NOW_DETAIL) for event in EVENTS.values()
        ]
        assert await manifest.duplicate_jobs(RUN.id) == [
            DuplicateJob(job="batches/x", shard=3, attempt=2, state=DuplicateState.CANCELLING)
        ]
        credential = await manifest.credential()
        assert credential is not None
        assert credential.place == "p"


async def test_generations_of_the_release_before_are_a_chain(path: Path) -> None:
    """The second generation is the child of the first, for a retry, and takes its place when it lands."""
    async with open_sqlite(path) as manifest:
        root, child = await manifest.rows(RUN.id, shard=0)
        assert (root.parent, root.cause, root.depth) == (None, None, 0)
        assert (child.parent, child.cause, child.depth) == (0, "retry", 1)
        shard = await manifest.shard(child)
        assert isinstance(shard, Shard)
        assert (shard.parent, shard.cause, shard.depth, shard.lines) == (0, "retry", 1, 4)
        before = await manifest.statistics(RUN.id)
        assert (before.tally, before.retried) == (msgspec.structs.replace(TALLY, sha256=""), 4)
        assert (before.uploaded_bytes, before.jobs_created, before.lost) == (1000, 1, 10)
        assert before.states == {State(STATES[state]): 1 + (state == "ended") for state in OLD_STATES}
        row = await manifest.write(Change(child, Landed(tally=Tally(answered=9, failed=1, bytes=90))))
        await manifest.write(Change(row, Closed()))
        after = await manifest.statistics(RUN.id)
    assert after.tally == Tally(answered=9, failed=1, bytes=90)
    assert after.states == before.states | {State.ENDED: 1, State.CLOSED: 2}


async def test_claims_of_the_release_before_are_void(path: Path) -> None:
    """A row that was claimed when its driver went is free, and its fencing token never decreases."""
    async with open_sqlite(path) as manifest:
        rows = await manifest.claim(RUN.id, set(State), limit=99)
    assert len(rows) == len(OLD_STATES) + 1
    assert {row.fence for row in rows} == {8}


def test_a_row_that_belongs_to_nothing_stops_the_migration(path: Path) -> None:
    """The file is refused as damaged, and stays as it was."""
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("DELETE FROM jobs WHERE shard = 2")
    with pytest.raises(ManifestDamaged, match="belongs to none"), open_database(path):
        pass
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (5,)
        assert old.execute("SELECT count(*) FROM extras").fetchone() == (1,)


def test_a_new_manifest_has_the_schema_of_a_migrated_one(path: Path, tmp_path: Path) -> None:
    """Column for column, trigger for trigger."""
    schemas = []
    for each in (path, tmp_path / "fresh" / "manifest.db"):
        with open_database(each) as database:
            schemas.append(database.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall())
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert schemas[0] == schemas[1]
