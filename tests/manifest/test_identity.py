"""A manifest that may have forgotten jobs is refused, until a person says that it goes on."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import pytest
from msgspec.structs import replace

from packtrain._errors import ManifestError, ManifestGone
from packtrain._manifest import identity
from packtrain._manifest.base import Change
from packtrain._manifest.database import open_database
from packtrain._manifest.guard import take_over
from packtrain._manifest.sqlite import open_sqlite
from packtrain._manifest.witness import Token, note_token, read_tokens, tokens_of, witness_of, write_witness
from packtrain._model import Cursor, ShardRow, State
from packtrain._rules.lifecycle import CreateIntended
from packtrain.testing.lives import RUN, claimed, live, sealed, shard

if TYPE_CHECKING:
    from pathlib import Path

UNSENT = (State.SEALED, State.UPLOADING, State.FINALIZING, State.UPLOADED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "manifest.db"


def lived(path: Path, *states: State) -> None:
    """A manifest with a shard in each of these states."""

    async def work() -> None:
        async with open_sqlite(path) as manifest:
            await sealed(manifest, len(states))
            for state in states:
                await live(manifest, await claimed(manifest), state)

    anyio.run(work)


def send(path: Path) -> None:
    """The create of the one shard goes out."""

    async def work() -> None:
        async with open_sqlite(path) as manifest:
            await manifest.write(
                Change(await claimed(manifest, State.UPLOADED), CreateIntended(tag="tag", intent_at=1.0))
            )

    anyio.run(work)


def jobs_in(path: Path) -> list[ShardRow]:
    async def work() -> list[ShardRow]:
        async with open_sqlite(path) as manifest:
            return await manifest.rows(RUN.id)

    return anyio.run(work)


def start(path: Path) -> None:
    with open_database(path):
        pass


def adopt(path: Path) -> None:
    with open_database(path, take_over):
        pass


def copied(path: Path, to: Path) -> Path:
    shutil.copytree(path.parent, to)
    return to / path.name


def refused(path: Path, why: str) -> None:
    """Nothing is changed by it."""
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.name != "lock"}
    with pytest.raises(ManifestError, match=why):
        start(path)
    assert {file: file.read_bytes() for file in path.parent.iterdir() if file.name != "lock"} == before


def test_copy_is_refused(path: Path, tmp_path: Path) -> None:
    """The original may go on at the same time; what it does, the copy does not see. The original is not disturbed."""
    lived(path, State.SUBMITTED)
    copy = copied(path, tmp_path / "copy")
    refused(copy, "copied here, or put back")
    start(path)


def test_directory_with_another_name_is_the_same(path: Path, tmp_path: Path) -> None:
    """Renaming makes no copy."""
    lived(path, State.SUBMITTED)
    start(path.parent.rename(tmp_path / "moved") / path.name)


def test_file_put_back_under_the_same_number_is_refused(path: Path, tmp_path: Path) -> None:
    """File systems give the number of a file to the next one; its generation differs."""
    lived(path, State.SUBMITTED)
    if identity.identify(path).generation is None:
        pytest.skip("this file system gives no generations")
    shutil.copy(path, tmp_path / "backup")
    path.unlink()
    shutil.copyfile(tmp_path / "backup", path)
    refused(path, "copied here, or put back")


def test_another_machine_is_refused(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was cloned holds the same file; the machine differs, where it has an id."""
    machine = tmp_path / "machine-id"
    monkeypatch.setattr(identity, "MACHINE", machine)
    machine.write_text("one\n")
    lived(path)
    machine.write_text("another\n")
    refused(path, "made on another machine")
    machine.unlink()
    start(path)


def test_older_copy_in_its_place_is_refused(path: Path) -> None:
    """Written over the file that is there, so that file and number stay: only the witness knows."""
    lived(path, State.UPLOADED)
    older = path.read_bytes()
    send(path)
    path.write_bytes(older)
    refused(path, "an older copy was put back")


@pytest.mark.parametrize("part", [0, 0.5, 0.9])
def test_log_that_was_cut_is_refused(path: Path, part: float) -> None:
    """It takes commits along, and a create that it held may have gone out."""
    lived(path, State.UPLOADED)
    log = path.with_name(f"{path.name}-wal")

    async def work() -> tuple[bytes, bytes]:
        async with open_sqlite(path) as manifest:
            await manifest.write(
                Change(await claimed(manifest, State.UPLOADED), CreateIntended(tag="tag", intent_at=1.0))
            )
            return await anyio.Path(path).read_bytes(), await anyio.Path(log).read_bytes()

    whole, written = anyio.run(work)
    path.write_bytes(whole)
    log.write_bytes(written[: int(len(written) * part)])
    with pytest.raises(ManifestError, match="or its log was lost"):
        start(path)


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_missing_witness_is_refused(path: Path, content: bytes | None) -> None:
    """Without it there is no knowing whether the database is the latest."""
    lived(path, State.SUBMITTED)
    witness_of(path).unlink()
    if content is not None:
        witness_of(path).write_bytes(content)
    refused(path, "its witness file is (gone|damaged)")


def test_witness_of_another_manifest_is_refused(path: Path) -> None:
    """It says nothing about this one."""
    lived(path, State.SUBMITTED)
    write_witness(path, "00000000", 1)
    refused(path, "that of another manifest")


def test_witness_that_lags_behind_is_no_reason(path: Path) -> None:
    """A crash may come between the commit and the witness: then the create did not go out."""
    lived(path, State.UPLOADED)
    before = witness_of(path).read_bytes()
    send(path)
    assert witness_of(path).read_bytes() != before
    witness_of(path).write_bytes(before)
    start(path)


