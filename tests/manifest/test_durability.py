"""What a SQLite manifest survives, and what it refuses to start from."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from packtrain._errors import DiskFull, ManifestDamaged, ManifestError, ManifestGone, NewerSchema
from packtrain._manifest import database
from packtrain._manifest.base import Change
from packtrain._manifest.sqlite import open_sqlite
from packtrain._model import Cursor, ShardRow, State
from packtrain._rules import lifecycle
from packtrain.testing.lives import RUN, SECRET, claimed, life, live, sealed, shard
from tests.manifest.meddling import meddled

if TYPE_CHECKING:
    from anyio.abc import Process

pytestmark = pytest.mark.both_loops

RECORDER = Path(__file__).with_name("recorder.py")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "manifest.db"


async def recorder(path: Path, *arguments: str) -> Process:
    command = [sys.executable, str(RECORDER), str(path), *arguments]
    return await anyio.open_process(command, stderr=None)


async def lines(process: Process, at_least: int) -> list[str]:
    """What the recorder printed, whole lines; reading stops once there are enough."""
    assert process.stdout is not None
    text = b""
    async for piece in process.stdout:
        text += piece
        if text.count(b"\n") >= at_least:
            break
    return text.decode().split("\n")[:-1]


async def check_acknowledged(path: Path, printed: list[str]) -> None:
    """Everything that was printed as durable is in the manifest."""
    acknowledged = {line for line in printed if line[0].isdigit()}
    async with open_sqlite(path) as manifest:
        kept = {f"{row.shard} seal" for row in await manifest.rows(RUN.id)}
        history = await manifest.history(RUN.id)
        kept |= {f"{entry.shard} {entry.event}" for entry in history}
        assert acknowledged <= kept
        # Every job is where the last line of its history left it.
        states = Counter({entry.shard: entry.after for entry in history}.values())
        found = (await manifest.statistics(RUN.id)).states
        assert {state: count for state, count in found.items() if state is not State.SEALED} == states


@pytest.mark.parametrize("acks", [1, 40, 400, 1500])
async def test_kill_keeps_what_was_acknowledged(path: Path, acks: int) -> None:
    """After kill -9 in the middle, every record that returned is there, and every row agrees with its history."""
    async with await recorder(path) as process:
        printed = await lines(process, acks)
        process.kill()
    assert len(printed) >= acks
    await check_acknowledged(path, printed)


@pytest.mark.parametrize("limit", [200_000, 600_000])
async def test_full_disk_ends_the_handle(path: Path, limit: int) -> None:
    """When the disk takes no more, callers get the reason; what was acknowledged is there afterwards."""
    async with await recorder(path, str(limit)) as process:
        printed = await lines(process, sys.maxsize)
    assert printed[-1].startswith("error")
    assert "full disk" in printed[-1]
    await check_acknowledged(path, printed)
    async with open_sqlite(path) as manifest:
        index = max(row.shard for row in await manifest.rows(RUN.id)) + 1
        await manifest.seal(shard(index), Cursor(shards=index + 1))


async def test_failed_commit_fails_everybody(path: Path) -> None:
    """A write error in one operation is the end of the handle: its neighbours and all later calls get it too."""

    def full(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {connection.execute('PRAGMA page_count').fetchone()[0]}")
        connection.execute("CREATE TABLE large AS SELECT zeroblob(1000000) AS zeros")

    refused: list[str] = []

    async def expect_refusal() -> None:
        with pytest.raises(DiskFull, match="the disk is full") as caught:
            await manifest.publish(RUN.id, "ab")
        refused.append(str(caught.value))

    async with open_sqlite(path) as manifest:
        await manifest.open_run(RUN)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(expect_refusal)
            with pytest.raises(DiskFull, match="the disk is full"):
                await manifest._run(full)  # type: ignore[attr-defined]  # no verb can be made to fail like this
        await expect_refusal()
    assert len(refused) == 6
    async with open_sqlite(path) as again:
        assert await again.published(RUN.id) is None


async def test_failing_operation_goes_alone(path: Path) -> None:
    """In one group, an operation that is refused does not take its neighbours along."""
    async with open_sqlite(path) as manifest:
        await sealed(manifest, 20)
        rows = await manifest.claim(RUN.id, {State.SEALED}, limit=20)
        refused: list[int] = []

        async def record(index: int) -> None:
            taken = index if index % 2 else 0
            event = lifecycle.CreateIntended(tag="x", intent_at=1.0) if index == 4 else life(taken)[0]
            try:
                await manifest.write(Change(rows[index], event))
            except ManifestError:
                refused.append(index)

        await manifest.write(Change(rows[0], life(0)[0]))
        async with anyio.create_task_group() as tasks:
            for index in range(1, 20):
                tasks.start_soon(record, index)
        uploading = await manifest.rows(RUN.id, {State.UPLOADING})
        assert [row.shard for row in uploading] == [0, *range(1, 20, 2)]
        assert sorted(refused) == list(range(2, 20, 2))
        assert len(await manifest.history(RUN.id)) == len(uploading)


async def test_cancelled_callers_leave_no_doubt(path: Path) -> None:
    """Tasks cancelled while their records wait for the commit still learn the outcome: what is there, they know."""
    known: set[int] = set()

    async with open_sqlite(path) as manifest:
        await sealed(manifest, 50)
        rows = await manifest.claim(RUN.id, {State.SEALED}, limit=50)

        async def record(row: ShardRow) -> None:
            await manifest.write(Change(row, life(row.shard)[0]))
            known.add(row.shard)

        async def cancel(scope: anyio.CancelScope) -> None:
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            for row in rows:
                tasks.start_soon(record, row)
            tasks.start_soon(cancel, tasks.cancel_scope)
        assert {row.shard for row in await manifest.rows(RUN.id, {State.UPLOADING})} == known
        assert known


async def test_closed_handle_refuses(path: Path) -> None:
    """A handle that outlives its block says so instead of waiting for ever."""
    async with open_sqlite(path) as manifest:
        pass
    with pytest.raises(ManifestError, match="closed"):
        await manifest.runs()


async def test_error_in_the_block_passes_through(path: Path) -> None:
    """What the caller's block raises comes out as it is, and the directory is free again."""
    with pytest.raises(KeyError):
        async with open_sqlite(path):
            raise KeyError
    async with open_sqlite(path):
        pass


