"""Durable writes to a local disk, each an effect of its own.

A file gets its name only when it is whole and durable: a draft in the same directory, write, fsync, rename, fsync of
the directory. A draft is always a new file: one that another user made before would stay open to them. ``what`` is the
word for the file in the names of its effects. All functions block, and raise OSError, which ``disk_errors`` translates.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar, TypeVarTuple

from .._errors import DiskFailed, DiskFull
from .._options import GIB, PIECE_BYTES, WRITEBACK_BYTES
from .effects import effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: The ending of files that are not whole yet.
DRAFT = ".tmp"
#: Errors of a disk that is full.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: One call of the kernel; Linux moves at most 2 GB at once.
_MOST_AT_ONCE = GIB
#: In the name of a draft that other users must not guess.
_RANDOM_BYTES = 8
_FRESH = re.compile(rf"\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}{re.escape(DRAFT)}$")
#: Errors of file systems without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
#: Of renameat2: relative to the working directory, and fail when the new name is in use.
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


def open_private(what: str, path: Path, flags: int) -> BinaryIO:
    """A file that only its owner reads, made if missing. A symbolic link in its place is not followed, and a file of
    another user is not used."""
    with effect(f"{what}.open"):
        handle = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.fstat(handle).st_uid != os.geteuid():
        os.close(handle)
        raise OSError(errno.EPERM, "belongs to another user", str(path))
    return os.fdopen(handle, "r+b" if flags & os.O_RDWR else "wb", buffering=0)


def open_draft(what: str, path: Path) -> BinaryIO:
    """A new file that only its owner reads; what a crash left under this name is removed, and never written to."""
    with effect(f"{what}.open"):
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return os.fdopen(handle, "wb", buffering=0)


def draft(path: Path) -> Path:
    """The name of a file until it is whole, in a directory that no other user writes to."""
    return path.with_name(path.name + DRAFT)


def fresh_draft(path: Path) -> Path:
    """As ``draft``, in any directory: a name that cannot be guessed, so that no other user has made it before."""
    return path.with_name(f"{path.name}.{secrets.token_hex(_RANDOM_BYTES)}{DRAFT}")


def undrafted(name: str) -> str:
    """The name of the file that a draft of either kind, named ``name``, is made for; ``name`` itself for others."""
    return _FRESH.sub("", name).removesuffix(DRAFT)


def is_leftover(path: Path) -> bool:
    """A fresh draft, and this user's own. Blocks."""
    return _FRESH.search(path.name) is not None and path.lstat().st_uid == os.geteuid()


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
    """Cut the file to ``size`` bytes, and go on writing there."""
    with effect(f"{what}.truncate"):
        file.truncate(size)
        file.seek(size)


def start_writeback(file: BinaryIO, start: int, end: int) -> int:
    """Let the disk begin with what was written, so that a later ``sync`` finds little left; returns where that ends.

    Dropping it from the cache is the portable way to ask for that: pages that are not on disk yet stay in the cache.
    """
    if end - start < WRITEBACK_BYTES or not hasattr(os, "posix_fadvise"):
        return start
    with contextlib.suppress(OSError):  # a file system may know no such advice
        os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)
    return end


def sync(what: str, file: BinaryIO) -> None:
    """Not to be tried again: the kernel may drop data after an error, and the second call succeed."""
    with effect(f"{what}.fsync"):
        os.fsync(file.fileno())


def rename(what: str, path: Path, final: Path) -> None:
    with effect(f"{what}.rename"):
        path.rename(final)