def test_first_start_that_was_cut_short_goes_on(path: Path) -> None:
    """Between the making of the file and its identity."""
    lived(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE meta SET identity = NULL")
    witness_of(path).unlink()
    start(path)
    assert witness_of(path).exists()


def test_lost_manifest_is_no_new_run(path: Path) -> None:
    """Refused, with what it takes to recover; nothing is made in its place, whatever else is left of it (A1)."""
    lived(path, State.SUBMITTED)
    path.unlink()
    refused(path, "is gone, but")
    assert [token.run for token in read_tokens(path)] == [RUN.token]
    tokens_of(path).unlink()
    refused(path, "is gone, but its witness knows")
    witness_of(path).unlink()
    start(path)


@pytest.mark.parametrize("left", ["shards/T/00000-0.jsonl", "results/T/rejected.jsonl", "status.json", "manifest.run"])
def test_anything_that_a_run_leaves_keeps_a_new_manifest_out(path: Path, left: str) -> None:
    """With all files of the manifest deleted, and the shards or lists of a run still there (A1)."""
    path.parent.mkdir(mode=0o700)
    file = path.parent / left.replace("T", RUN.token)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"{}\n")
    refused_files = RUN.token if "/" in left else "record" if left.endswith("run") else "status"
    with pytest.raises(ManifestGone, match=refused_files):
        start(path)
    assert not path.exists()


def test_a_log_that_was_lost_with_all_runs_is_refused(path: Path) -> None:
    """The database file is as it was made: neither runs nor identity, which were in the log alone (A1)."""

    async def work() -> bytes:
        async with open_sqlite(path) as manifest:
            await sealed(manifest, 1)
            return await anyio.Path(path).read_bytes()

    whole = anyio.run(work)
    path.write_bytes(whole)
    with pytest.raises(ManifestGone, match="knows of no run, but") as refusal:
        start(path)
    assert refusal.value.runs == [(RUN.token, RUN.model)]
    with pytest.raises(ManifestGone):
        adopt(path)


def test_an_empty_database_is_refused_with_its_log_unread(path: Path) -> None:
    """SQLite would delete the log of a file without a byte."""
    lived(path, State.SUBMITTED)
    path.write_bytes(b"")
    path.with_name(f"{path.name}-wal").write_bytes(b"log")
    refused(path, "is empty, but its log is there")


def test_a_run_that_the_record_names_begins_no_second_time(path: Path) -> None:
    """An older copy, adopted, does not know a later run: its jobs bear another token, and would be made again."""
    lived(path, State.SUBMITTED)
    note_token(path, Token("b" * 26, "later", "m", "generate"))

    async def work() -> None:
        async with open_sqlite(path) as manifest:
            with pytest.raises(ManifestGone, match="does not know run 'later'"):
                await manifest.open_run(replace(RUN, id="later", token="c" * 26))
            assert await manifest.open_run(RUN) == RUN

    anyio.run(work)


def test_a_line_of_the_record_that_cannot_be_read_costs_no_other(path: Path) -> None:
    """The run's own line is written again at its next start."""
    lived(path, State.SUBMITTED)
    note_token(path, Token("b" * 26, "later", "m", "generate"))
    record = tokens_of(path).read_bytes()
    tokens_of(path).write_bytes(b"?" + record[1:])
    jobs_in(path)

    async def work() -> None:
        async with open_sqlite(path) as manifest:
            await manifest.open_run(RUN)

    anyio.run(work)
    assert {token.run for token in read_tokens(path)} == {RUN.token, "b" * 26}


def test_adopted_copy_doubts_whatever_it_may_have_forgotten(path: Path, tmp_path: Path) -> None:
    """It has another name; every shard without a job may have one, also those still to come; the others stay."""
    lived(path, *UNSENT, State.SUBMITTED, State.ENDED, State.CLOSED)
    before = jobs_in(path)
    copy = copied(path, tmp_path / "copy")
    adopt(copy)
    with closing(sqlite3.connect(copy)) as connection, closing(sqlite3.connect(path)) as original:
        (instance,) = original.execute("SELECT instance FROM meta").fetchone()
        assert connection.execute("SELECT instance FROM ancestors").fetchall() == [(instance,)]
        assert connection.execute("SELECT instance FROM meta").fetchone() != (instance,)
        assert connection.execute("SELECT recovered FROM runs").fetchall() == [(1,)]
    for then, now in zip(before, jobs_in(copy), strict=True):
        if then.state in UNSENT:
            assert (now.state, now.attempt, now.upload) == (State.RECONCILING, 1, None)
            assert now.file is not None
            assert now.tag is not None
        else:
            assert now == then


def test_adoption_that_was_cut_short_is_done_again(path: Path, tmp_path: Path) -> None:
    """Before its witness was written: it is refused as before, and adopted as before."""
    lived(path, State.UPLOADED)
    copy = copied(path, tmp_path / "copy")
    adopt(copy)
    shutil.copy(witness_of(path), witness_of(copy))
    refused(copy, "that of another manifest")
    adopt(copy)
    assert [row.state for row in jobs_in(copy)] == [State.RECONCILING]


def test_every_start_of_an_adopted_manifest_is_admitted(path: Path, tmp_path: Path) -> None:
    """And it goes on as any other."""
    lived(path, State.SEALED)
    copy = copied(path, tmp_path / "copy")
    adopt(copy)

    async def work() -> None:
        async with open_sqlite(copy) as manifest:
            await manifest.seal(shard(1), Cursor(shards=2))

    anyio.run(work)
    start(copy)
