"""Changes of the store: what one may do, and how it waits for its turn."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from .audit_log import encode_entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from .audit_log import LogValue
    from .quotas import Quotas
    from .replies import HttpError

T = TypeVar("T")
#: Rows that one portion of a sweep takes, so that nobody waits long for it.
PORTION = 200
Value = str | int | float | bytes | None
#: What a change itself has done wrong. Whatever else SQLite or the disk says is about the store.
_OWN_FAULTS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class Transaction:
    """What one change may do: SQL, and the facts and deletions that come with its commit."""

    def __init__(self, connection: sqlite3.Connection, now: float, quotas: Quotas) -> None:
        self._connection = connection
        self.quotas = quotas
        self.released: list[str] = []
        self.entries: list[bytes] = []
        #: It has put something up that others wait for.
        self.notifies = False
        self.now = now

    def change(self, sql: str, *parameters: Value) -> int:
        """The number of rows that the statement touched."""
        return self._connection.execute(sql, parameters).rowcount

    def rows(self, kind: type[T], sql: str, *parameters: Value) -> list[T]:
        found = self._connection.execute(sql, parameters).fetchall()
        return [msgspec.convert(dict(row), kind) for row in found]

    def row(self, kind: type[T], sql: str, *parameters: Value) -> T | None:
        return next(iter(self.rows(kind, sql, *parameters)), None)

    def number(self, sql: str, *parameters: Value) -> int:
        """What a statement counts."""
        (found,) = self._connection.execute(sql, parameters).fetchone()
        return int(found)

    def record(self, what: str, **entries: LogValue) -> None:
        self.entries.append(encode_entry(self.now, what, entries))

    def release(self, blob: str) -> None:
        """The row that named this blob is gone; its bytes go after the commit, unless another one needs them."""
        self.released.append(blob)


class Ticket(Generic[T]):
    """A change that waits to be written, and how it went."""

    def __init__(self, change: Callable[[Transaction], T]) -> None:
        self._change = change
        self._values: list[T] = []
        self._error: Exception | None = None
        #: What it did is to be told in the log.
        self.logs = False
        #: It is on the disk, or refused.
        self.done = False

    def run(self, transaction: Transaction) -> bool:
        """False when the change failed, which undoes it alone. Raises what is wrong with the store."""
        self._error = None
        transaction.change("SAVEPOINT one")
        try:
            self._values = [self._change(transaction)]
        except Exception as error:
            if isinstance(error, (OSError, sqlite3.Error)) and not isinstance(error, _OWN_FAULTS):
                raise
            self._error = error
            transaction.change("ROLLBACK TO one")
        transaction.change("RELEASE one")
        self.logs = bool(transaction.entries) and self._error is None
        return self._error is None

    def fail(self, error: HttpError) -> None:
        """It could not be written, or not be told."""
        self._error, self.done = error, True

    def result(self) -> T:
        if self._error:
            raise self._error
        return self._values[0]
