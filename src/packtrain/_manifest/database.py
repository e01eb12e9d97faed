"""The database file of the manifest: created whole or not at all, checked at every start, migrated, one connection."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from .._errors import DiskFailed, DiskFull, InUse, ManifestError, PacktrainError
from .._io.disk import disk_errors, disk_trouble, open_private, remove, rename, sync_directory
from .._io.effects import effect
from .._io.lock import hold
from .._io.sqlite_writer import migrate, schema_version
from . import queries
from .checks import page_flaws
from .digests import install
from .guard import admit, damaged, refuse_lost
from .identity import identify
from .statements import migrations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .identity import Identity

    Admission = Callable[[Path, Identity, sqlite3.Connection], None]

#: Strict tables came with this version.
OLDEST = (3, 37, 0)
#: Exclusive before WAL: then SQLite keeps its index of the log in memory and shares no file.
ALONE = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;"
#: FULL syncs every commit (fullfsync does on macOS what fsync does elsewhere); secure_delete wipes ended sessions.
SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA fullfsync = ON;
PRAGMA checkpoint_fullfsync = ON;
PRAGMA foreign_keys = ON;
PRAGMA secure_delete = ON;
"""
#: Of errors about a text that is not UTF-8, to which SQLite gives no name.
_UNREADABLE = ("Could not decode to UTF-8", "user-defined function raised exception")


@contextmanager
def open_database(
    path: Path, admission: Admission = admit, clock: Callable[[], float] = time.time
) -> Iterator[sqlite3.Connection]:
    """The one connection to the manifest at ``path``, created if missing; blocks, so it belongs in a thread.

    Holds the directory of ``path``; ``admission`` may refuse a manifest that is whole. Every sqlite3.Error in the
    block is raised as a ManifestError, or as an IncompleteRun when the disk refuses.
    """
    try:
        with disk_errors(path), hold(path.parent):
            if sqlite3.sqlite_version_info < OLDEST:
                raise ManifestError(f"SQLite {sqlite3.sqlite_version} is too old, 3.37 is needed")
            refuse_lost(path)
            _create_missing(path)
            identity = identify(path)
            with closing(_connect(path)) as connection:
                connection.executescript(ALONE)
                _check(path, connection)
                with effect("manifest.settings"):
                    connection.executescript(SETTINGS)
                _migrate(path, connection)
                admission(path, identity, connection)
                with effect("manifest.claims"):
                    queries.void_claims(clock(), connection)
                yield connection
    except sqlite3.Error as error:
        raise _trouble(path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    install(connection)
    return connection


def _create_missing(path: Path) -> None:
    try:
        if not path.exists():
            _create(path)
    except OSError as error:
        raise disk_trouble(path, error) or ManifestError(f"{path}: {error.strerror}") from error


def _create(path: Path) -> None:
    """Under another name first, so that a file with the right name was complete once."""
    draft = path.with_name(f"{path.name}.new")
    remove("manifest", draft)
    remove("manifest", draft.with_name(f"{draft.name}-journal"))
    open_private("manifest", draft, os.O_WRONLY | os.O_EXCL).close()
    with closing(_connect(draft)) as connection:
        _migrate(draft, connection)
    rename("manifest", draft, path)
    sync_directory("manifest", path.parent)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    if (flaw := next(page_flaws(connection, 1), None)) is not None:
        raise damaged(path, flaw)
    if schema_version(connection) == 0:
        raise damaged(path, "it holds no manifest")


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    try:
        migrate(path, connection, migrations(), "manifest.migrate")
    except sqlite3.IntegrityError as error:
        raise damaged(path, str(error)) from error


def _trouble(path: Path, error: sqlite3.Error) -> PacktrainError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or any(word in str(error) for word in _UNREADABLE):
        return damaged(path, str(error))
    if name.startswith("SQLITE_BUSY"):
        return InUse(f"{path}: another program has it open", path=path)
    if name.startswith("SQLITE_FULL"):
        return DiskFull(f"{path}: the disk is full", path=path)
    if name.startswith("SQLITE_IOERR"):
        return DiskFailed(
            f"{path}: cannot be written or read ({name}: {error}), as on a full disk, past a limit on file sizes, or "
            "on a failing disk",
            path=path,
        )
    return ManifestError(f"{path}: {error} ({name or type(error).__name__})")
