"""How a file comes to stand: every write that must last, each an effect of its own.

A file gets its name only when it is whole and durable: a draft in the same directory, write, fsync, rename, fsync of
the directory. ``what`` is the word for the file in the names of its effects. All functions block, and raise OSError;
``disk_errors`` makes of it what a person can act on.
"""

from __future__ import annotations

import contextlib
import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from .._errors import IncompleteRun
from .._options import GIB, MIB, PIECE_BYTES
from .effects import effect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Written bytes that the disk is told of at once.
WRITEBACK_BYTES = 16 * MIB
#: The disk takes no more.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: One call of the kernel; Linux moves at most 2 GB at once.
_MOST_AT_ONCE = GIB


def open_private(what: str, path: Path, flags: int = os.O_WRONLY | os.O_TRUNC) -> BinaryIO:
    """A file that only its owner reads, made if missing; a symbolic link in its place is not followed."""
    with effect(f"{what}.open"):
        handle = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return os.fdopen(handle, "r+b" if flags & os.O_RDWR else "wb", buffering=0)


def write_all(what: str, file: BinaryIO, data: bytes | bytearray | memoryview) -> None:
    with effect(f"{what}.write"):
        _write(file, data)


def _write(file: BinaryIO, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def copy_range(what: str, source: BinaryIO, offset: int, length: int, target: BinaryIO) -> None:
    """Append a piece of one file to another: by the kernel where it can, which may be without moving a byte.

    Ends early when the source does.
    """
    with effect(f"{what}.write"):
        end = offset + length
        try:
            while offset < end and (
                moved := os.copy_file_range(source.fileno(), target.fileno(), min(end - offset, _MOST_AT_ONCE), offset)
            ):
                offset += moved
            return
        except (AttributeError, OSError) as error:  # the system, or the pair of file systems, has no such call
            if isinstance(error, OSError) and error.errno in FULL | {errno.EIO}:
                raise
        while offset < end and (piece := os.pread(source.fileno(), min(end - offset, PIECE_BYTES), offset)):
            _write(target, piece)
            offset += len(piece)


def truncate(what: str, file: BinaryIO, size: int) -> None:
    """Let go of what stands behind ``size`` bytes, and write on from there."""
    with effect(f"{what}.truncate"):
        file.truncate(size)
        file.seek(size)


def start_writeback(file: BinaryIO, start: int, end: int) -> int:
    """Let the disk begin with what was written, so that a later ``sync`` finds little left; returns where that ends.

    To give it up from the cache is the portable way to say so: pages that are not on disk yet stay there.
    """
    if end - start < WRITEBACK_BYTES or not hasattr(os, "posix_fadvise"):
        return start
    with contextlib.suppress(OSError):  # a file system may know no such advice
        os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)
    return end


def sync(what: str, file: BinaryIO) -> None:
    """An error of it is the end: the kernel may have dropped what it could not write, so a second try would lie."""
    with effect(f"{what}.fsync"):
        os.fsync(file.fileno())


def rename(what: str, path: Path, final: Path) -> None:
    with effect(f"{what}.rename"):
        path.rename(final)


def sync_directory(what: str, directory: Path) -> None:
    """Make the names in a directory durable."""
    with effect(f"{what}.dirsync"):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_durable(what: str, file: BinaryIO, draft: Path, final: Path) -> None:
    """Make a written file durable under its final name."""
    sync(what, file)
    file.close()
    rename(what, draft, final)
    sync_directory(what, final.parent)


def make_directory(what: str, directory: Path, mode: int = 0o777) -> None:
    """With its parents, as far as they are missing, and durable; its own mode is ``mode``."""
    if not os.path.lexists(directory):
        make_directory(what, directory.parent)
        with effect(f"{what}.mkdir"):
            directory.mkdir(mode, exist_ok=True)
        sync_directory(what, directory.parent)


def remove(what: str, path: Path) -> None:
    """Gone already is fine. Raises IncompleteRun."""
    with disk_errors(path), effect(f"{what}.remove"):
        path.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Translate what a disk may answer to a write."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error


def disk_trouble(path: Path, error: OSError) -> IncompleteRun | None:
    """The error of a disk that is full or failing; None for what is wrong with the path itself."""
    return disk_error(path, error) if error.errno in FULL | {errno.EIO} else None


def disk_error(path: Path, error: OSError) -> IncompleteRun:
    why, cure = error.strerror, "put that right"
    if error.errno == errno.EFBIG:
        why, cure = "the file passes the limit on file sizes (ulimit -f, or the file system's)", "raise that"
    elif error.errno in FULL:
        why, cure = "the disk is full", "make room"
    return IncompleteRun(f"{path}: {why}. Nothing is lost: {cure}, then start the same command again.")
