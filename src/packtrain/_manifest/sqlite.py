"""The manifest in a SQLite file, for one process on one machine."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from anyio import CancelScope

from .._errors import PacktrainError
from .._io.sqlite_writer import Writer, open_writer
from .._model import State
from .._rules.lifecycle import SPOOLED, CreateIntended, Event
from . import queries
from .base import Change, Child, Outcome
from .checks import flaws
from .database import open_database
from .guard import admit, doubt, note_create, note_run, refuse_begun, take_over

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence
    from pathlib import Path
    from sqlite3 import Connection

    from .._model import (
        Credential,
        Cursor,
        DuplicateJob,
        Entry,
        Lease,
        ListPass,
        Quota,
        Run,
        Shard,
        ShardRow,
        SourceIdentity,
        Statistics,
    )
    from .base import Manifest
    from .database import Admission
    from .identity import Identity


@asynccontextmanager
async def open_sqlite(
    path: Path, *, clock: Callable[[], float] = time.time, admission: Admission = admit
) -> AsyncIterator[Manifest]:
    """The manifest in the file ``path``, made if missing; its directory is the state directory.

    Holds the state directory until the block ends; every claim of an earlier handle is void. ``clock`` gives Unix
    seconds. Raises ManifestError if another process holds the directory, if it is not safe to keep a manifest there,
    and if the file is lost, damaged, a copy, behind its witness, or of a newer packtrain.
    """
    async with open_writer(partial(open_database, path, admission, clock), name="manifest") as writer:
        instance = await writer.run(queries.instance)
        yield SqliteManifest(path, writer, instance, clock)


@asynccontextmanager
async def inspect_sqlite(path: Path) -> AsyncIterator[tuple[Manifest, list[str]]]:
    """The manifest, admitted whatever is in doubt about it, and what is wrong with it as a database and as this copy.

    Raises as ``open_sqlite`` for one that is too damaged to be opened.
    """
    found: list[str] = []

    def examine(path: Path, now: Identity, connection: Connection) -> None:
        found.extend(flaws(connection))
        found.extend(filter(None, [doubt(path, now, connection)]))

    async with open_sqlite(path, admission=examine) as manifest:
        yield manifest, found


def adopt_sqlite(path: Path, check: Callable[[Run, list[ShardRow]], None]) -> tuple[str, int]:
    """Go on with a copied or restored manifest under another name, its unsent shards in doubt. Blocks.

    ``check`` gets the rows of each run whose files are still needed, and may refuse. Returns the new instance, and the
    number of ambiguous shards.
    """

    def admission(path: Path, now: Identity, connection: Connection) -> None:
        for run in queries.runs(connection):
            check(run, queries.rows(run.id, SPOOLED, None, connection))
        take_over(path, now, connection)

    with open_database(path, admission) as connection:
        runs = queries.runs(connection)
        ambiguous = [row for run in runs for row in queries.rows(run.id, {State.RECONCILING}, None, connection)]
        return queries.instance(connection), len(ambiguous)


class SqliteManifest:
    """See ``Manifest``. Every verb is one operation of the writer, and none is left halfway by a cancellation."""

    def __init__(self, path: Path, writer: Writer[Connection], instance: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._writer = writer
        self._run = writer.run
        self._instance = instance
        self._clock = clock

    @property
    def instance(self) -> str:
        return self._instance

    async def set_credential(self, credential: Credential) -> None:
        await self._run(partial(queries.set_credential, credential), "credential")

    async def open_run(self, run: Run) -> Run:
        opened = await self._run(partial(self._open_run, run), "open_run")
        await self._run(lambda _: note_run(self._path, opened))
        return opened

    def _open_run(self, run: Run, connection: Connection) -> Run:
        refuse_begun(self._path, run.id, connection)
        return queries.open_run(run, connection)

    async def keep_sources(self, run: str, sources: Sequence[SourceIdentity]) -> list[SourceIdentity]:
        return await self._run(partial(queries.keep_sources, run, sources), "keep_sources")

    async def seal(self, shard: Shard, cursor: Cursor, *events: Event) -> None:
        await self._run(partial(queries.seal, shard, cursor, events, self._clock()), "seal")

    async def move(self, run: str, cursor: Cursor) -> None:
        await self._run(partial(queries.move, run, cursor), "move")

    async def claim(
        self, run: str, states: Collection[State], *, limit: int = 1, node: int | None = None
    ) -> list[ShardRow]:
        owner = queries.OWN if node is None else node
        return await self._run(partial(queries.claim, run, frozenset(states), self._clock(), limit, owner), "claim")

    async def write(self, change: Change) -> ShardRow:
        operation = partial(queries.write, change, queries.OWN, self._clock())
        # A cancelled task gives back what it holds as well.
        with CancelScope(shield=change.release):
            after, number = await self._run(operation, change.name)
        if isinstance(change.event, CreateIntended):
            await self._run(lambda _: note_create(self._path, self._instance, number))
        return after

    async def note(self, run: str, duplicate: DuplicateJob) -> None:
        await self._run(partial(queries.note, run, duplicate), "note")

    async def publish(self, run: str, sha256: str) -> None:
        await self._run(partial(queries.publish, run, sha256), "publish")

    async def reopen(self, run: str, children: Sequence[Child]) -> None:
        await self._run(partial(queries.reopen, run, children, self._clock()), "reopen")

    async def lease(self, seconds: float, *, node: int | None = None, name: str = "") -> Lease:
        return await self._run(partial(queries.lease, seconds, node, name, self._clock()), "lease")

    async def take_over(self) -> int:
        return await self._run(partial(queries.take_over, self._clock()), "take_over")

    async def note_pass(self, run: str, done: ListPass) -> None:
        await self._run(partial(queries.note_pass, run, done), "note_pass")

    async def set_quota(self, service: str, what: str, most: int) -> None:
        await self._run(partial(queries.set_quota, service, what, most), "set_quota")

    async def credential(self) -> Credential | None:
        return await self._run(queries.credential)

    async def find_run(self, run: str) -> Run | None:
        return await self._run(partial(queries.find_run, run))

    async def runs(self) -> list[Run]:
        return await self._run(queries.runs)

    async def cursor(self, run: str) -> Cursor:
        return await self._run(partial(queries.cursor, run))

    async def published(self, run: str) -> str | None:
        return await self._run(partial(queries.published, run))

    async def shard(self, row: ShardRow) -> Shard:
        return await self._run(partial(queries.shard, row))

    async def rows(
        self, run: str, states: Collection[State] | None = None, *, shard: int | None = None
    ) -> list[ShardRow]:
        return await self._run(partial(queries.rows, run, states, shard))

    async def duplicate_jobs(self, run: str) -> list[DuplicateJob]:
        return await self._run(partial(queries.duplicate_jobs, run))

    async def history(self, run: str, shard: int | None = None) -> list[Entry]:
        return await self._run(partial(queries.history, run, shard))

    async def statistics(self, run: str) -> Statistics:
        return await self._run(partial(queries.statistics, run))

    async def passes(self, run: str, since: float) -> list[ListPass]:
        return await self._run(partial(queries.passes, run, since))

    async def quotas(self, service: str) -> list[Quota]:
        return await self._run(partial(queries.quotas, service))

    async def outcome(self, change: Change) -> Outcome:
        try:
            return await self._run(partial(queries.outcome, change))
        except PacktrainError:
            # After a failed commit this connection may show what never reached the disk; the next handle can tell.
            if not self._writer.failed:
                raise
            return Outcome.UNKNOWN
