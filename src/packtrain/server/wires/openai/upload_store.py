"""Uploads in parts in the store. Each part is a separate blob until the file is assembled."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from ...files import UPLOAD_LIFE
from ...quotas import admit_file, admit_upload
from ...transactions import PORTION
from .errors import OpenAIError
from .file_store import NewFile, OpenAIFile, add_file, find_openai_file

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ...._wire.openai.files import NewUpload
    from ...blobs import Digest
    from ...store import Store
    from ...transactions import Transaction
    from .limits import OpenAILimits


_EXPIRED = """
SELECT part.* FROM openai_part AS part JOIN openai_upload ON openai_upload.id = part.upload
WHERE state = 'pending' AND expires <= ? LIMIT ?
"""


class StoredUpload(Struct, frozen=True, kw_only=True):
    id: str
    filename: str
    mime_type: str
    purpose: str
    #: As declared at the start.
    bytes: int
    created: float
    expires: float
    state: Literal["pending", "completed", "cancelled"]
    file: str | None


class StoredPart(Struct, frozen=True, kw_only=True):
    id: str
    upload: str
    bytes: int
    created: float
    blob: str


class OpenAIUploads:
    """Operations on uploads and parts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def limits(self) -> OpenAILimits:
        return self._store.quotas.openai

    def temporary_blob(self) -> AbstractAsyncContextManager[str]:
        """A new blob for a part or the assembled file."""
        return self._store.temporary_blob()

    async def sweep(self) -> None:
        """Removes the parts of expired uploads at once, and their rows later."""
        await self._store.sweep(_sweep)

    async def start(self, new: NewUpload) -> StoredUpload:
        """Raises HttpError 429 beyond a quota."""
        return await self._store.transact(lambda tx: _start(tx, new))

    async def pending(self, upload_id: str) -> StoredUpload:
        """A pending upload. Raises OpenAIError 404 for an unknown id, 400 for one that has ended."""
        return await self._store.transact(lambda tx: _pending(tx, upload_id))

    async def add(self, upload_id: str, blob: str, digest: Digest) -> StoredPart:
        """Adds a part, durably. Raises OpenAIError as ``pending`` does, and for too many parts."""
        await self._store.sync(blob)
        return await self._store.transact(lambda tx: _add(tx, upload_id, blob, digest))

    async def cancel(self, upload_id: str) -> StoredUpload:
        """Raises OpenAIError as ``pending`` does."""
        return await self._store.transact(lambda tx: _cancel(tx, upload_id))

    async def completed(self, upload_id: str) -> tuple[StoredUpload, OpenAIFile] | None:
        """A completed upload with its file, since the SDK may repeat the call; None for another one."""
        return await self._store.transact(lambda tx: _completed(tx, upload_id))

    async def parts(self, upload_id: str, ids: list[str]) -> list[StoredPart]:
        """The parts in the order of ``ids``. Raises OpenAIError for an unknown or repeated id."""
        return await self._store.transact(lambda tx: _parts(tx, upload_id, ids))

    async def complete(self, upload_id: str, blob: str, digest: Digest) -> tuple[StoredUpload, OpenAIFile]:
        """Turns the blob into a file, durably."""
        await self._store.sync(blob)
        return await self._store.transact(lambda tx: _complete(tx, upload_id, blob, digest))


def _find(tx: Transaction, upload_id: str) -> StoredUpload:
    upload = tx.row(StoredUpload, "SELECT * FROM openai_upload WHERE id = ?", upload_id)
    if upload is None:
        raise OpenAIError(404, f"No such Upload object: {upload_id}", param="id")
    return upload


def _pending(tx: Transaction, upload_id: str) -> StoredUpload:
    upload = _find(tx, upload_id)
    if upload.state != "pending" or upload.expires <= tx.now:
        state = "expired" if upload.state == "pending" else upload.state
        raise OpenAIError(400, f"The upload {upload_id} is {state}; start a new one.")
    return upload


