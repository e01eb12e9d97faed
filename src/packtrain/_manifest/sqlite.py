"""The manifest in a SQLite file, for one driver on one machine."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from anyio import CancelScope

from .._io.sqlite_writer import Writer, open_writer
from .._rules.lifecycle import CreateIntended, Event, advance
from . import queries
from .database import open_database
from .guard import admit
from .witness import Token, note_token, write_witness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence
    from pathlib import Path

    from .._model import (
        Credential,
        Cursor,
        DuplicateJob,
        Entry,
        Run,
        Shard,
        ShardRow,
        SourceIdentity,
        State,
        Statistics,
    )
    from .base import Manifest
    from .database import Admission


@asynccontextmanager
async def open_sqlite(
    path: Path, *, clock: Callable[[], float] = time.time, admission: Admission = admit
) -> AsyncIterator[Manifest]:
    """The manifest in the file ``path``, made if missing; its directory is the state directory.

    Holds the state directory until the block ends; every claim of an earlier handle is void. ``clock`` gives the
    Unix seconds of the history. Raises ManifestError if another process holds the directory, if it is not safe
    to keep a manifest there, and if the file is lost, damaged, a copy, behind its witness, or of a newer packtrain.
    """
    async with open_writer(partial(open_database, path, admission)) as writer:
        instance = await writer.run(queries.instance)
        yield SqliteManifest(path, writer, instance, clock)


class SqliteManifest:
    """See ``Manifest``. Every verb is one operation of the writer, and none is left halfway by a cancellation."""

    def __init__(self, path: Path, writer: Writer, instance: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._run = writer.run
        self._instance = instance
        self._clock = clock

    @property
    def instance(self) -> str:
        return self._instance

    async def credential(self) -> Credential | None:
        return await self._run(queries.credential)

    async def set_credential(self, mark: Credential) -> None:
        await self._run(partial(queries.set_credential, mark), "mark_key")

    async def open_run(self, run: Run) -> Run:
        opened = await self._run(partial(queries.open_run, run), "open_run")
        token = Token(opened.token, opened.id, opened.model, opened.task)
        await self._run(lambda _: note_token(self._path, token))
        return opened

    async def find_run(self, run: str) -> Run | None:
        return await self._run(partial(queries.find_run, run))

    async def runs(self) -> list[Run]:
        return await self._run(queries.runs)

    async def cursor(self, run: str) -> Cursor:
        return await self._run(partial(queries.cursor, run))

    async def keep_sources(self, run: str, marks: Sequence[SourceIdentity]) -> list[SourceIdentity]:
        return await self._run(partial(queries.keep_sources, run, marks), "mark_sources")

    async def seal(self, shard: Shard, cursor: Cursor, *events: Event) -> None:
        await self._run(partial(queries.seal, shard, cursor, events, self._clock()), "seal")

    async def move(self, run: str, cursor: Cursor) -> None:
        await self._run(partial(queries.move, run, cursor), "move")

    async def shard(self, row: ShardRow) -> Shard:
        return await self._run(partial(queries.shard, row))

    async def claim(self, run: str, states: Collection[State], *, now: float, limit: int = 1) -> list[ShardRow]:
        return await self._run(partial(queries.claim, run, frozenset(states), now, limit), "claim")

    async def record(
        self,
        row: ShardRow,
        event: Event,
        child: Shard | None = None,
        *events: Event,
        duplicate_jobs: Sequence[DuplicateJob] = (),
    ) -> ShardRow:
        after = advance(row, event)
        at, name = self._clock(), type(event).__name__
        if child is None:
            number = await self._run(partial(queries.decide, row, after, event, duplicate_jobs, at), name)
        else:
            number = await self._run(
                partial(queries.hand_on, row, after, event, child, events, duplicate_jobs, at), name
            )
        if isinstance(event, CreateIntended):
            await self._run(lambda _: write_witness(self._path, self._instance, number))
        return after

    async def release(self, row: ShardRow, *, due: float | None = None) -> None:
        # A cancelled task gives back what it holds as well.
        with CancelScope(shield=True):
            await self._run(partial(queries.release, row, due), "release")

    async def rows(self, run: str, states: Collection[State] | None = None) -> list[ShardRow]:
        return await self._run(partial(queries.rows, run, states))

    async def note(self, run: str, duplicate: DuplicateJob) -> None:
        await self._run(partial(queries.note, run, duplicate), "note")

    async def duplicate_jobs(self, run: str) -> list[DuplicateJob]:
        return await self._run(partial(queries.duplicate_jobs, run))

    async def history(self, run: str, shard: int | None = None) -> list[Entry]:
        return await self._run(partial(queries.history, run, shard))

    async def statistics(self, run: str) -> Statistics:
        return await self._run(partial(queries.statistics, run))

    async def publish(self, run: str, sha256: str) -> None:
        await self._run(partial(queries.publish, run, sha256), "publish")

    async def reopen(self, run: str, children: Sequence[tuple[Shard, Sequence[Event]]]) -> None:
        await self._run(partial(queries.reopen, run, children, self._clock()), "reopen")

    async def published(self, run: str) -> str | None:
        return await self._run(partial(queries.published, run))
