"""A directory on a local disk as a spool and as a sink."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import AsyncIterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import aiofiles

from .._errors import IncompleteRun, IntegrityError, OutputTaken
from .._options import PIECE_BYTES
from .disk import (
    DRAFT,
    copy_range,
    disk_errors,
    fresh_draft,
    make_directory,
    make_durable,
    make_durable_new,
    open_draft,
    remove,
    write_all,
)
from .storage import Pieces, Stored
from .threads import finish, in_thread, uncancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable
    from io import FileIO
    from pathlib import Path

    from aiofiles.threadpool.binary import AsyncFileIO

    from .storage import Content

T = TypeVar("T")


class DraftFile:
    """A file that gets its name when it is whole and durable; blocking."""

    def __init__(self, what: str, path: Path) -> None:
        self._what = what
        self._path = path
        self._draft = fresh_draft(path)
        with disk_errors(path):
            self._file = open_draft(what, self._draft)

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

    def publish_if_absent(self) -> bool:
        """As ``publish``, unless there is something of this name; then the file is discarded."""
        with disk_errors(self._path):
            if make_durable_new(self._what, self._file, self._draft, self._path):
                return True
        self.discard()
        return False

    def publish_over(self, version: str) -> bool:
        """As ``publish``, over the file of this version; without it the file is discarded."""
        if version_of(self._path) == version:
            self.publish()
            return True
        self.discard()
        return False

    def discard(self) -> None:
        self._file.close()
        with suppress(IncompleteRun):  # the error that led here says more
            remove(self._what, self._draft)


class Directory:
    """Objects are files below ``root``. ``what`` is the word for them in the names of effects.

    ``publish_if_absent`` is one step of the file system. The check of ``replace`` comes right before its rename.
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
        await in_thread(self._reserve, names)

    async def put(self, name: str, content: Content) -> int:
        return await self._store(name, content, DraftFile.publish)

    async def version(self, name: str) -> str | None:
        return await in_thread(version_of, self.path(name))

    async def publish_if_absent(self, name: str, content: Content) -> bool:
        if await in_thread(os.path.lexists, self.path(name)):
            return False
        return await self._store(name, content, DraftFile.publish_if_absent)

    async def replace(self, name: str, content: Content, version: str) -> bool:
        return await self._store(name, content, lambda file: file.publish_over(version))

    async def read(self, name: str, offset: int, length: int) -> bytes:
        return await in_thread(self._read_range, self.path(name), offset, length)

    async def blocks(self, name: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        path = self.path(name)
        end = sys.maxsize if length is None else offset + length
        file = await finish(_open_stream(path, offset))
        try:
            while block := await finish(_read_stream(path, file, min(PIECE_BYTES, end - offset))):
                yield block
                offset += len(block)
        finally:
            await finish(file.close())

    async def head(self, name: str) -> int | None:
        return await in_thread(self.size, name)

    async def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        for stored in await in_thread(self._find, prefix):
            yield stored

    async def delete(self, *names: str) -> None:
        await in_thread(self._delete, names)

    async def digest(self, name: str) -> str:
        """SHA-256 of an object, in hex."""
        return await in_thread(digest_of, self.path(name))

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

    async def _store(self, name: str, content: Content, conclude: Callable[[DraftFile], T]) -> T:
        path = self.path(name)
        if isinstance(content, Pieces) and isinstance(content.origin, Directory):
            return await in_thread(self._fill, path, partial(_copy, content), conclude)
        if isinstance(content, AsyncIterable):
            return await self._store_stream(path, content, conclude)
        return await in_thread(self._fill, path, partial(_write, content), conclude)

    def _fill(self, path: Path, fill: Callable[[DraftFile], None], conclude: Callable[[DraftFile], T]) -> T:
        file = self._open(path)
        try:
            fill(file)
            return conclude(file)
        except BaseException:
            file.discard()
            raise

    async def _store_stream(self, path: Path, blocks: AsyncIterable[bytes], conclude: Callable[[DraftFile], T]) -> T:
        file = await uncancelled(self._open, path)
        try:
            async for block in blocks:
                await in_thread(file.write, block)
            return await uncancelled(conclude, file)
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


def _write(content: bytes | Iterable[bytes], file: DraftFile) -> None:
    for block in filter(None, (content,) if isinstance(content, bytes) else content):
        file.write(block)


def _copy(pieces: Pieces, file: DraftFile) -> None:
    assert isinstance(pieces.origin, Directory)
    for piece in pieces.pieces:
        source = pieces.origin.path(piece.name)
        file.copy(source, piece.offset, piece.length)
        if piece.sha256:
            # What the kernel has just copied is in memory.
            with disk_errors(source):
                pieces.compare(piece, digest_of(source, piece.offset, piece.length))


def version_of(path: Path) -> str | None:
    """The file's place on the disk, its size and its time; None for no file. Blocks."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return f"{found.st_dev:x}-{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"


def _open(path: Path) -> FileIO:
    with disk_errors(path):
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} is gone") from error


async def _open_stream(path: Path, offset: int) -> AsyncFileIO:
    with disk_errors(path):
        try:
            file = await aiofiles.open(path, "rb", buffering=0)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path} is gone") from error
        await file.seek(offset)
    return file


async def _read_stream(path: Path, file: AsyncFileIO, length: int) -> bytes:
    with disk_errors(path):
        return await file.read(length)


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
