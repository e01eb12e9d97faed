"""Group commit for SQLite, and its migrations: the one copy for manifest and local service.

One thread has the one connection. A commit costs a sync of the disk, an operation a few microseconds, so all operations
that were queued during one commit share the next. Each operation has a savepoint of its own: one that fails does not
undo the others. A failed commit is never tried again, since the kernel may have dropped the pages that it could not
write.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import copy_context
from copy import copy
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from anyio import CapacityLimiter, Event, Semaphore

from .._errors import Conflict, ManifestError, NewerSchema, PacktrainError
from .effects import effect
from .threads import uncancelled, until

if TYPE_CHECKING:
    from pathlib import Path

S = TypeVar("S")
T = TypeVar("T")

#: Operations that may wait for their commit; more callers are held back.
WAITING = 1000


class Call(Generic[S]):
    """A queued operation. ``label`` is what it changes, in the names of effects; None when it only reads."""

    __slots__ = ("answered", "error", "label", "operation")

    def __init__(self, operation: Callable[[S], None], label: str | None) -> None:
        self.operation = operation
        self.label = label
        self.answered = Event()
        #: Set when the operation is refused; it is then raised where the operation was asked for.
        self.error: Exception | None = None


Group = Sequence[Call[S]]


@asynccontextmanager
async def open_writer(
    connect: Callable[[], AbstractContextManager[S]],
    commit: Callable[[S, Group[S]], None] | None = None,
    *,
    name: str,
) -> AsyncIterator[Writer[S]]:
    """A writer whose thread ends, with every accepted operation answered, before the block is left.

    ``connect`` runs in the thread and turns every error of SQLite into a PacktrainError. ``commit`` performs a group of
    operations and makes it durable, or raises; by default ``commit_group`` on a connection, its effects named for
    ``name``.
    """
    writer: Writer[S] = Writer(name, commit or partial(commit_group, name))
    thread = Thread(target=copy_context().run, args=(writer.work, connect), name=f"packtrain {name}")
    thread.start()
    try:
        yield writer
    finally:
        writer.close()
        await uncancelled(thread.join, limiter=CapacityLimiter(1))


class Writer(Generic[S]):
    """Queues operations for the thread. Made by ``open_writer``."""

    def __init__(self, name: str, commit: Callable[[S, Group[S]], None]) -> None:
        self._name = name
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._slots = Semaphore(WAITING, fast_acquire=True)
        self._calls: SimpleQueue[Call[S] | None] = SimpleQueue()
        self._group: list[Call[S]] = []
        self._closed = False
        #: A commit has failed, so the outcome of its operations is unknown; every later one is refused.
        self.failed = False

    async def run(self, operation: Callable[[S], T], label: str | None = None) -> T:
        """The operation's value, once it is durable. ``label`` names what it changes; None when it only reads.

        Cancelled before it is accepted, it never runs; afterwards its outcome is awaited whatever happens.
        Raises the error of the operation; after a failed commit, the error of that commit from then on.
        """
        values: list[T] = []
        async with self._slots:
            if self._closed:
                raise ManifestError(f"this {self._name} was closed")
            call = Call[S](lambda store: values.append(operation(store)), label)
            self._calls.put(call)
            await until(call.answered)
        if call.error is not None:
            raise call.error
        return values[0]

    def close(self) -> None:
        self._closed = True
        self._calls.put(None)

    def work(self, connect: Callable[[], AbstractContextManager[S]]) -> None:
        """The thread: serve until closed; after a failure, refuse until closed."""
        try:
            with connect() as store:
                while self._take():
                    self._commit(store, self._group)
                    self._answer()
        except PacktrainError as error:
            self._refuse(error)
        except BaseException:
            self._refuse(ManifestError(f"the thread of the {self._name} has failed"))
            raise

    def _take(self) -> bool:
        """Wait for calls and group those that are queued; False when there will be no more."""
        call = self._calls.get()
        while call is not None:
            self._group.append(call)
            if self._calls.empty():
                return True
            call = self._calls.get()
        # The end stays in the queue for the next look.
        self._calls.put(None)
        return bool(self._group)

    def _refuse(self, error: PacktrainError) -> None:
        self.failed = True
        while self._group or self._take():
            for call in self._group:
                call.error = copy(error)  # each caller raises one of its own
            self._answer()

    def _answer(self) -> None:
        group, self._group = self._group, []
        self._loop.call_soon_threadsafe(_wake, group)


def commit_group(name: str, connection: sqlite3.Connection, group: Group[sqlite3.Connection]) -> None:
    """Perform each operation in a savepoint of its own, and commit all."""
    connection.execute("BEGIN IMMEDIATE")
    for call in group:
        _perform(connection, call)
    labels = {call.label for call in group if call.label}
    with effect(*(f"{name}.{label}" for label in sorted(labels | {"commit"} if labels else ()))):
        connection.execute("COMMIT")


def _perform(connection: sqlite3.Connection, call: Call[sqlite3.Connection]) -> None:
    connection.execute("SAVEPOINT call")
    try:
        call.operation(connection)
    except ManifestError as error:
        call.error = error
    except (sqlite3.IntegrityError, ValueError, OverflowError) as error:
        call.error = Conflict(f"the database does not take this ({error}), nothing was written")
    if call.error is not None:
        connection.execute("ROLLBACK TO call")
    connection.execute("RELEASE call")


def _wake(group: Group[S]) -> None:
    for call in group:
        call.answered.set()


def schema_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(path: Path, connection: sqlite3.Connection, scripts: Sequence[str], *effects: str) -> None:
    """Bring a database from its schema to that of the last script: script n leads from schema n - 1 to n.

    Each script is one transaction with the number of the schema and a check of all references; its commit has these
    effects. Raises NewerSchema, and sqlite3.IntegrityError when a reference leads nowhere afterwards, in which case
    the script has changed nothing.
    """
    version = schema_version(connection)
    if version > len(scripts):
        raise NewerSchema(
            f"{path} was written by a newer packtrain (schema {version}, this one knows {len(scripts)})", path=path
        )
    if version == len(scripts):
        return
    # A script may rebuild a table that others refer to; SQLite takes this setting only outside a transaction.
    (checked,) = connection.execute("PRAGMA foreign_keys").fetchone()
    connection.execute("PRAGMA foreign_keys = OFF")
    for number, script in enumerate(scripts[version:], start=version + 1):
        _apply(connection, script, number, effects)
    connection.execute(f"PRAGMA foreign_keys = {checked}")


def _apply(connection: sqlite3.Connection, script: str, number: int, effects: Sequence[str]) -> None:
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};")
        if strays := connection.execute("PRAGMA foreign_key_check").fetchall():
            raise sqlite3.IntegrityError(f"a row of {strays[0][0]} belongs to none of {strays[0][2]}")
        with effect(*effects):
            connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
