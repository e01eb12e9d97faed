"""The manifest in memory, for tests and for runs that may be lost. The same verbs, the same errors."""

from __future__ import annotations

import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from .._model import (
    Credential,
    Cursor,
    DuplicateJob,
    DuplicateState,
    Entry,
    Run,
    Shard,
    ShardRow,
    SourceIdentity,
    State,
    Statistics,
    Tally,
)
from .._rules.generations import latest
from .._rules.lifecycle import SPOOLED, STORED, Event, advance, detail
from .._rules.retry import is_due
from . import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from .base import Manifest

Key = tuple[int, int]
TALLIED = [name for name in Tally.__struct_fields__ if name != "sha256"]


@dataclass
class _Memory:
    run: Run
    cursor: Cursor = field(default_factory=Cursor)
    marks: list[SourceIdentity] = field(default_factory=list)
    shards: dict[Key, Shard] = field(default_factory=dict)
    rows: dict[Key, ShardRow] = field(default_factory=dict)
    claimed: set[Key] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    duplicate_jobs: dict[str, DuplicateJob] = field(default_factory=dict)
    sha256: str | None = None

    def sizes(self, states: Collection[State]) -> int:
        return sum(self.shards[key].bytes for key, row in self.rows.items() if row.state in states)

    def reached(self, event: str) -> list[Shard]:
        """The shard for each time that the event happened to it."""
        return [self.shards[entry.shard, entry.generation] for entry in self.entries if entry.event == event]


@dataclass
class Storage:
    """What outlives a handle."""

    instance: str = field(default_factory=lambda: secrets.token_hex(4))
    runs: dict[str, _Memory] = field(default_factory=dict)
    credential: Credential | None = None


@asynccontextmanager
async def open_memory(
    storage: Storage | None = None, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Manifest]:
    """A manifest on this storage, or on one of its own; every claim of an earlier handle is void."""
    manifest = MemoryManifest(storage or Storage(), clock)
    yield manifest


