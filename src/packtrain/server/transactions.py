"""Transactions of the store, and the queue entries of the group commit."""

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
#: Rows per portion of a sweep, so that other changes do not wait long.
PORTION = 200
Value = str | int | float | bytes | None
#: Errors caused by the change itself. All other errors of SQLite or the disk concern the store.
_CHANGE_ERRORS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class Transaction:
    """Handed to a change: SQL, and the log entries and blob deletions that take effect with its commit."""

    def __init__(self, connection: sqlite3.Connection, now: float, quotas: Quotas) -> None:
        self._connection = connection
        self.quotas = quotas
        self.released: list[str] = []
        self.entries: list[bytes] = []
        #: Wake those who wait for ``Store.changed``.
        self.notifies = False
        self.now = now

    def change(self, sql: str, *parameters: Value) -> int:
        """Executes a statement; returns the number of affected rows."""
        return self._connection.execute(sql, parameters).rowcount

    def rows(self, kind: type[T], sql: str, *parameters: Value) -> list[T]:
        rows = self._connection.execute(sql, parameters).fetchall()
        return [msgspec.convert(dict(row), kind) for row in rows]

    def row(self, kind: type[T], sql: str, *parameters: Value) -> T | None:
        return next(iter(self.rows(kind, sql, *parameters)), None)

    def number(self, sql: str, *parameters: Value) -> int:
        """The single number that a query returns."""
        (number,) = self._connection.execute(sql, parameters).fetchone()
        return int(number)

    def record(self, what: str, **values: LogValue) -> None:
        """Adds an entry to the audit log."""
        self.entries.append(encode_entry(self.now, what, values))

    def release(self, blob: str) -> None:
        """Deletes the blob after the commit, unless another row still names it."""
        self.released.append(blob)


class Ticket(Generic[T]):
    """A queued change and its outcome."""

    def __init__(self, change: Callable[[Transaction], T]) -> None:
        self._change = change
        self._values: list[T] = []
        self._error: Exception | None = None
        #: It has entries for the audit log.
        self.logs = False
        #: It is durable, or refused.
        self.done = False

    def run(self, transaction: Transaction) -> bool:
        """Runs the change; False when it failed, which rolls back this change only. Raises errors of the store."""
        self._error = None
        transaction.change("SAVEPOINT one")
        try:
            self._values = [self._change(transaction)]
        except Exception as error:
            if isinstance(error, (OSError, sqlite3.Error)) and not isinstance(error, _CHANGE_ERRORS):
                raise
            self._error = error
            transaction.change("ROLLBACK TO one")
        transaction.change("RELEASE one")
        self.logs = bool(transaction.entries) and self._error is None
        return self._error is None

    def fail(self, error: HttpError) -> None:
        """The change, or its log entry, could not be written."""
        self._error, self.done = error, True

    def result(self) -> T:
        if self._error:
            raise self._error
        return self._values[0]