def rename_new(what: str, path: Path, final: Path) -> bool:
    """As ``rename``, but returns False, and changes nothing, when there is something of the name ``final``."""
    try:
        with effect(f"{what}.rename"):
            os.link(path, final, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_without_link(what, path, final)
    with effect(f"{what}.unlink"):
        path.unlink()
    return True


def _rename_without_link(what: str, path: Path, final: Path) -> bool:
    """By a call of Linux; where there is none either, another program may still come between the look and the name."""
    with effect(f"{what}.rename"):
        done = _rename_noreplace(path, final)
        if done is None:
            done = not os.path.lexists(final)
            if done:
                path.rename(final)
        return done


def _rename_noreplace(path: Path, final: Path) -> bool | None:
    """None where system or file system has no such call."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return None
    if not call(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(final), _RENAME_NOREPLACE):
        return True
    number = ctypes.get_errno()
    if number not in {errno.EEXIST, *_NO_LINKS}:
        raise OSError(number, os.strerror(number), str(final))
    return False if number == errno.EEXIST else None


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


def make_durable_new(what: str, file: BinaryIO, draft: Path, final: Path) -> bool:
    """As ``make_durable``, but returns False, and leaves the draft, when there is something of the final name."""
    sync(what, file)
    file.close()
    if not rename_new(what, draft, final):
        return False
    sync_directory(what, final.parent)
    return True


def make_directory(what: str, directory: Path, mode: int = 0o777) -> None:
    """With its parents, as far as they are missing, and durable; its own mode is ``mode``."""
    if not os.path.lexists(directory):
        make_directory(what, directory.parent)
        with effect(f"{what}.mkdir"):
            directory.mkdir(mode, exist_ok=True)
        sync_directory(what, directory.parent)


def remove(what: str, path: Path) -> None:
    """Gone already is fine. Raises DiskFull or DiskFailed."""
    with disk_errors(path), effect(f"{what}.remove"):
        path.unlink(missing_ok=True)


def remove_tree(what: str, path: Path) -> None:
    """A directory with all its files, as far as the system lets one; gone already is fine."""
    with effect(f"{what}.remove"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Translate OSError of a write."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error


def disk_trouble(path: Path, error: OSError) -> DiskFull | DiskFailed | None:
    """The error of a disk that is full or failing; None for what is wrong with the path itself."""
    return disk_error(path, error) if error.errno in FULL | {errno.EIO} else None


def disk_error(path: Path, error: OSError) -> DiskFull | DiskFailed:
    if error.errno == errno.EFBIG:
        limit = "the file passes the limit on file sizes (ulimit -f, or the file system's)"
        return DiskFull(f"{path}: {limit}", path=path, limit=True)
    if error.errno in FULL:
        return DiskFull(f"{path}: the disk is full", path=path)
    return DiskFailed(f"{path}: {error.strerror}", path=path)


class WriteBehind:
    """A file that a thread of its own writes while the next piece is made.

    Takes pieces in order. At most one is being written: the next one waits for it, and raises its error. The disk is
    asked to begin early, so that a later sync finds little left to do.
    """

    def __init__(self, what: str, path: Path) -> None:
        self._what = what
        self._path = path
        self._file = open_draft(what, path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"packtrain-{what}")
        self._writing: Future[None] | None = None
        self._begun = 0

    def close(self) -> None:
        self._thread.shutdown()
        self._file.close()

    def write(self, data: bytes | bytearray) -> None:
        """``data`` must not be changed from now on."""
        self._begin(partial(write_all, self._what, self._file, data))

    def append(self, copy: Callable[[str, BinaryIO], None]) -> None:
        """Have ``copy`` append to the file; it gets the word for the file and the file."""
        self._begin(partial(copy, self._what, self._file))

    def cut_to(self, size: int) -> None:
        self._wait()
        with disk_errors(self._path):
            truncate(self._what, self._file, size)
        self._begun = min(self._begun, size)

    def size(self) -> int:
        self._wait()
        return self._file.tell()

    def _begin(self, act: Callable[[], None]) -> None:
        self._wait()
        # The context holds the armed failpoints.
        self._writing = self._thread.submit(copy_context().run, self._perform, act)

    def _perform(self, act: Callable[[], None]) -> None:
        with disk_errors(self._path):
            act()
            self._begun = start_writeback(self._file, self._begun, self._file.tell())

    def _wait(self) -> None:
        if self._writing:
            self._writing.result()