class MemoryManifest:
    """See ``Manifest``. A verb never waits, so it is a transaction by itself."""

    def __init__(self, storage: Storage, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._clock = clock
        for memory in storage.runs.values():
            memory.claimed.clear()

    @property
    def instance(self) -> str:
        return self._storage.instance

    async def credential(self) -> Credential | None:
        return self._storage.credential

    async def set_credential(self, mark: Credential) -> None:
        await checkpoint_if_cancelled()
        self._storage.credential = mark

    async def open_run(self, run: Run) -> Run:
        await checkpoint_if_cancelled()
        stored = self._storage.runs.get(run.id)
        if stored is None:
            if any(memory.run.token == run.token for memory in self._storage.runs.values()):
                raise errors.token_taken(run.id)
            stored = self._storage.runs[run.id] = _Memory(run)
        if stored.run.fingerprint != run.fingerprint:
            raise errors.other_fingerprint(stored.run, run, stored.rows.values())
        return stored.run

    async def find_run(self, run: str) -> Run | None:
        return self._storage.runs[run].run if run in self._storage.runs else None

    async def runs(self) -> list[Run]:
        return [memory.run for memory in self._storage.runs.values()]

    async def cursor(self, run: str) -> Cursor:
        return self._memory(run).cursor

    async def keep_sources(self, run: str, marks: Sequence[SourceIdentity]) -> list[SourceIdentity]:
        await checkpoint_if_cancelled()
        memory = self._memory(run)
        if not memory.cursor.shards:
            memory.marks = list(marks)
        return list(memory.marks)

    async def seal(self, shard: Shard, cursor: Cursor, *events: Event) -> None:
        await checkpoint_if_cancelled()
        memory = self._memory(shard.run)
        self._enter(memory, shard, events)
        memory.cursor = cursor

    async def move(self, run: str, cursor: Cursor) -> None:
        await checkpoint_if_cancelled()
        self._memory(run).cursor = cursor

    async def shard(self, row: ShardRow) -> Shard:
        try:
            return self._storage.runs[row.run].shards[_key(row)]
        except KeyError:
            raise errors.unknown_shard(row) from None

    async def claim(self, run: str, states: Collection[State], *, now: float, limit: int = 1) -> list[ShardRow]:
        await checkpoint_if_cancelled()
        memory = self._storage.runs.get(run)
        if memory is None:
            return []
        free = [row for row in await self.rows(run, states) if _key(row) not in memory.claimed]
        due = [row for row in free if is_due(row.due, now)]
        taken = [msgspec.structs.replace(row, fence=row.fence + 1) for row in due[:limit]]
        memory.rows |= {_key(row): row for row in taken}
        memory.claimed |= {_key(row) for row in taken}
        return taken

    async def record(
        self,
        row: ShardRow,
        event: Event,
        child: Shard | None = None,
        *events: Event,
        duplicate_jobs: Sequence[DuplicateJob] = (),
    ) -> ShardRow:
        await checkpoint_if_cancelled()
        advance(row, event)
        memory = self._held(row)
        if child is not None:
            self._enter(memory, child, events)
        after = self._apply(memory, row, event)
        memory.duplicate_jobs |= {duplicate.job: duplicate for duplicate in duplicate_jobs}
        return after

    def _enter(self, memory: _Memory, shard: Shard, events: Sequence[Event]) -> None:
        if (shard.index, shard.generation) in memory.shards:
            raise errors.sealed_already(shard)
        memory.shards[shard.index, shard.generation] = shard
        row = ShardRow(run=shard.run, shard=shard.index, generation=shard.generation)
        memory.rows[_key(row)] = row
        for event in events:
            row = self._apply(memory, row, event)

    def _apply(self, memory: _Memory, row: ShardRow, event: Event) -> ShardRow:
        after = advance(row, event)
        self._refuse_taken(row, after)
        memory.rows[_key(row)] = after
        memory.entries.append(
            Entry(
                at=self._clock(),
                shard=row.shard,
                generation=row.generation,
                attempt=after.attempt,
                event=type(event).__name__,
                before=row.state,
                after=after.state,
                detail=detail(event),
            )
        )
        return after

    async def release(self, row: ShardRow, *, due: float | None = None) -> None:
        memory = self._storage.runs.get(row.run)
        stored = memory and memory.rows.get(_key(row))
        if not memory or not stored or stored.fence != row.fence:
            raise errors.claim_lost(row)
        memory.claimed.discard(_key(row))
        if due is not None:
            memory.rows[_key(row)] = msgspec.structs.replace(stored, due=due)

    async def rows(self, run: str, states: Collection[State] | None = None) -> list[ShardRow]:
        memory = self._storage.runs.get(run)
        found = memory.rows.values() if memory else []
        return sorted((row for row in found if states is None or row.state in states), key=_key)

    async def note(self, run: str, duplicate: DuplicateJob) -> None:
        await checkpoint_if_cancelled()
        self._memory(run).duplicate_jobs[duplicate.job] = duplicate

    async def duplicate_jobs(self, run: str) -> list[DuplicateJob]:
        memory = self._storage.runs.get(run)
        if memory is None:
            return []
        adopted = {row.job for other in self._storage.runs.values() for row in other.rows.values()}
        found = (duplicate for duplicate in memory.duplicate_jobs.values() if duplicate.job not in adopted)
        return sorted(found, key=lambda duplicate: (duplicate.shard, duplicate.generation, duplicate.job))

    async def history(self, run: str, shard: int | None = None) -> list[Entry]:
        memory = self._storage.runs.get(run)
        return [entry for entry in (memory.entries if memory else []) if shard is None or entry.shard == shard]

    async def statistics(self, run: str) -> Statistics:
        memory = self._memory(run)
        states = [row.state for row in memory.rows.values()]
        tallies = [row.tally for row in latest(row for row in memory.rows.values() if row.tally) if row.tally]
        return Statistics(
            run=run,
            cursor=memory.cursor,
            states={state: states.count(state) for state in State if state in states},
            spooled_bytes=memory.sizes(SPOOLED),
            stored_bytes=memory.sizes(STORED),
            uploaded_bytes=sum(shard.bytes for shard in memory.reached("FileReady")),
            jobs_created=len(memory.reached("JobAdopted")),
            duplicates_healed=sum(
                duplicate.state is not DuplicateState.SEEN for duplicate in await self.duplicate_jobs(run)
            ),
            duplicates_live=sum(
                duplicate.state is DuplicateState.CANCELLING for duplicate in await self.duplicate_jobs(run)
            ),
            retried=sum(shard.lines for shard in memory.shards.values() if shard.generation),
            lost=sum(shard.lines for shard in memory.reached("ResultLost")),
            tally=msgspec.convert({name: sum(getattr(t, name) for t in tallies) for name in TALLIED}, Tally),
            merged=memory.sha256 is not None,
        )

    async def publish(self, run: str, sha256: str) -> None:
        await checkpoint_if_cancelled()
        self._memory(run).sha256 = sha256

    async def reopen(self, run: str, children: Sequence[tuple[Shard, Sequence[Event]]]) -> None:
        await checkpoint_if_cancelled()
        memory = self._memory(run)
        if memory.sha256 is None:
            raise errors.not_published(run)
        for child, _ in children:
            if (child.index, child.generation) in memory.shards:
                raise errors.sealed_already(child)
        for child, events in children:
            self._enter(memory, child, events)
        memory.sha256 = None

    async def published(self, run: str) -> str | None:
        return self._memory(run).sha256

    def _memory(self, run: str) -> _Memory:
        if run not in self._storage.runs:
            raise errors.unknown_run(run)
        return self._storage.runs[run]

    def _held(self, row: ShardRow) -> _Memory:
        """The run of a job that is still in its row's state, attempt and fence."""
        memory = self._storage.runs.get(row.run)
        stored = memory and memory.rows.get(_key(row))
        if not memory or not stored or _guard(stored) != _guard(row):
            raise errors.stale(row)
        return memory

    def _refuse_taken(self, row: ShardRow, after: ShardRow) -> None:
        if (after.file, after.job) == (row.file, row.job):
            return
        others = (other for memory in self._storage.runs.values() for other in memory.rows.values())
        for other in others:
            same = {after.file, after.job} & {other.file, other.job} - {None}
            if same and (other.run, _key(other)) != (row.run, _key(row)):
                raise errors.name_taken(after)


def _key(row: ShardRow) -> Key:
    return row.shard, row.generation


def _guard(row: ShardRow) -> tuple[State, int, int]:
    return row.state, row.attempt, row.fence
