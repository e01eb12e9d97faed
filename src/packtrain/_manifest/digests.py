"""Digests of the rows that decide: written with each row, checked when it is read.

SQLite does not notice that a value in a page has changed. ``row_digest`` is a function of SQL, so that a digest is made
of the columns as they are stored. A claim (``owner``, ``fence``, ``due``) is left out: it is void at every start.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from .._errors import ManifestDamaged

if TYPE_CHECKING:
    from sqlite3 import Connection

_PLACE = ("run", "shard", "generation")
#: The columns of each table that its digest covers; those that name the row in a message come first.
COLUMNS: dict[str, tuple[str, ...]] = {
    "runs": ("id", "token", "fingerprint", "model", "task", "limits", "joined", "recovered", "cursor", "sha256"),
    "sources": ("run", "position", "name", "size", "mtime_ns"),
    "shards": (*_PLACE, "parent", "cause", "depth", "bytes", "lines", "sha256", "first", "last"),
    "jobs": (
        *(*_PLACE, "state", "attempt", "version", "epoch", "file", "file_expires_at", "tag", "intent_at"),
        *("ambiguous_at", "job", "submitted_at", "result", "reason", "tally"),
    ),
    "sessions": (*_PLACE, "upload"),
    "events": (*_PLACE, "at", "attempt", "event", "before", "after", "detail", "node", "fence"),
    "duplicate_jobs": ("run", "job", "shard", "generation", "attempt", "state"),
}
#: Columns that SQLite stores as floating point, whatever number it is given.
_REAL = frozenset({"file_expires_at", "intent_at", "ambiguous_at", "submitted_at", "at"})
_encoder = msgspec.msgpack.Encoder()


def install(connection: Connection) -> None:
    """Make ``row_digest`` known to SQL."""
    connection.create_function("row_digest", -1, _digest, deterministic=True)


def digest_of(table: str, prefix: str = "", **given: str) -> str:
    """The digest of a row of ``table`` as an expression of SQL: of its columns, or of what is ``given`` for them."""
    values = [_stored(column, given.get(column, f"{prefix}{column}")) for column in COLUMNS[table]]
    return f"row_digest({', '.join(values)})"


def find_changed(connection: Connection) -> str | None:
    """The first row that is not as it was written, in words."""
    for table, columns in COLUMNS.items():
        name = ", ".join(columns[: 3 if columns[:3] == _PLACE else 1])
        found = connection.execute(
            f"SELECT {name} FROM {table} WHERE digest != {digest_of(table)} LIMIT 1"  # noqa: S608 - names from above
        ).fetchone()
        if found is not None:
            return changed(table, found)
    return None


def changed(table: str, place: tuple[object, ...]) -> str:
    return f"a row of {table} is not as it was written ({', '.join(map(str, place))})"


def refuse_changed(table: str, sound: object, *place: object) -> None:
    """Raises ManifestDamaged for a row whose digest does not fit."""
    if sound != 1:
        raise ManifestDamaged(f"the manifest: {changed(table, place)}")


def _stored(column: str, value: str) -> str:
    return f"CAST({value} AS REAL)" if column in _REAL and value.startswith(":") else value


def _digest(*values: object) -> int:
    return int.from_bytes(hashlib.blake2b(_encoder.encode(values), digest_size=8).digest(), "big", signed=True)
