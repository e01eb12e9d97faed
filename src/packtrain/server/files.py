"""Files and resumable uploads: their rows in the store, and the operations on them."""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from .quotas import admit_file, admit_upload
from .replies import HttpError
from .transactions import PORTION

if TYPE_CHECKING:
    from .blobs import Digest
    from .paging import Window
    from .store import Store
    from .transactions import Transaction

#: Seconds until a file, and an unfinished upload, expires.
FILE_LIFE = 48 * 3600.0
UPLOAD_LIFE = 7 * 24 * 3600.0
#: Prefix of files that clients do not see: results of jobs with inline requests.
HIDDEN_PREFIX = "inline/"

#: Characters of a random file name: 129 bits, and within the 40 characters that a delete accepts.
ID_LENGTH = 25

_ALPHABET = string.ascii_lowercase + string.digits


class StoredFile(Struct, frozen=True, kw_only=True):
    """A finished file."""

    seq: int
    name: str
    display_name: str
    mime_type: str
    bytes: int
    sha256: str
    created: float
    expires: float
    source: Literal["UPLOADED", "GENERATED"]
    blob: str


class UploadSession(Struct, frozen=True, kw_only=True):
    """A resumable upload. Its ``id`` authorises writing to it."""

    id: str
    name: str
    display_name: str
    mime_type: str
    #: As declared at the start; None when it was not.
    size: int | None
    created: float
    state: Literal["active", "final", "cancelled"]
    blob: str


class NewUploadSession(Struct, frozen=True, kw_only=True):
    """The client's parameters of a new upload."""

    name: str | None
    display_name: str
    mime_type: str
    size: int | None


