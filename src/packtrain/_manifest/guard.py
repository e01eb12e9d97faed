"""Guards of a state directory: refuse a manifest that is lost, damaged, a copy or older than its witness.

Also what an adoption changes, and what is written next to the database so that these guards can decide.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from .._errors import ManifestDamaged, ManifestGone, Restored
from .._io.effects import effect
from .._validation import counted
from . import queries
from .identity import Identity, difference
from .witness import Token, note_token, read_tokens, read_witness, tokens_of, write_witness

if TYPE_CHECKING:
    from pathlib import Path
    from sqlite3 import Connection

    from .._model import Run


def log_of(path: Path) -> Path:
    """Commits that are not in the database file yet; SQLite plays it into any database of that name."""
    return path.with_name(f"{path.name}-wal")


def admit(path: Path, now: Identity, connection: Connection) -> None:
    """Raises Restored for a manifest that is not, or no longer, the one that it was at its last start."""
    if _identity(connection) is None:
        _settle(path, now, connection)
    elif (reason := doubt(path, now, connection)) is not None:
        raise Restored(
            f"{path}: {reason}, so it may not know of all jobs that were made and paid for", state=path.parent
        )


def doubt(path: Path, now: Identity, connection: Connection) -> str | None:
    """Why this manifest may have forgotten something; None when there is no reason to think so."""
    then, witness = _identity(connection), read_witness(path)
    changed = None if then is None else difference(then, now)
    if changed is not None:
        return changed
    if witness is None:
        return "its witness file is gone or damaged"
    if witness.instance != queries.instance(connection):
        return "its witness file is that of another manifest"
    known = queries.last_event(connection)
    if known < witness.event:
        events = counted(known, "event")
        return f"it knows {events} where there were {witness.event}: an older copy was put back, or its log was lost"
    return None


def take_over(path: Path, now: Identity, connection: Connection) -> None:
    """Go on with this copy by a person's decision: under another name, and with every unsent shard in doubt."""
    with effect("manifest.adopt"):
        connection.execute("BEGIN IMMEDIATE")
        queries.leave_instance(secrets.token_hex(4), time.time(), connection)
        queries.doubt_unsent(time.time(), connection)
        connection.execute("COMMIT")
    _settle(path, now, connection)


def note_run(path: Path, run: Run) -> None:
    """Write down next to the manifest what ``recover`` needs to know of a run; durable on return. Blocks."""
    note_token(path, Token(run.token, run.id, run.model, run.task))


def note_create(path: Path, instance: str, event: int) -> None:
    """Write down that a create may go out after this event; durable on return. Blocks."""
    write_witness(path, instance, event)


def refuse_lost(path: Path) -> None:
    """Raises ManifestGone or ManifestDamaged when there was a manifest at ``path``, where there is none."""
    if log_of(path).exists():
        raise damaged(path, "it is gone, its log is not")
    if tokens_of(path).exists():
        raise ManifestGone(
            f"{path} is gone, and with it the knowledge of jobs that may still run and cost money",
            path=path,
            runs=[(token.run, token.model) for token in read_tokens(path)],
        )


def damaged(path: Path, how: str) -> ManifestDamaged:
    return ManifestDamaged(f"{path}: damaged ({how})", path=path)


def _settle(path: Path, now: Identity, connection: Connection) -> None:
    """The witness first: an identity says that there is one."""
    write_witness(path, queries.instance(connection), queries.last_event(connection))
    with effect("manifest.identity"):
        queries.set_identity(msgspec.json.encode(now).decode(), connection)


def _identity(connection: Connection) -> Identity | None:
    text = queries.identity(connection)
    return None if text is None else msgspec.json.decode(text, type=Identity)
