"""Whether a manifest is the one by which its jobs were made, and what a person's word changes about that."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from .._errors import Restored
from .._io.effects import effect
from .._validation import counted
from . import queries
from .identity import Identity, difference
from .witness import read_witness, write_witness

if TYPE_CHECKING:
    from pathlib import Path
    from sqlite3 import Connection


def admit(path: Path, now: Identity, connection: Connection) -> None:
    """Raises Restored for a manifest that is not, or no longer, the one that it was at its last start."""
    if _identity(connection) is None:
        _settle(path, now, connection)
    elif (reason := doubt(path, now, connection)) is not None:
        raise Restored(
            f"{path}: {reason}, so it may not know of all jobs that were created and paid for", state=path.parent
        )


def doubt(path: Path, now: Identity, connection: Connection) -> str | None:
    """Why this manifest may have forgotten something; None when there is no reason to think so."""
    then, witness = _identity(connection), read_witness(path)
    changed = None if then is None else difference(then, now)
    if changed is not None:
        return changed
    if witness is None:
        return "its witness, the file beside it, is gone or damaged"
    if witness.instance != queries.instance(connection):
        return "the witness beside it is that of another manifest"
    known = queries.last_event(connection)
    if known < witness.event:
        events = counted(known, "event")
        return f"it knows {events} where there were {witness.event}: an older copy was put back, or its log was lost"
    return None


def take_over(path: Path, now: Identity, connection: Connection) -> None:
    """A person says that this copy goes on: it gets another name, and whatever it may have forgotten is in doubt."""
    with effect("manifest.adopt"):
        connection.execute("BEGIN IMMEDIATE")
        queries.leave_instance(secrets.token_hex(4), time.time(), connection)
        queries.doubt_unsent(time.time(), connection)
        connection.execute("COMMIT")
    _settle(path, now, connection)


def _settle(path: Path, now: Identity, connection: Connection) -> None:
    """The witness first: an identity says that there is one."""
    write_witness(path, queries.instance(connection), queries.last_event(connection))
    with effect("manifest.identity"):
        connection.execute("UPDATE meta SET identity = ?", (msgspec.json.encode(now).decode(),))


def _identity(connection: Connection) -> Identity | None:
    (text,) = connection.execute("SELECT identity FROM meta").fetchone()
    return None if text is None else msgspec.json.decode(text, type=Identity)