def make_id(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


class Files:
    """Operations on files and uploads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def start(self, new: NewUploadSession) -> UploadSession:
        """Raises HttpError 409 when the chosen name exists, 429 beyond a quota."""
        async with self._store.temporary_blob() as blob:
            return await self._store.transact(lambda tx: _start(tx, new, blob))

    async def session(self, upload_id: str) -> UploadSession | None:
        return await self._store.transact(lambda tx: _session(tx, upload_id))

    async def finalise(self, session: UploadSession, digest: Digest) -> StoredFile | None:
        """Turns the upload into a file, durably; None when the name was taken meanwhile, which ends the upload."""
        await self._store.sync(session.blob)
        return await self._store.transact(lambda tx: _finalise(tx, session, digest))

    async def cancel(self, session: UploadSession) -> None:
        await self._store.transact(lambda tx: _cancel(tx, session))

    async def get(self, name: str) -> StoredFile | None:
        """None when there is no such file, or it has expired."""
        return await self._store.transact(lambda tx: find_file(tx, name))

    async def page(self, window: Window) -> list[StoredFile]:
        """Up to one more than the window's size."""
        newest = "SELECT * FROM file WHERE seq < ? AND expires > ? AND name NOT GLOB ? ORDER BY seq DESC LIMIT ?"
        return await self._store.transact(
            lambda tx: tx.rows(StoredFile, newest, window.before, tx.now, HIDDEN_PREFIX + "*", window.size + 1)
        )

    async def delete(self, name: str) -> bool:
        """False when there is no such file."""
        return await self._store.transact(lambda tx: _delete(tx, name))

    async def sweep(self) -> None:
        """Removes expired files and uploads."""
        await self._store.sweep(_sweep)


def find_file(tx: Transaction, name: str) -> StoredFile | None:
    return tx.row(StoredFile, "SELECT * FROM file WHERE name = ? AND expires > ?", name, tx.now)


def insert_file(tx: Transaction, file: StoredFile) -> None:
    tx.change(
        "INSERT INTO file (name, display_name, mime_type, bytes, sha256, created, expires, source, blob)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        file.name,
        file.display_name,
        file.mime_type,
        file.bytes,
        file.sha256,
        file.created,
        file.expires,
        file.source,
        file.blob,
    )


def remove_file(tx: Transaction, file: StoredFile) -> None:
    """Deletes the row, and the finished uploads of that name."""
    tx.change("DELETE FROM file WHERE name = ?", file.name)
    tx.change("DELETE FROM upload WHERE name = ? AND state <> 'active'", file.name)
    tx.release(file.blob)


def _session(tx: Transaction, upload_id: str) -> UploadSession | None:
    return tx.row(UploadSession, "SELECT * FROM upload WHERE id = ?", upload_id)


def _start(tx: Transaction, new: NewUploadSession, blob: str) -> UploadSession:
    name = new.name or f"files/{make_id(ID_LENGTH)}"
    if find_file(tx, name):
        raise name_taken(name)
    admit_file(tx, new.size or 0)
    admit_upload(tx)
    session = UploadSession(
        id=secrets.token_urlsafe(32),
        name=name,
        display_name=new.display_name,
        mime_type=new.mime_type,
        size=new.size,
        created=tx.now,
        state="active",
        blob=blob,
    )
    tx.change(
        "INSERT INTO upload (id, name, display_name, mime_type, size, created, state, blob)"
        " VALUES (?, ?, ?, ?, ?, ?, 'active', ?)",
        session.id,
        session.name,
        session.display_name,
        session.mime_type,
        session.size,
        session.created,
        session.blob,
    )
    tx.record("upload_started", name=name, displayName=new.display_name, bytes=new.size)
    return session


def name_taken(name: str, *, terminal: bool = False) -> HttpError:
    """HttpError 409. ``terminal`` tells clients not to retry the upload."""
    headers = {"X-Goog-Upload-Status": "final"} if terminal else None
    return HttpError(409, f"The file {name} already exists.", headers=headers)


def _finalise(tx: Transaction, session: UploadSession, digest: Digest) -> StoredFile | None:
    former = tx.row(StoredFile, "SELECT * FROM file WHERE name = ?", session.name)
    if former and former.expires > tx.now:
        _cancel(tx, session)
        return None
    if former:
        _expire(tx, former)
    admit_file(tx, digest.bytes)
    file = _file_of(session, digest, tx.now)
    insert_file(tx, file)
    tx.change("UPDATE upload SET state = 'final' WHERE id = ?", session.id)
    tx.record("file_finalised", name=file.name, displayName=file.display_name, bytes=file.bytes, sha256=file.sha256)
    return file


def _file_of(session: UploadSession, digest: Digest, now: float) -> StoredFile:
    return StoredFile(
        seq=0,
        name=session.name,
        display_name=session.display_name,
        mime_type=session.mime_type,
        bytes=digest.bytes,
        sha256=digest.sha256,
        created=now,
        expires=now + FILE_LIFE,
        source="UPLOADED",
        blob=session.blob,
    )


def _cancel(tx: Transaction, session: UploadSession) -> None:
    tx.change("UPDATE upload SET state = 'cancelled' WHERE id = ? AND state = 'active'", session.id)
    tx.release(session.blob)


def _delete(tx: Transaction, name: str) -> bool:
    file = find_file(tx, name)
    if file:
        remove_file(tx, file)
        tx.record("file_deleted", name=name, reason="asked")
    return file is not None


def _expire(tx: Transaction, file: StoredFile) -> None:
    remove_file(tx, file)
    tx.record("file_deleted", name=file.name, reason="expired")


def _sweep(tx: Transaction) -> bool:
    files = tx.rows(StoredFile, "SELECT * FROM file WHERE expires <= ? LIMIT ?", tx.now, PORTION)
    for file in files:
        _expire(tx, file)
    sessions = tx.rows(UploadSession, "SELECT * FROM upload WHERE created <= ? LIMIT ?", tx.now - UPLOAD_LIFE, PORTION)
    for session in sessions:
        tx.change("DELETE FROM upload WHERE id = ?", session.id)
        tx.release(session.blob)
    return bool(files or sessions)
