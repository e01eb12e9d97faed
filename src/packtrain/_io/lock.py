"""Lock of a state directory: an flock, which the kernel frees when the process ends."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import stat
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from .._errors import InUse, UnsafeDirectory
from .disk import disk_errors, disk_trouble, make_directory, open_private, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNTS = Path("/proc/self/mountinfo")
#: On these, locks and syncs do not promise what SQLite needs; those of FUSE are known by their prefix.
NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2"}
    | {"orangefs", "smb3", "smbfs"}
)
#: A process that asks for the holder takes the lock for an instant, which is no reason to refuse a driver.
TRIES, PAUSE = 20, 0.01


class Holder(Struct, frozen=True, kw_only=True):
    """The process that holds a state directory; written into its lock file for the messages of others."""

    pid: int
    host: str
    since: str
    command: str


@contextmanager
def hold(directory: Path, *, mounts: Path = MOUNTS) -> Iterator[None]:
    """Hold the state directory, created with mode 0700 if it is missing, until the block ends.

    Blocks on nothing but the disk. Raises InUse at once if another process, or another handle of this one, holds it,
    and UnsafeDirectory for a symlink, a directory of another user, open to writes of others, or on a network file
    system.
    """
    try:
        make_directory("state", directory, 0o700)
        _inspect(directory, mounts)
        lock = open_private("lock", directory / "lock", os.O_RDWR)
    except OSError as error:
        raise disk_trouble(directory, error) or UnsafeDirectory(
            f"{directory}: cannot be the state directory ({error.strerror})", path=directory
        ) from error
    with lock:
        _take(directory, lock)
        yield


def holder(directory: Path) -> str | None:
    """The process that holds the state directory, in words; None for none. Blocks on nothing but the disk."""
    try:
        lock = os.open(directory / "lock", os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnsafeDirectory(f"{directory}: cannot be read ({error.strerror})", path=directory) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _signature(lock)
    else:
        return None
    finally:
        os.close(lock)


def file_system(device: int, mountinfo: str) -> str | None:
    """The type of the mounted file system with this device number (``st_dev``), as /proc/self/mountinfo has it."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split(" ")[2] == number:
            return source.split(" ")[0]
    return None


def _inspect(directory: Path, mounts: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeDirectory(f"{directory}: the state directory is a link, or no directory", path=directory)
    if found.st_uid != os.geteuid():
        raise UnsafeDirectory(f"{directory}: belongs to another user", path=directory)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeDirectory(f"{directory}: others may write there", path=directory)
    kind = file_system(found.st_dev, mounts.read_text("utf-8", "replace")) if mounts.exists() else None
    if kind is not None and (kind in NETWORK or kind == "fuse" or kind.startswith("fuse.")):
        raise UnsafeDirectory(
            f"{directory}: is on a network file system ({kind}), where a manifest is not safe", path=directory
        )


def _take(directory: Path, lock: BinaryIO) -> None:
    handle = lock.fileno()
    if not _locked(handle):
        raise InUse(f"{directory} is in use by {_signature(handle)}", path=directory)
    with disk_errors(directory):
        lock.truncate(0)
        write_all("lock", lock, msgspec.json.encode(_myself()))


def try_lock(lock: int) -> bool:
    """Lock an open file for this process alone; False while another one has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked(handle: int) -> bool:
    for _ in range(TRIES):
        if try_lock(handle):
            return True
        time.sleep(PAUSE)
    return False


def _myself() -> Holder:
    command = shlex.join(sys.argv)[:200]
    return Holder(
        pid=os.getpid(),
        host=socket.gethostname(),
        since=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        # Arguments need not be Unicode, JSON must be.
        command=command.encode("utf-8", "backslashreplace").decode(),
    )


def _signature(lock: int) -> str:
    try:
        signed = msgspec.json.decode(os.pread(lock, 4096, 0), type=Holder)
    except msgspec.DecodeError:
        # It holds the lock since a moment ago and has not signed yet.
        return "another process"
    return f"process {signed.pid} on {signed.host} since {signed.since} ({signed.command})"
