"""The manifest in memory, for tests and for runs that may be lost. The same verbs, the same refusals."""

from __future__ import annotations

import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from .._model import Cursor, Entry, Extra, ExtraState, Job, KeyMark, Run, Shard, SourceMark, State, Statistics, Tally
from .._rules.lifecycle import SPOOLED, STORED, Event, advance, detail
from .._rules.lineage import latest
from .._rules.retrying import is_due
from . import refusals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from .base import Manifest

Key = tuple[int, int]
TALLIED = [name for name in Tally.__struct_fields__ if name != "sha256"]


@dataclass
class _Memory:
    run: Run
    cursor: Cursor = field(default_factory=Cursor)
    marks: list[SourceMark] = field(default_factory=list)
    shards: dict[Key, Shard] = field(default_factory=dict)
    jobs: dict[Key, Job] = field(default_factory=dict)
    claimed: set[Key] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    extras: dict[str, Extra] = field(default_factory=dict)
    sha256: str | None = None

    def sizes(self, states: Collection[State]) -> int:
        return sum(self.shards[key].bytes for key, job in self.jobs.items() if job.state in states)

    def reached(self, event: str) -> list[Shard]:
        """The shard for each time that the event happened to it."""
        return [self.shards[entry.shard, entry.generation] for entry in self.entries if entry.event == event]


