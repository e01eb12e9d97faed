"""The store: one owner, and an audit log that agrees with it after any crash."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain import ManifestError
from packtrain.server import serving
from packtrain.server.blobs import Digest
from packtrain.server.files import FILE_LIFE, Files, NewUploadSession
from packtrain.server.paging import Window
from packtrain.server.replies import HttpError
from packtrain.server.store import Store, open_store
from packtrain.server.transactions import PORTION

from .service_calls import blobs, child, truth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from packtrain.server.transactions import Transaction


async def upload(store: Store, name: str = "files/abc") -> str:
    """Starts an upload, which adds a log entry."""
    new = NewUploadSession(name=name, display_name="d", mime_type="m", size=None)
    return (await Files(store).start(new)).id


async def test_second_service_on_a_directory_is_refused(directory: Path) -> None:
    """After its lock timeout; the first one is not disturbed."""
    async with open_store(directory) as store:
        with pytest.raises(ManifestError, match="another service"):
            async with open_store(directory, lock_timeout=0.1):
                pass
        assert await upload(store)


async def test_directory_is_free_again_as_soon_as_its_owner_dies(directory: Path) -> None:
    """A start waits for the exit of a killed service."""
    async with child(directory) as process, anyio.create_task_group() as tasks:
        tasks.start_soon(_opened, directory)
        await anyio.lowlevel.checkpoint()
        process.kill()


async def _opened(directory: Path) -> None:
    async with open_store(directory):
        pass


@pytest.fixture
def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


async def test_symlinked_directory_is_refused(made: Path, tmp_path: Path) -> None:
    """The path must be the directory itself."""
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(ManifestError, match="symbolic link"):
        async with open_store(tmp_path / "link"):
            pass


async def test_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    """With a message, and the file is unchanged."""
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"file: is a file; give a directory"):
        async with serving(tmp_path / "file"):
            pass
    assert await anyio.Path(tmp_path / "file").read_bytes() == b"x"


async def test_newer_store_is_refused(directory: Path) -> None:
    """A store of a later version is not changed."""
    async with open_store(directory):
        pass
    with sqlite3.connect(directory / "service.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ManifestError, match="newer packtrain"):
        async with open_store(directory):
            pass


async def test_damaged_database_is_refused(made: Path) -> None:
    """With a message, without a traceback."""
    (made / "service.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(ManifestError, match="cannot be used"):
        async with open_store(made):
            pass


async def test_everything_is_private(directory: Path) -> None:
    """Only the owner can read the directory and its files."""
    async with open_store(directory) as store:
        await upload(store)
        modes = _open_to_others(directory)
    assert len(modes) > 5
    assert not any(modes.values()), modes


def _open_to_others(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mode & 0o077 for path in [directory, *directory.rglob("*")]}


@pytest.mark.parametrize("lost", [1, 10, 10_000])
async def test_log_is_repaired_after_a_crash_between_row_and_line(directory: Path, lost: int) -> None:
    """The row was committed, its line is truncated or missing: the next start writes it, once."""
    async with open_store(directory) as store:
        await upload(store, "files/one")
        before = (directory / "truth.jsonl").stat().st_size
        await upload(store, "files/two")
    path = directory / "truth.jsonl"
    whole = path.read_bytes()
    os.truncate(path, max(before, len(whole) - lost))
    async with open_store(directory):
        assert path.read_bytes() == whole


async def test_truncated_log_is_noticed(directory: Path) -> None:
    """Lines before those of the last transaction cannot be restored: the service refuses to start."""
    async with open_store(directory) as store:
        for number in range(3):
            await upload(store, f"files/f{number}")
    os.truncate(directory / "truth.jsonl", 5)
    with pytest.raises(ManifestError, match=r"truth\.jsonl"):
        async with open_store(directory):
            pass


async def test_refused_change_leaves_no_trace(directory: Path) -> None:
    """No row, no log entry, no blob."""

    def change(tx: Transaction) -> None:
        assert tx.change("DELETE FROM upload")
        tx.record("never")
        raise HttpError(409, "no")

    async with open_store(directory) as store:
        former = await upload(store)
        async with anyio.create_task_group() as tasks:  # written together, and one of them refused
            tasks.start_soon(upload, store, "files/other")
            with pytest.raises(HttpError):
                await store.transact(change)
        assert await Files(store).session(former)
    assert [line["what"] for line in truth(directory)] == ["upload_started"] * 2


async def test_leftover_bytes_are_removed_at_the_start(directory: Path) -> None:
    """Blobs that no row names are left over from a crash."""
    async with open_store(directory) as store:
        await upload(store)
    (directory / "blobs" / "leftover").write_bytes(b"x")
    async with open_store(directory):
        assert len(blobs(directory)) == 1


async def test_disk_error_ends_the_store(directory: Path) -> None:
    """After a failed sync the disk's content is unknown, so nothing is retried; ``watch`` raises the reason."""
    async with open_store(directory) as store:
        with pytest.raises(ManifestError, match="cannot be written safely"):
            await store.sync("there-is-no-such-blob")
        with pytest.raises(ManifestError, match="start the service again"):
            await upload(store)
        with pytest.raises(ManifestError):
            await store.watch()


async def test_failed_change_does_not_affect_its_neighbours(directory: Path) -> None:
    """Its exception goes to its caller; the other changes of the commit succeed."""

    def too_large(tx: Transaction) -> None:
        tx.change("DELETE FROM file WHERE seq = ?", 10**30)

    def twice(tx: Transaction) -> None:
        tx.change("INSERT INTO openai_file VALUES ('files/x', 'batch'), ('files/x', 'batch')")

    async with open_store(directory) as store:
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(upload, store, f"files/{number}")
                tasks.start_soon(_fails, store, too_large, OverflowError)
                tasks.start_soon(_fails, store, twice, sqlite3.IntegrityError)
        assert await upload(store)
    assert len(truth(directory, "upload_started")) == 6


async def _fails(store: Store, change: Callable[[Transaction], None], error: type[Exception]) -> None:
    with pytest.raises(error):
        await store.transact(change)


async def test_sweep_takes_portions_and_leaves_nothing(directory: Path) -> None:
    """Each transaction removes a portion, until all expired rows are removed."""
    now = 1e9
    count = 2 * PORTION + 5
    async with open_store(directory, clock=lambda: now) as store:
        files = Files(store)
        async with anyio.create_task_group() as tasks:
            for number in range(count):
                tasks.start_soon(_made, files, f"files/{number}")
        now += FILE_LIFE + 1
        await files.sweep()
        assert await files.page(Window(10_000, 10**9)) == []
    assert len(truth(directory, "file_deleted")) == count
    assert blobs(directory) == []


async def _made(files: Files, name: str) -> None:
    session = await files.start(NewUploadSession(name=name, display_name="d", mime_type="m", size=None))
    await files.finalise(session, Digest())


async def test_upload_without_its_blob_is_cancelled(directory: Path) -> None:
    """As after a power cut; its client gets an error and starts another one."""
    async with open_store(directory) as store:
        lost = await upload(store)
    for blob in blobs(directory):
        blob.unlink()
    async with open_store(directory) as store:
        session = await Files(store).session(lost)
        assert session and session.state == "cancelled"
