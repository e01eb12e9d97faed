"""Blobs: byte files with random names. A name chosen by a client never becomes a path."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from .._options import MIB, PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: Bytes written between two writeback hints to the kernel.
PUSH_BYTES = 8 * MIB


class Digest:
    """Running SHA-256 and length."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.bytes = 0

    def update(self, piece: bytes | memoryview) -> None:
        self._hash.update(piece)
        self.bytes += len(piece)

    def copy(self) -> Digest:
        copied = Digest()
        copied._hash, copied.bytes = self._hash.copy(), self.bytes
        return copied

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class Appender:
    """Appends to a blob and keeps the digest of its content. Use as a context manager."""

    def __init__(self, fd: int, digest: Digest) -> None:
        self._fd = fd
        self._pushed = digest.bytes
        self.digest = digest

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self, piece: bytes | memoryview) -> None:
        """Atomic, but not synced: an error leaves the file as it was."""
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, self.digest.bytes)
            raise
        self.digest.update(piece)
        if self.digest.bytes - self._pushed >= PUSH_BYTES:
            self._push()

    def write_all(self, pieces: Iterable[bytes]) -> None:
        """Atomic: an error leaves the file as it was."""
        with self.atomic():
            for piece in pieces:
                self.write(piece)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Truncates what the block has written if it fails."""
        before = self.digest.copy()
        try:
            yield
        except BaseException:
            os.ftruncate(self._fd, before.bytes)
            self.digest = before
            raise

    def _push(self) -> None:
        # On Linux this hint starts writeback of dirty pages, which keeps the final sync short.
        if hasattr(os, "posix_fadvise"):
            length = self.digest.bytes - self._pushed
            os.posix_fadvise(self._fd, self._pushed, length, os.POSIX_FADV_DONTNEED)
        self._pushed = self.digest.bytes


class Blobs:
    """A directory of blobs. Every method blocks: call it in a worker thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._directory)

    def create(self) -> str:
        name = secrets.token_hex(16)
        os.close(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        return name

    def size(self, name: str) -> int:
        return os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_size

    def reader(self, name: str) -> BinaryIO:
        return os.fdopen(self._open(name, os.O_RDONLY), "rb", PIECE_BYTES)

    def appender(self, name: str, digest: Digest) -> Appender:
        """``digest`` is that of the bytes in the blob."""
        return Appender(self._open(name, os.O_WRONLY | os.O_APPEND), digest)

    def digest(self, name: str) -> Digest:
        """Reads the whole blob."""
        digest = Digest()
        with self.reader(name) as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
        return digest

    def fill(self, name: str, content: bytes) -> None:
        """Writes and syncs."""
        with self.appender(name, Digest()) as file:
            file.write(content)
        self.sync(name)

    def sync(self, name: str) -> None:
        """Syncs content and directory entry."""
        fd = self._open(name, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.fsync(self._directory)
        finally:
            os.close(fd)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                os.unlink(name, dir_fd=self._directory)
            except FileNotFoundError:
                continue

    def names(self) -> list[str]:
        return os.listdir(self._directory)  # noqa: PTH208 - a Path cannot go by a descriptor

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