@dataclass
class Storage:
    """What outlives a handle."""

    instance: str = field(default_factory=lambda: secrets.token_hex(4))
    runs: dict[str, _Memory] = field(default_factory=dict)
    key_mark: KeyMark | None = None


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

    async def key_mark(self) -> KeyMark | None:
        return self._storage.key_mark

    async def mark_key(self, mark: KeyMark) -> None:
        await checkpoint_if_cancelled()
        self._storage.key_mark = mark

    async def open_run(self, run: Run) -> Run:
        await checkpoint_if_cancelled()
        stored = self._storage.runs.get(run.id)
        if stored is None:
            if any(memory.run.token == run.token for memory in self._storage.runs.values()):
                raise refusals.token_taken(run.id)
            stored = self._storage.runs[run.id] = _Memory(run)
        if stored.run.fingerprint != run.fingerprint:
            raise refusals.other_fingerprint(stored.run, run, stored.jobs.values())
        return stored.run

    async def find_run(self, run: str) -> Run | None:
        return self._storage.runs[run].run if run in self._storage.runs else None

    async def runs(self) -> list[Run]:
        return [memory.run for memory in self._storage.runs.values()]

    async def cursor(self, run: str) -> Cursor:
        return self._memory(run).cursor

    async def mark_sources(self, run: str, marks: Sequence[SourceMark]) -> list[SourceMark]:
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

    async def shard(self, job: Job) -> Shard:
        try:
            return self._storage.runs[job.run].shards[_key(job)]
        except KeyError:
            raise refusals.unknown_shard(job) from None

    async def claim(self, run: str, states: Collection[State], *, now: float, limit: int = 1) -> list[Job]:
        await checkpoint_if_cancelled()
        memory = self._storage.runs.get(run)
        if memory is None:
            return []
        free = [job for job in await self.jobs(run, states) if _key(job) not in memory.claimed]
        due = [job for job in free if is_due(job.not_before, now)]
        taken = [msgspec.structs.replace(job, fence=job.fence + 1) for job in due[:limit]]
        memory.jobs |= {_key(job): job for job in taken}
        memory.claimed |= {_key(job) for job in taken}
        return taken

    async def record(
        self, job: Job, event: Event, child: Shard | None = None, *events: Event, extras: Sequence[Extra] = ()
    ) -> Job:
        await checkpoint_if_cancelled()
        advance(job, event)
        memory = self._held(job)
        if child is not None:
            self._enter(memory, child, events)
        after = self._apply(memory, job, event)
        memory.extras |= {extra.batch: extra for extra in extras}
        return after

    def _enter(self, memory: _Memory, shard: Shard, events: Sequence[Event]) -> None:
        if (shard.index, shard.generation) in memory.shards:
            raise refusals.sealed_already(shard)
        memory.shards[shard.index, shard.generation] = shard
        job = Job(run=shard.run, shard=shard.index, generation=shard.generation)
        memory.jobs[_key(job)] = job
        for event in events:
            job = self._apply(memory, job, event)

    def _apply(self, memory: _Memory, job: Job, event: Event) -> Job:
        after = advance(job, event)
        self._refuse_taken(job, after)
        memory.jobs[_key(job)] = after
        memory.entries.append(
            Entry(
                at=self._clock(),
                shard=job.shard,
                generation=job.generation,
                attempt=after.attempt,
                event=type(event).__name__,
                before=job.state,
                after=after.state,
                detail=detail(event),
            )
        )
        return after

    async def release(self, job: Job, *, not_before: float | None = None) -> None:
        memory = self._storage.runs.get(job.run)
        stored = memory and memory.jobs.get(_key(job))
        if not memory or not stored or stored.fence != job.fence:
            raise refusals.claim_lost(job)
        memory.claimed.discard(_key(job))
        if not_before is not None:
            memory.jobs[_key(job)] = msgspec.structs.replace(stored, not_before=not_before)

    async def jobs(self, run: str, states: Collection[State] | None = None) -> list[Job]:
        memory = self._storage.runs.get(run)
        found = memory.jobs.values() if memory else []
        return sorted((job for job in found if states is None or job.state in states), key=_key)

    async def note(self, run: str, extra: Extra) -> None:
        await checkpoint_if_cancelled()
        self._memory(run).extras[extra.batch] = extra

    async def extras(self, run: str) -> list[Extra]:
        memory = self._storage.runs.get(run)
        if memory is None:
            return []
        adopted = {job.batch for other in self._storage.runs.values() for job in other.jobs.values()}
        found = (extra for extra in memory.extras.values() if extra.batch not in adopted)
        return sorted(found, key=lambda extra: (extra.shard, extra.generation, extra.batch))

    async def history(self, run: str, shard: int | None = None) -> list[Entry]:
        memory = self._storage.runs.get(run)
        return [entry for entry in (memory.entries if memory else []) if shard is None or entry.shard == shard]

    async def statistics(self, run: str) -> Statistics:
        memory = self._memory(run)
        states = [job.state for job in memory.jobs.values()]
        tallies = [job.tally for job in latest(job for job in memory.jobs.values() if job.tally) if job.tally]
        return Statistics(
            run=run,
            cursor=memory.cursor,
            states={state: states.count(state) for state in State if state in states},
            spooled_bytes=memory.sizes(SPOOLED),
            stored_bytes=memory.sizes(STORED),
            uploaded_bytes=sum(shard.bytes for shard in memory.reached("FileReady")),
            jobs_created=len(memory.reached("JobKnown")),
            duplicates_healed=sum(extra.state is not ExtraState.SEEN for extra in await self.extras(run)),
            duplicates_live=sum(extra.state is ExtraState.CANCELLING for extra in await self.extras(run)),
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
            raise refusals.not_published(run)
        for child, _ in children:
            if (child.index, child.generation) in memory.shards:
                raise refusals.sealed_already(child)
        for child, events in children:
            self._enter(memory, child, events)
        memory.sha256 = None

    async def published(self, run: str) -> str | None:
        return self._memory(run).sha256

    def _memory(self, run: str) -> _Memory:
        if run not in self._storage.runs:
            raise refusals.unknown_run(run)
        return self._storage.runs[run]

    def _held(self, job: Job) -> _Memory:
        """The run of a job that is still in its row's state, attempt and fence."""
        memory = self._storage.runs.get(job.run)
        stored = memory and memory.jobs.get(_key(job))
        if not memory or not stored or _guard(stored) != _guard(job):
            raise refusals.stale(job)
        return memory

    def _refuse_taken(self, job: Job, after: Job) -> None:
        if (after.file, after.batch) == (job.file, job.batch):
            return
        others = (other for memory in self._storage.runs.values() for other in memory.jobs.values())
        for other in others:
            same = {after.file, after.batch} & {other.file, other.batch} - {None}
            if same and (other.run, _key(other)) != (job.run, _key(job)):
                raise refusals.name_taken(after)


def _key(job: Job) -> Key:
    return job.shard, job.generation


def _guard(job: Job) -> tuple[State, int, int]:
    return job.state, job.attempt, job.fence
