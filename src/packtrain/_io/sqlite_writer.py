"""One thread with the one connection: operations wait in a line, and many go into one commit.

A commit costs a sync of the disk, an operation a few microseconds, so whatever has gathered during one commit
shares the next. Each operation has a savepoint of its own: one that fails does not take its neighbours along.
A failed commit is never tried again, since the kernel may have dropped the pages that it could not write.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import copy_context
from copy import copy
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter, Event, Semaphore, to_thread

from .._errors import Conflict, ManifestError, PacktrainError
from .effects import effect

T = TypeVar("T")
Connect = Callable[[], AbstractContextManager[sqlite3.Connection]]

#: Operations that may wait for their commit; more callers are held back.
WAITING = 1000


class _Call:
    __slots__ = ("answered", "change", "error", "operation")

    def __init__(self, operation: Callable[[sqlite3.Connection], None], change: str | None) -> None:
        self.operation = operation
        self.change = change
        self.answered = Event()
        self.error: PacktrainError | None = None


@asynccontextmanager
async def open_writer(connect: Connect) -> AsyncIterator[Writer]:
    """A writer whose thread ends, with every accepted operation answered, before the block is left.

    ``connect`` runs in the thread and turns every error of SQLite, those of the operations as well, into a
    PacktrainError.
    """
    writer = Writer()
    thread = Thread(target=copy_context().run, args=(writer.work, connect), name="packtrain manifest")
    thread.start()
    try:
        yield writer
    finally:
        writer.close()
        with CancelScope(shield=True):
            await to_thread.run_sync(thread.join, limiter=CapacityLimiter(1))


class Writer:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = Semaphore(WAITING, fast_acquire=True)
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._group: list[_Call] = []
        self._closed = False

    async def run(self, operation: Callable[[sqlite3.Connection], T], change: str | None = None) -> T:
        """What the operation returns, once it is durable. ``change`` names what it changes; None when it only reads.

        Cancelled before it is accepted, it never runs; afterwards its outcome is awaited whatever happens.
        Raises the ManifestError of the operation; after a failed commit, its error from then on.
        """
        outcome: list[T] = []
        async with self._slots:
            if self._closed:
                raise ManifestError("this manifest was closed")
            call = _Call(lambda connection: outcome.append(operation(connection)), change)
            self._calls.put(call)
            with CancelScope(shield=True):
                await call.answered.wait()
        if call.error is not None:
            raise call.error
        return outcome[0]

    def close(self) -> None:
        self._closed = True
        self._calls.put(None)

    def work(self, connect: Connect) -> None:
        """The thread: serve until closed; after a failure, refuse until closed."""
        try:
            with connect() as connection:
                while self._take():
                    _commit(connection, self._group)
                    self._answer()
        except PacktrainError as error:
            self._refuse(error)
        except BaseException:
            self._refuse(ManifestError("the manifest's thread has failed"))
            raise

    def _take(self) -> bool:
        """Wait for calls and group all there are; False when there will be no more."""
        call = self._calls.get()
        while call is not None:
            self._group.append(call)
            if self._calls.empty():
                return True
            call = self._calls.get()
        # The end stays in the queue for whoever asks next.
        self._calls.put(None)
        return bool(self._group)

    def _refuse(self, error: PacktrainError) -> None:
        while self._group or self._take():
            for call in self._group:
                call.error = copy(error)  # each caller raises one of its own
            self._answer()

    def _answer(self) -> None:
        group, self._group = self._group, []
        self._loop.call_soon_threadsafe(_wake, group)


def _commit(connection: sqlite3.Connection, group: list[_Call]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for call in group:
        _perform(connection, call)
    changes = {call.change for call in group if call.change}
    with effect(*(f"manifest.{name}" for name in sorted(changes | {"commit"} if changes else ()))):
        connection.execute("COMMIT")


def _perform(connection: sqlite3.Connection, call: _Call) -> None:
    connection.execute("SAVEPOINT call")
    try:
        call.operation(connection)
    except ManifestError as error:
        call.error = error
    except (sqlite3.IntegrityError, ValueError, OverflowError) as error:
        call.error = Conflict(f"the manifest cannot take this ({error}), nothing was written")
    if call.error is not None:
        connection.execute("ROLLBACK TO call")
    connection.execute("RELEASE call")


def _wake(group: list[_Call]) -> None:
    for call in group:
        call.answered.set()
