"""Storage faults: flipped bits, changed lines, lost files and uploads. Whole files are read into memory."""

from __future__ import annotations

import re
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from ..._io.threads import in_thread
from ..._model import JobState
from ..blobs import Digest
from ..files import FILE_LIFE, StoredFile, UploadSession, find_file, insert_file, remove_file
from ..jobs import StoredJob, end_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from random import Random

    from ..blobs import Blobs
    from ..store import Store
    from ..transactions import Transaction

#: A file name; paths of the OpenAI wire have /files/ before the whole name.
_FILE = re.compile(r"files/(?!files/)[a-z0-9-]+")


def file_in(text: str) -> str:
    """The first file name in a path or a body; empty without one."""
    matched = _FILE.search(unquote(text))
    return matched[0] if matched else ""


class StorageFaults:
    """Applies storage faults, durably."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed: set[str] = set()
        self._copies: dict[str, bytes] = {}

    async def expire_file(self, name: str) -> None:
        """Deletes the file as on expiry."""
        await self._store.transact(lambda tx: _expire_file(tx, name))

    async def expire_upload(self, upload_id: str) -> None:
        await self._store.transact(lambda tx: _expire_upload(tx, upload_id))

    async def flip_bit(self, name: str, bit: int) -> str:
        """Flips one bit; returns the file's new SHA-256 in hex."""

        def change(content: bytes) -> bytes:
            flipped = bytearray(content)
            flipped[bit // 8 % len(flipped)] ^= 1 << bit % 8
            return bytes(flipped)

        file = await self._rewrite(name, change)
        return file.sha256 if file else ""

    async def rewrite_results(self, name: str, how: str, random: Random) -> None:
        """Rearranges the result lines, once per file, so that a second download is identical."""
        if name not in self._changed:
            self._changed.add(name)
            await self._rewrite(name, lambda content: rearrange(content, how, random))

    async def truncate_upload(self, upload_id: str, count: int) -> None:
        """Removes the upload's last bytes, as after a crash before they were synced."""
        session = await self._store.transact(
            lambda tx: tx.row(UploadSession, "SELECT * FROM upload WHERE id = ? AND state = 'active'", upload_id)
        )
        if session is None:
            return
        content = await in_thread(_content, self._store.blobs, session.blob)
        async with self._store.temporary_blob() as blob:
            await self._fill(blob, content[: max(0, len(content) - count)])
            await self._store.transact(lambda tx: _move_upload(tx, session, blob))

    async def find(self, name: str) -> StoredFile | None:
        return await self._store.transact(lambda tx: find_file(tx, name))

    async def keep_copy(self, name: str) -> None:
        """Keeps the content in memory, for a service that ignores the deletion."""
        file = await self.find(name)
        if file:
            self._copies[name] = await in_thread(_content, self._store.blobs, file.blob)

    @asynccontextmanager
    async def placeholder_file(self, name: str) -> AsyncIterator[None]:
        """Provides a file of that name during the block: the real one, its kept copy, or one without content."""
        if await self.find(name):
            yield
            return
        async with self._store.temporary_blob() as temporary_blob:
            blob = temporary_blob if name in self._copies else secrets.token_hex(16)
            await self._store.fill(temporary_blob, self._copies.get(name, b""))
            await self._store.transact(lambda tx: _insert_placeholder(tx, name, blob))
            try:
                yield
            finally:
                await self._store.transact(lambda tx: tx.change("DELETE FROM file WHERE name = ?", name))

    async def fail_jobs_of(self, name: str) -> None:
        """Fails the live jobs with this input file."""
        await self._store.transact(lambda tx: _fail_jobs(tx, name))

    async def _rewrite(self, name: str, change: Callable[[bytes], bytes]) -> StoredFile | None:
        file = await self._store.transact(lambda tx: find_file(tx, name))
        if file is None:
            return None
        content = await in_thread(_content, self._store.blobs, file.blob)
        async with self._store.temporary_blob() as blob:
            digest = await self._fill(blob, change(content))
            changed = msgspec.structs.replace(file, blob=blob, bytes=digest.bytes, sha256=digest.sha256)
            await self._store.transact(lambda tx: _move_file(tx, file, changed))
        return changed

    async def _fill(self, blob: str, content: bytes) -> Digest:
        digest = await in_thread(_write, self._store.blobs, blob, content)
        await self._store.sync(blob)
        return digest


def rearrange(content: bytes, how: str, random: Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(_rearrange(lines, how, random)) if lines else content


def _rearrange(lines: list[bytes], how: str, random: Random) -> Sequence[bytes]:
    first = lines[0]
    keyed = next(filter(None, map(_keyed_row, lines)), None)
    match how:
        case "shuffled":
            return random.sample(lines, len(lines))
        case "reversed":
            return lines[::-1]
        case "repeated":
            return [*lines, first]
        case "conflicting":
            return [_failed(keyed), *lines] if keyed else lines
        case "missing":
            return lines[1:]
        case "unknown":
            return [_with_unknown_key(keyed), *lines] if keyed else lines
        case _:
            return [line.rstrip(b"\n") + b"\r\n" for line in lines]


def _keyed_row(line: bytes) -> dict[str, object] | None:
    """The row if it has a key; the row of an invalid line has none."""
    try:
        row = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        return None
    return row if "key" in row or "custom_id" in row else None


def _failed(row: Mapping[str, object]) -> bytes:
    reason = "Injected fault."
    if "custom_id" in row:
        return _line({**row, "response": None, "error": {"code": "server_error", "message": reason}})
    return _line({"key": row["key"], "error": {"code": 13, "message": reason}})


def _with_unknown_key(row: Mapping[str, object]) -> bytes:
    return _line({**row, "custom_id" if "custom_id" in row else "key": "nobody-asked"})


def _line(row: object) -> bytes:
    return msgspec.json.encode(row) + b"\n"


def _content(blobs: Blobs, blob: str) -> bytes:
    with blobs.reader(blob) as file:
        return file.read()


def _write(blobs: Blobs, blob: str, content: bytes) -> Digest:
    with blobs.appender(blob, Digest()) as file:
        file.write(content)
        return file.digest


def _expire_file(tx: Transaction, name: str) -> None:
    file = find_file(tx, name)
    if file:
        remove_file(tx, file)
        tx.record("file_deleted", name=name, reason="expired")


def _expire_upload(tx: Transaction, upload_id: str) -> None:
    session = tx.row(UploadSession, "SELECT * FROM upload WHERE id = ?", upload_id)
    if session:
        tx.change("DELETE FROM upload WHERE id = ?", upload_id)
        tx.release(session.blob)


def _move_upload(tx: Transaction, session: UploadSession, blob: str) -> None:
    tx.change("UPDATE upload SET blob = ? WHERE id = ?", blob, session.id)
    tx.release(session.blob)


def _move_file(tx: Transaction, file: StoredFile, changed: StoredFile) -> None:
    tx.change(
        "UPDATE file SET blob = ?, bytes = ?, sha256 = ? WHERE name = ?",
        changed.blob,
        changed.bytes,
        changed.sha256,
        file.name,
    )
    tx.release(file.blob)
    tx.record("file_changed", name=file.name, bytes=changed.bytes, sha256=changed.sha256)


def _insert_placeholder(tx: Transaction, name: str, blob: str) -> None:
    tx.change("DELETE FROM file WHERE name = ?", name)
    insert_file(
        tx,
        StoredFile(
            seq=0,
            name=name,
            display_name="",
            mime_type="",
            bytes=0,
            sha256="",
            created=tx.now,
            expires=tx.now + FILE_LIFE,
            source="UPLOADED",
            blob=blob,
        ),
    )


def _fail_jobs(tx: Transaction, file: str) -> None:
    for job in tx.rows(StoredJob, "SELECT * FROM job WHERE file = ? AND ended IS NULL", file):
        end_job(tx, job.name, JobState.FAILED, reason=f"The file {file} was deleted.")