async def test_only_the_owner_can_read(path: Path) -> None:
    """Whatever the umask: the directory is 0700 and every file in it 0600, the log included."""
    before = os.umask(0)
    try:
        async with open_sqlite(path) as manifest:
            await manifest.open_run(RUN)
            modes = {file.name: file.stat().st_mode & 0o777 for file in [path.parent, *path.parent.iterdir()]}
    finally:
        os.umask(before)
    assert modes.pop("state") == 0o700
    assert set(modes) == {"manifest.db", "manifest.db-wal", "manifest.run", "manifest.witness", "lock"}
    assert set(modes.values()) == {0o600}


async def test_session_is_wiped(path: Path) -> None:
    """Once the file is at the service, no file on disk holds the address of its upload."""
    async with open_sqlite(path) as manifest:
        await sealed(manifest, 1)
        row = await live(manifest, await claimed(manifest), State.UPLOADED)
        assert row.upload is None
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def damage(path: Path, how: str) -> bytes:
    whole = path.read_bytes()
    page = len(whole) // 2 // 4096 * 4096
    path.unlink()
    if how == "foreign":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE something (else_ TEXT)")
        return path.read_bytes()
    broken = {
        "empty": b"",
        "truncated": whole[:page],
        "header": b"\0" * 100 + whole[100:],
        "page": whole[:page] + bytes(255 - byte for byte in whole[page : page + 4096]) + whole[page + 4096 :],
        "text": b"not a database, whatever its name says\n" * 200,
    }[how]
    path.write_bytes(broken)
    return broken


@pytest.mark.parametrize("how", ["empty", "truncated", "header", "page", "text", "foreign"])
async def test_damaged_file_is_refused(path: Path, how: str) -> None:
    """A file that is not whole is refused, never repaired or replaced, and the state directory is to be kept."""
    async with open_sqlite(path) as manifest:
        await sealed(manifest, 200)
    broken = damage(path, how)
    with pytest.raises(ManifestGone if how == "empty" else ManifestDamaged):
        async with open_sqlite(path):
            pass
    assert await anyio.Path(path).read_bytes() == broken


async def test_lost_file_with_its_log_left_is_refused(path: Path) -> None:
    """A log without its database means that the database was lost: a new one would be an empty lie."""
    async with await recorder(path) as process:
        await lines(process, 5)
        process.kill()
    await anyio.Path(path).unlink()
    with pytest.raises(ManifestGone):
        async with open_sqlite(path):
            pass


async def test_unreadable_row_is_refused(path: Path) -> None:
    """A row that makes no sense is an error, not a guess; the handle stays of use."""
    async with open_sqlite(path) as manifest:
        await sealed(manifest, 1)
    with meddled(path) as connection:
        connection.execute('UPDATE jobs SET tally = \'{"answered": "many"}\'')
    async with open_sqlite(path) as manifest:
        with pytest.raises(ManifestDamaged, match="cannot be read"):
            await manifest.rows(RUN.id)
        assert await manifest.find_run(RUN.id) == RUN


async def test_newer_schema_is_refused(path: Path) -> None:
    """What a newer packtrain wrote is left alone."""
    async with open_sqlite(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerSchema, match=r"newer packtrain \(schema 99"):
        async with open_sqlite(path):
            pass


async def test_interrupted_creation_is_made_again(path: Path) -> None:
    """What a crash left of a manifest in the making is not taken for one."""
    path.parent.mkdir(mode=0o700)
    draft = path.with_name("manifest.db.new")
    draft.write_bytes(b"half of a")
    async with open_sqlite(path) as manifest:
        await manifest.open_run(RUN)
    assert not draft.exists()


async def test_open_in_another_program(path: Path) -> None:
    """A program that holds the database without our lock is named as the reason at once."""
    async with open_sqlite(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ManifestError, match="another program has it open"):
            async with open_sqlite(path):
                pass


async def test_settings(path: Path) -> None:
    """Commits are synced, the log is SQLite's WAL, and no second connection gets in."""

    def settings() -> dict[str, object]:
        names = ("journal_mode", "synchronous", "locking_mode", "foreign_keys", "mmap_size", "secure_delete")
        with database.open_database(path) as connection:
            return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await to_thread.run_sync(settings) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "locking_mode": "exclusive",
        "foreign_keys": 1,
        "mmap_size": 0,
        "secure_delete": 1,
    }


def test_schema_knows_every_state() -> None:
    """The CHECK on states lists exactly those of the model."""
    script = Path(database.__file__).with_name("sql") / "migrations" / "0006_words.sql"
    text = script.read_text("utf-8").partition("state IN (")[2].partition(")")[0]
    assert {word.strip(" '\n") for word in text.split(",")} == {state.value for state in State}
