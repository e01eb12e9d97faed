"""Storage of the service: one directory, used by one process at a time.

lock          locked with flock while a service runs
service.db    SQLite (write-ahead log, every commit synced), used by one thread at a time
truth.jsonl   audit log
blobs/        file content; a row is committed only after its blob is synced,
              a blob is removed only after the last row that names it is deleted
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from .._errors import ManifestError
from .._io.disk import sync_directory
from .._io.lock import try_lock
from .._io.sqlite_writer import migrate
from .._io.threads import finish, in_thread, uncancelled
from .audit_log import AuditLog
from .blobs import Blobs
from .disk_full import DiskFullError, is_full, retry_until_space, translate_disk_full
from .quotas import Quotas
from .transactions import Ticket, Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

T = TypeVar("T")

#: Migrations, sorted by name; the n-th brings a database to version n.
SQL = Path(__file__).parent / "sql"
#: Seconds to wait for the lock: a service that was just killed may not have exited yet.
LOCK_TIMEOUT = 5.0
NO_QUOTAS = Quotas()


class Store:
    """Transactions with group commit. Open with ``open_store``; the operations are in ``files``, ``jobs`` and others.

    On a full disk, changes that write fail with 503; all else goes on. Every other error of a commit or an fsync ends
    the store, because it is unknown then what is on disk, and a second fsync may report success wrongly. Every later
    call raises ManifestError, and so does ``watch``.
    """

    def __init__(self, directory: Path, clock: Callable[[], float], quotas: Quotas) -> None:
        self.quotas = quotas
        self.blobs = Blobs(directory / "blobs")
        self._directory = directory
        self._clock = clock
        self._log = AuditLog(directory / "truth.jsonl")
        self._connection = _connect(directory / "service.db")
        self._waiting: list[Ticket[Any]] = []
        self._writing = anyio.Lock()
        self._broken = anyio.Event()
        self._failure: ManifestError | None = None
        #: Set, and replaced, after a commit with new webhook deliveries.
        self.changed = anyio.Event()

    async def transact(self, change: Callable[[Transaction], T]) -> T:
        """Runs ``change`` atomically; its rows and log entries are durable on return.

        Raises DiskFullError (503) when the disk is full. Changes that arrive during a commit share the next one.
        """
        ticket = Ticket(change)
        self._waiting.append(ticket)
        try:
            async with self._writing:
                if not ticket.done:
                    batch = [other for other in self._waiting if not other.done]
                    if await self._guarded(lambda: self._commit(batch)):
                        self.changed.set()
                        self.changed = anyio.Event()
        finally:
            self._waiting = [other for other in self._waiting if not other.done and other is not ticket]
        return ticket.result()

    async def transact_when_possible(self, change: Callable[[Transaction], T]) -> T:
        """As ``transact``, for background work: on a full disk it waits for space."""
        return await retry_until_space(lambda: self.transact(change))

    async def sweep(self, portion: Callable[[Transaction], bool]) -> None:
        """Runs ``portion`` until it returns False; other changes may run in between."""
        while await self.transact_when_possible(portion):
            await anyio.lowlevel.checkpoint()

    @asynccontextmanager
    async def temporary_blob(self) -> AsyncIterator[str]:
        """A new blob, removed at the end of the block unless a row names it."""
        with translate_disk_full():
            blob = await uncancelled(self.blobs.create)
        try:
            yield blob
        finally:
            await finish(self.transact(lambda tx: tx.release(blob)))

    async def fill(self, blob: str, content: bytes) -> None:
        """Writes ``content``; durable on return."""

        def work() -> None:
            with translate_disk_full():
                self.blobs.fill(blob, content)

        await self._guarded(work)

    async def sync(self, blob: str) -> None:
        await self._guarded(lambda: self.blobs.sync(blob))

    async def watch(self) -> None:
        """Waits for a failure of the store and raises its ManifestError."""
        await self._broken.wait()
        self._check()

    def restore(self) -> None:
        """Repairs log and directory after a crash, to agree with the database."""
        _prepare(self._connection)
        _migrate(self._connection, self._directory / "service.db", self._log.size)
        position, lines = self._connection.execute("SELECT position, lines FROM outbox").fetchone()
        self._log.repair(position, lines)
        held = {blob for (blob,) in self._connection.execute("SELECT blob FROM held")}
        present = set(self.blobs.names())
        self.blobs.remove(present - held)
        # The row of an upload may be durable before its empty blob is: that upload is cancelled.
        lost = "UPDATE upload SET state = 'cancelled' WHERE blob = ? AND state = 'active'"
        self._connection.executemany(lost, [(blob,) for blob in held - present])
        sync_directory("service", self._directory)

    def close(self) -> None:
        self._connection.close()
        self._log.close()
        self.blobs.close()

    async def _guarded(self, work: Callable[[], T]) -> T:
        self._check()
        try:
            return await in_thread(work)
        except (OSError, sqlite3.Error) as error:
            self._failure = ManifestError(
                f"{self._directory}: cannot be written safely any more ({error}); "
                "check the disk, then start the service again"
            )
            self._broken.set()
            raise self._failure from error

    def _check(self) -> None:
        if self._failure:
            raise self._failure

    def _commit(self, batch: Sequence[Ticket[Any]]) -> bool:
        """Commits all at once; on a full disk one by one, so that changes without writes succeed."""
        try:
            return self._write(batch)
        except (OSError, sqlite3.Error) as error:
            if not is_full(error):
                raise
        changed = [self._try(ticket) for ticket in batch]
        return any(changed)

    def _try(self, ticket: Ticket[Any]) -> bool:
        try:
            return self._write([ticket])
        except (OSError, sqlite3.Error) as error:
            if not is_full(error):
                raise
            ticket.fail(DiskFullError(error))
            return False

    def _write(self, tickets: Sequence[Ticket[Any]]) -> bool:
        """Commits and logs the tickets; True when one of them notifies."""
        now, lines, released, changed = self._clock(), list[bytes](), list[str](), False
        with self._connection:
            self._connection.execute("BEGIN")
            for ticket in tickets:
                transaction = Transaction(self._connection, now, self.quotas)
                if ticket.run(transaction):
                    lines += transaction.entries
                    released += transaction.released
                    changed = changed or transaction.notifies
            entries = b"".join(lines)
            garbage = [blob for blob in released if not self._is_held(blob)]
            if entries:
                self._log.flush()
                outbox = "UPDATE outbox SET position = ?, lines = ?"
                self._connection.execute(outbox, (self._log.size, entries))
        self.blobs.remove(garbage)
        for ticket in tickets:
            ticket.done = True
        if entries:
            self._append_log(entries, tickets)
        return changed

    def _append_log(self, entries: bytes, tickets: Sequence[Ticket[Any]]) -> None:
        """On a full disk the changes fail although committed; the next change appends their entries first."""
        try:
            self._log.append(entries)
        except OSError as error:
            if not is_full(error):
                raise
            for ticket in tickets:
                if ticket.logs:
                    ticket.fail(DiskFullError(error))

    def _is_held(self, blob: str) -> bool:
        return self._connection.execute("SELECT 1 FROM held WHERE blob = ?", (blob,)).fetchone() is not None


@asynccontextmanager
async def open_store(
    directory: Path,
    *,
    quotas: Quotas = NO_QUOTAS,
    clock: Callable[[], float] = time.time,
    lock_timeout: float = LOCK_TIMEOUT,
) -> AsyncIterator[Store]:
    """Opens the store in ``directory``, created if missing.

    Raises ManifestError when another service still uses it after ``lock_timeout`` seconds, and for a directory of
    another user, a damaged one, or one of a newer version.
    """
    lock = await _lock(directory, lock_timeout)
    try:
        store = await uncancelled(_open, directory, clock, quotas)
        try:
            yield store
        finally:
            await uncancelled(store.close)
    finally:
        os.close(lock)


def _open(directory: Path, clock: Callable[[], float], quotas: Quotas) -> Store:
    with _translate_errors(directory):
        store = Store(directory, clock, quotas)
        try:
            store.restore()
        except BaseException:
            store.close()
            raise
        return store


async def _lock(directory: Path, timeout: float) -> int:
    lock = await uncancelled(_open_lock, directory)
    try:
        with anyio.fail_after(timeout):
            while not try_lock(lock):  # noqa: ASYNC110 - the end of another process's lock is no event
                await anyio.sleep(0.05)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, TimeoutError):
            raise ManifestError(
                f"{directory}: another service is using this directory; stop it, or choose another one"
            ) from None
        raise
    return lock


def _open_lock(directory: Path) -> int:
    with _translate_errors(directory):
        if directory.is_symlink():
            raise ManifestError(f"{directory}: is a symbolic link; give the directory itself")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_uid != os.geteuid():
            raise ManifestError(f"{directory}: belongs to another user; choose a directory of your own")
        return os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@contextmanager
def _translate_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ManifestError(f"{directory}: cannot be used as the service's directory: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    # Used from several threads, one at a time.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    # Exclusive before the journal mode: SQLite then uses no shared memory and admits no second connection.
    for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(connection: sqlite3.Connection, path: Path, log_size: int) -> None:
    migrate(path, connection, [script.read_text("utf-8") for script in sorted(SQL.iterdir())])
    if not connection.execute("SELECT 1 FROM outbox").fetchone():
        connection.execute("INSERT INTO outbox VALUES (?, x'')", (log_size,))
