"""The manifest in a SQLite file, for one driver on one machine."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from anyio import CancelScope

from .._rules.lifecycle import CreateIntended, Event, advance
from . import operations
from .admission import admit
from .database import open_database
from .witness import Token, note_token, write_witness
from .writer import Writer, open_writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence
    from pathlib import Path

    from .._model import Cursor, Entry, Extra, Job, KeyMark, Run, Shard, SourceMark, State, Statistics
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
        instance = await writer.run(operations.instance)
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

    async def key_mark(self) -> KeyMark | None:
        return await self._run(operations.key_mark)

    async def mark_key(self, mark: KeyMark) -> None:
        await self._run(partial(operations.mark_key, mark), "mark_key")

    async def open_run(self, run: Run) -> Run:
        opened = await self._run(partial(operations.open_run, run), "open_run")
        token = Token(opened.token, opened.id, opened.model, opened.task)
        await self._run(lambda _: note_token(self._path, token))
        return opened

    async def find_run(self, run: str) -> Run | None:
        return await self._run(partial(operations.find_run, run))

    async def runs(self) -> list[Run]:
        return await self._run(operations.runs)

    async def cursor(self, run: str) -> Cursor:
        return await self._run(partial(operations.cursor, run))

    async def mark_sources(self, run: str, marks: Sequence[SourceMark]) -> list[SourceMark]:
        return await self._run(partial(operations.mark_sources, run, marks), "mark_sources")

    async def seal(self, shard: Shard, cursor: Cursor, *events: Event) -> None:
        await self._run(partial(operations.seal, shard, cursor, events, self._clock()), "seal")

    async def move(self, run: str, cursor: Cursor) -> None:
        await self._run(partial(operations.move, run, cursor), "move")

    async def shard(self, job: Job) -> Shard:
        return await self._run(partial(operations.shard, job))

    async def claim(self, run: str, states: Collection[State], *, now: float, limit: int = 1) -> list[Job]:
        return await self._run(partial(operations.claim, run, frozenset(states), now, limit), "claim")

    async def record(
        self, job: Job, event: Event, child: Shard | None = None, *events: Event, extras: Sequence[Extra] = ()
    ) -> Job:
        after = advance(job, event)
        at, name = self._clock(), type(event).__name__
        if child is None:
            number = await self._run(partial(operations.decide, job, after, event, extras, at), name)
        else:
            number = await self._run(partial(operations.hand_on, job, after, event, child, events, extras, at), name)
        if isinstance(event, CreateIntended):
            await self._run(lambda _: write_witness(self._path, self._instance, number))
        return after

    async def release(self, job: Job, *, not_before: float | None = None) -> None:
        # A cancelled task gives back what it holds as well.
        with CancelScope(shield=True):
            await self._run(partial(operations.release, job, not_before), "release")

    async def jobs(self, run: str, states: Collection[State] | None = None) -> list[Job]:
        return await self._run(partial(operations.jobs, run, states))

    async def note(self, run: str, extra: Extra) -> None:
        await self._run(partial(operations.note, run, extra), "note")

    async def extras(self, run: str) -> list[Extra]:
        return await self._run(partial(operations.extras, run))

    async def history(self, run: str, shard: int | None = None) -> list[Entry]:
        return await self._run(partial(operations.history, run, shard))

    async def statistics(self, run: str) -> Statistics:
        return await self._run(partial(operations.statistics, run))

    async def publish(self, run: str, sha256: str) -> None:
        await self._run(partial(operations.publish, run, sha256), "publish")

    async def reopen(self, run: str, children: Sequence[tuple[Shard, Sequence[Event]]]) -> None:
        await self._run(partial(operations.reopen, run, children, self._clock()), "reopen")

    async def published(self, run: str) -> str | None:
        return await self._run(partial(operations.published, run))
