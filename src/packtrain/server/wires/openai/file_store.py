"""Files of the OpenAI wire in the store: files with a purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from ...files import ID_LENGTH, StoredFile, find_file, insert_file, make_id, remove_file
from ...quotas import admit_file
from .paging import Page, fetch_page

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ...blobs import Digest
    from ...store import Store
    from ...transactions import Transaction
    from .limits import OpenAILimits
    from .paging import Cursor


class OpenAIFile(StoredFile, frozen=True, kw_only=True):
    purpose: str


class NewFile(Struct, frozen=True, kw_only=True):
    filename: str
    mime_type: str
    purpose: str
    #: Seconds.
    life: float


class OpenAIFiles:
    """Operations on files."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def limits(self) -> OpenAILimits:
        return self._store.quotas.openai

    def temporary_blob(self) -> AbstractAsyncContextManager[str]:
        """A new blob for file content."""
        return self._store.temporary_blob()

    async def add(self, new: NewFile, blob: str, digest: Digest) -> OpenAIFile:
        """Turns the blob into a file, durably. Raises HttpError 429 beyond a quota."""
        await self._store.sync(blob)
        return await self._store.transact(lambda tx: add_file(tx, new, blob, digest))

    async def get(self, name: str) -> OpenAIFile | None:
        """None when there is no such file, or it has expired."""
        return await self._store.transact(lambda tx: find_openai_file(tx, name))

    async def page(self, cursor: Cursor, purpose: str) -> Page[OpenAIFile]:
        """An empty ``purpose`` means any."""
        return await self._store.transact(lambda tx: fetch_page(tx, OpenAIFile, "openai_files", cursor, purpose))

    async def delete(self, name: str) -> bool:
        """False when there is no such file."""
        return await self._store.transact(lambda tx: _delete(tx, name))


def find_openai_file(tx: Transaction, name: str) -> OpenAIFile | None:
    return tx.row(OpenAIFile, "SELECT * FROM openai_files WHERE name = ? AND expires > ?", name, tx.now)


def add_file(tx: Transaction, new: NewFile, blob: str, digest: Digest) -> OpenAIFile:
    admit_file(tx, digest.bytes)
    file = StoredFile(
        seq=0,
        name=f"files/{make_id(ID_LENGTH)}",
        display_name=new.filename,
        mime_type=new.mime_type,
        bytes=digest.bytes,
        sha256=digest.sha256,
        created=tx.now,
        expires=tx.now + new.life,
        source="UPLOADED",
        blob=blob,
    )
    insert_file(tx, file)
    tx.change("INSERT INTO openai_file (name, purpose) VALUES (?, ?)", file.name, new.purpose)
    tx.record("file_finalised", name=file.name, displayName=file.display_name, bytes=file.bytes, sha256=file.sha256)
    kept = find_openai_file(tx, file.name)
    assert kept is not None, file.name
    return kept


def _delete(tx: Transaction, name: str) -> bool:
    file = find_file(tx, name)
    if file:
        remove_file(tx, file)
        tx.record("file_deleted", name=name, reason="asked")
    return file is not None
