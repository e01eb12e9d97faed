"""The database file: made whole or not at all, checked at every start, migrated, held by one connection."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from .._errors import (
    DiskFailed,
    DiskFull,
    InUse,
    ManifestDamaged,
    ManifestError,
    ManifestGone,
    NewerSchema,
    PacktrainError,
)
from .._io.disk import disk_errors, disk_trouble, open_private, remove, rename, sync_directory
from .._io.effects import effect
from .._io.lock import hold
from .guard import admit
from .identity import identify
from .witness import read_tokens, tokens_of

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


def log_of(path: Path) -> Path:
    """Commits that are not in the database file yet; SQLite plays it into whatever stands there under that name."""
    return path.with_name(f"{path.name}-wal")


@contextmanager
def open_database(path: Path, admission: Admission = admit) -> Iterator[sqlite3.Connection]:
    """The one connection to the manifest at ``path``, made if missing; blocks, so it belongs in a thread.

    It holds the directory of ``path``; ``admission`` may refuse a manifest that is whole. Every sqlite3.Error in the
    block leaves it as a ManifestError, or as DiskFull or DiskFailed when it is the disk that refuses.
    """
    try:
        with disk_errors(path), hold(path.parent):
            if sqlite3.sqlite_version_info < OLDEST:
                raise ManifestError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or later is needed")
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
                    connection.execute("UPDATE jobs SET claimed = 0 WHERE claimed = 1")
                yield connection
    except sqlite3.Error as error:
        raise _trouble(path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None)


def _create_missing(path: Path) -> None:
    try:
        if not path.exists():
            _create(path)
    except OSError as error:
        raise disk_trouble(path, error) or ManifestError(f"{path}: {error.strerror}") from error


def _create(path: Path) -> None:
    """Under another name first, so that a file with the right name was complete once."""
    if log_of(path).exists():
        raise _damaged(path, "it is gone, its log is not")
    if tokens_of(path).exists():
        raise _lost(path)
    draft = path.with_name(f"{path.name}.new")
    remove("manifest", draft)
    remove("manifest", draft.with_name(f"{draft.name}-journal"))
    open_private("manifest", draft, os.O_WRONLY | os.O_EXCL).close()
    with closing(_connect(draft)) as connection:
        _migrate(draft, connection)
    rename("manifest", draft, path)
    sync_directory("manifest", path.parent)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, verdict.splitlines()[-1])
    if _version(connection) == 0:
        raise _damaged(path, "it holds no manifest")


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    scripts = sorted(files(__package__).joinpath("sql").iterdir(), key=lambda script: script.name)
    version = _version(connection)
    if version > len(scripts):
        raise NewerSchema(
            f"{path}: was written by a newer packtrain (schema {version}, this one knows {len(scripts)})", path=path
        )
    if version == len(scripts):
        return
    # A script may rebuild a table that others refer to; SQLite takes this setting only outside a transaction.
    connection.execute("PRAGMA foreign_keys = OFF")
    for number, script in enumerate(scripts[version:], start=version + 1):
        with effect("manifest.migrate"):
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script.read_text('utf-8')}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
    connection.execute("PRAGMA foreign_keys = ON")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _damaged(path: Path, how: str) -> ManifestDamaged:
    return ManifestDamaged(f"{path}: damaged ({how})", path=path)


def _lost(path: Path) -> ManifestGone:
    return ManifestGone(
        f"{path}: is gone, and with it the knowledge of jobs that may still run and cost money",
        path=path,
        runs=[(token.run, token.model) for token in read_tokens(path)],
    )


def _trouble(path: Path, error: sqlite3.Error) -> PacktrainError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return _damaged(path, str(error))
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