def _start(tx: Transaction, new: NewUpload) -> StoredUpload:
    admit_upload(tx)
    admit_file(tx, new.bytes)
    upload = StoredUpload(
        id=f"upload_{secrets.token_hex(16)}",
        filename=new.filename,
        mime_type=new.mime_type,
        purpose=new.purpose,
        bytes=new.bytes,
        created=tx.now,
        expires=tx.now + tx.quotas.openai.upload_life,
        state="pending",
        file=None,
    )
    tx.change(
        "INSERT INTO openai_upload (id, filename, mime_type, purpose, bytes, created, expires, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'pending')",
        upload.id,
        upload.filename,
        upload.mime_type,
        upload.purpose,
        upload.bytes,
        upload.created,
        upload.expires,
    )
    tx.record("upload_started", name=upload.id, displayName=upload.filename, bytes=upload.bytes)
    return upload


def _sweep(tx: Transaction) -> bool:
    """The rows outlive the parts for some time, so that clients get the reason."""
    parts = tx.rows(StoredPart, _EXPIRED, tx.now, PORTION)
    for part in parts:
        tx.change("DELETE FROM openai_part WHERE id = ?", part.id)
        tx.release(part.blob)
    tx.change("DELETE FROM openai_upload WHERE created <= ?", tx.now - UPLOAD_LIFE)
    return bool(parts)


def _release(tx: Transaction, upload_id: str) -> None:
    for part in tx.rows(StoredPart, "SELECT * FROM openai_part WHERE upload = ?", upload_id):
        tx.release(part.blob)
    tx.change("DELETE FROM openai_part WHERE upload = ?", upload_id)


def _add(tx: Transaction, upload_id: str, blob: str, digest: Digest) -> StoredPart:
    _pending(tx, upload_id)
    most = tx.quotas.openai.parts
    if len(tx.rows(StoredPart, "SELECT * FROM openai_part WHERE upload = ?", upload_id)) >= most:
        raise OpenAIError(400, f"An upload has at most {most} parts.")
    part_id = f"part_{secrets.token_hex(16)}"
    part = StoredPart(id=part_id, upload=upload_id, bytes=digest.bytes, created=tx.now, blob=blob)
    tx.change(
        "INSERT INTO openai_part (id, upload, bytes, created, blob) VALUES (?, ?, ?, ?, ?)",
        part.id,
        part.upload,
        part.bytes,
        part.created,
        part.blob,
    )
    return part


def _cancel(tx: Transaction, upload_id: str) -> StoredUpload:
    _pending(tx, upload_id)
    tx.change("UPDATE openai_upload SET state = 'cancelled' WHERE id = ?", upload_id)
    _release(tx, upload_id)
    return _find(tx, upload_id)


def _completed(tx: Transaction, upload_id: str) -> tuple[StoredUpload, OpenAIFile] | None:
    upload = _find(tx, upload_id)
    file = find_openai_file(tx, upload.file) if upload.file else None
    return (upload, file) if file else None


def _parts(tx: Transaction, upload_id: str, ids: list[str]) -> list[StoredPart]:
    upload = _pending(tx, upload_id)
    stored = {part.id: part for part in tx.rows(StoredPart, "SELECT * FROM openai_part WHERE upload = ?", upload_id)}
    if len(set(ids)) < len(ids) or not stored.keys() >= set(ids):
        raise OpenAIError(400, "part_ids: each is a part of this upload, once.", param="part_ids")
    parts = [stored[part_id] for part_id in ids]
    if (size := sum(part.bytes for part in parts)) != upload.bytes:
        raise OpenAIError(400, f"The parts have {size} bytes, but {upload.bytes} were declared.", param="part_ids")
    return parts


def _complete(tx: Transaction, upload_id: str, blob: str, digest: Digest) -> tuple[StoredUpload, OpenAIFile]:
    if completed := _completed(tx, upload_id):
        return completed
    upload = _pending(tx, upload_id)
    life = tx.quotas.openai.file_life
    new = NewFile(filename=upload.filename, mime_type=upload.mime_type, purpose=upload.purpose, life=life)
    file = add_file(tx, new, blob, digest)
    tx.change("UPDATE openai_upload SET state = 'completed', file = ? WHERE id = ?", file.name, upload_id)
    _release(tx, upload_id)
    return _find(tx, upload_id), file
