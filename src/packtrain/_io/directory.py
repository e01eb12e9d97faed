"""A directory on a local disk as a spool and as a sink."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable
from contextlib import suppress
from typing import TYPE_CHECKING

import aiofiles
import anyio
import anyio.to_thread

from .._errors import IncompleteRun, IntegrityError, OutputTaken
from .._options import PIECE_BYTES
from .disk import (
    DRAFT,
    copy_range,
    disk_errors,
    draft,
    make_directory,
    make_durable,
    open_private,
    remove,
    uncancelled,
    write_all,
)
from .storage import Pieces, Stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable
    from io import FileIO
    from pathlib import Path

    from aiofiles.threadpool.binary import AsyncFileIO

    from .storage import Content


class DraftFile:
    """A file that gets its name when it is whole and durable; blocking."""

    def __init__(self, what: str, path: Path) -> None:
        self._what = what
        self._path = path
        self._draft = draft(path)
        with disk_errors(path):
            self._file = open_private(what, self._draft)

    def write(self, data: bytes) -> None:
        with disk_errors(self._path):
            write_all(self._what, self._file, data)

    def copy(self, path: Path, offset: int = 0, length: int | None = None) -> None:
        """Append a range of a file, up to its end without a length. Raises IntegrityError when it ends early."""
        with disk_errors(self._path), path.open("rb", buffering=0) as source:
            length = os.fstat(source.fileno()).st_size - offset if length is None else length
            before = self._file.tell()
            copy_range(self._what, source, offset, length, self._file)
            if self._file.tell() != before + length:
                raise IntegrityError(f"{path}: it ends before byte {offset + length}; nothing was made of it")

    def publish(self) -> int:
        """Give it its name; returns its size."""
        with disk_errors(self._path):
            size = self._file.tell()
            make_durable(self._what, self._file, self._draft, self._path)
        return size

    def discard(self) -> None:
        self._file.close()
        with suppress(IncompleteRun):  # the error that led here says more
            remove(self._what, self._draft)


class Directory:
    """Objects are files below ``root``. ``what`` is the word for them in the names of effects.

    The check of ``publish_if_absent`` and the rename are two steps: the lock on the state directory keeps out other
    drivers of the run, but no other program.
    """

    def __init__(self, root: Path, what: str, *, mode: int = 0o700) -> None:
        self.root = root
        self._what = what
        self._mode = mode

    def path(self, name: str) -> Path:
        """The file of an object, for code that needs one: local joins, copies by the kernel."""
        return self.root / name

    def size(self, name: str) -> int | None:
        """As ``head``, blocking."""
        path = self.path(name)
        return path.stat().st_size if path.is_file() else None

    def make(self, directory: Path) -> None:
        """Blocking. Make a directory, with its parents as far as they are missing."""
        with disk_errors(directory):
            make_directory(self._what, directory, self._mode)

    def locate(self, name: str) -> str:
        return str(self.path(name))

    async def reserve(self, names: Collection[str]) -> None:
        await anyio.to_thread.run_sync(self._reserve, names)

    async def put(self, name: str, content: Content) -> int:
        path = self.path(name)
        if isinstance(content, Pieces) and isinstance(content.origin, Directory):
            return await anyio.to_thread.run_sync(self._copy, path, content)
        if isinstance(content, AsyncIterable):
            return await self._put_stream(path, content)
        blocks = (content,) if isinstance(content, bytes) else content
        return await anyio.to_thread.run_sync(self._put, path, blocks)

    async def write(self, name: str, content: Content) -> int:
        return await self.put(name, content)

    async def replace_own(self, name: str, content: Content) -> int:
        return await self.put(name, content)

    async def publish_if_absent(self, name: str, content: Content) -> bool:
        if await anyio.to_thread.run_sync(os.path.lexists, self.path(name)):
            return False
        await self.put(name, content)
        return True

    async def read(self, name: str, offset: int, length: int) -> bytes:
        return await anyio.to_thread.run_sync(self._read_range, self.path(name), offset, length)

    async def blocks(self, name: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        path = self.path(name)
        file = await _open_stream(path)
        try:
            with disk_errors(path):
                await file.seek(offset)
            while length is None or length > 0:
                with disk_errors(path):
                    block = await file.read(PIECE_BYTES if length is None else min(PIECE_BYTES, length))
                if not block:
                    return
                yield block
                length = None if length is None else length - len(block)
        finally:
            with anyio.CancelScope(shield=True):
                await file.close()

    async def head(self, name: str) -> int | None:
        return await anyio.to_thread.run_sync(self.size, name)

    async def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        for stored in await anyio.to_thread.run_sync(self._find, prefix):
            yield stored

    async def delete(self, *names: str) -> None:
        await anyio.to_thread.run_sync(self._delete, names)

    async def digest(self, name: str) -> str:
        """SHA-256 of an object, in hex."""
        return await anyio.to_thread.run_sync(digest_of, self.path(name))

    def _reserve(self, names: Collection[str]) -> None:
        self.refuse_existing(names)
        for path in map(self.path, names):
            self.make(path.parent)

    def refuse_existing(self, names: Iterable[str]) -> None:
        """Blocking. Raises OutputTaken for the first that there is."""
        for path in map(self.path, names):
            if os.path.lexists(path):
                raise OutputTaken(f"{path} exists already and is not of this run", path=path)

    def _open(self, path: Path) -> DraftFile:
        self.make(path.parent)
        return DraftFile(self._what, path)

    def _put(self, path: Path, blocks: Iterable[bytes]) -> int:
        file = self._open(path)
        try:
            for block in filter(None, blocks):
                file.write(block)
            return file.publish()
        except BaseException:
            file.discard()
            raise

    def _copy(self, path: Path, pieces: Pieces) -> int:
        assert isinstance(pieces.origin, Directory)
        file = self._open(path)
        try:
            for piece in pieces.pieces:
                source = pieces.origin.path(piece.name)
                file.copy(source, piece.offset, piece.length)
                if piece.sha256:
                    # What the kernel has just copied is in memory.
                    with disk_errors(path):
                        pieces.compare(piece, digest_of(source, piece.offset, piece.length))
            return file.publish()
        except BaseException:
            file.discard()
            raise

    async def _put_stream(self, path: Path, blocks: AsyncIterable[bytes]) -> int:
        file = await uncancelled(self._open, path)
        try:
            async for block in blocks:
                await anyio.to_thread.run_sync(file.write, block)
            return await uncancelled(file.publish)
        except BaseException:
            await uncancelled(file.discard)
            raise

    @staticmethod
    def _read_range(path: Path, offset: int, length: int) -> bytes:
        with _open(path) as file:
            return _read(path, file, offset, length)

    def _find(self, prefix: str) -> tuple[Stored, ...]:
        stored = []
        for path in self.path(prefix.rpartition("/")[0]).rglob("*"):
            name = path.relative_to(self.root).as_posix()
            if name.startswith(prefix) and path.suffix != DRAFT and path.is_file():
                stored.append(Stored(name, path.stat().st_size))
        return tuple(sorted(stored, key=lambda entry: entry.name))

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            remove(self._what, self.path(name))


async def _open_stream(path: Path) -> AsyncFileIO:
    with disk_errors(path):
        try:
            with anyio.CancelScope(shield=True):  # or a file opened meanwhile would never be closed
                file = await aiofiles.open(path, "rb", buffering=0)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} is gone") from error
    return file


def _open(path: Path) -> FileIO:
    with disk_errors(path):
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} is gone") from error


def _read(path: Path, file: FileIO, offset: int, length: int) -> bytes:
    with disk_errors(path):
        return os.pread(file.fileno(), length, offset)


def digest_of(path: Path, offset: int = 0, length: int | None = None) -> str:
    """SHA-256 of a file, or of a range of it, in hex; blocking."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        if length is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while length and (block := file.read(min(PIECE_BYTES, length))):
            digest.update(block)
            length -= len(block)
        return digest.hexdigest()
