"""The manifest in memory, for tests and for stages that need none afterwards. The same verbs, the same errors."""

from __future__ import annotations

import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from .._errors import IncompleteRun, ManifestError
from .._io.effects import effect
from .._model import (
    Credential,
    Cursor,
    DuplicateJob,
    DuplicateState,
    Entry,
    Lease,
    ListPass,
    Quota,
    Reservation,
    Run,
    Shard,
    ShardRow,
    SourceIdentity,
    State,
    Statistics,
    Tally,
)
from .._rules.generations import total
from .._rules.lifecycle import SPOOLED, STORED, Event, detail
from .._rules.retry import is_due
from . import errors
from .base import Change, Child, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from .base import Manifest

Key = tuple[int, int]
#: The node of a handle itself.
OWN = 0


@dataclass
class _Memory:
    run: Run
    cursor: Cursor = field(default_factory=Cursor)
    sources: list[SourceIdentity] = field(default_factory=list)
    shards: dict[Key, Shard] = field(default_factory=dict)
    rows: dict[Key, ShardRow] = field(default_factory=dict)
    #: Each with the fencing token under which it was written.
    entries: list[tuple[Entry, int]] = field(default_factory=list)
    duplicate_jobs: dict[str, DuplicateJob] = field(default_factory=dict)
    passes: list[ListPass] = field(default_factory=list)
    sha256: str | None = None

    def sizes(self, states: Collection[State]) -> int:
        return sum(self.shards[key].bytes for key, row in self.rows.items() if row.state in states)

    def reached(self, event: str) -> list[Shard]:
        """The shard for each time that the event happened to it."""
        return [self.shards[entry.shard, entry.generation] for entry, _ in self.entries if entry.event == event]

    def tally(self) -> Tally:
        return total(self.rows.values(), {key: shard.lines for key, shard in self.shards.items()})


@dataclass
class _Node:
    until: float
    gone: bool = False


@dataclass
class Storage:
    """What outlives a handle."""

    instance: str = field(default_factory=lambda: secrets.token_hex(4))
    runs: dict[str, _Memory] = field(default_factory=dict)
    credential: Credential | None = None
    nodes: dict[int, _Node] = field(default_factory=dict)
    #: By service and what.
    most: dict[tuple[str, str], int] = field(default_factory=dict)
    reserved: dict[tuple[str, int, int], list[Reservation]] = field(default_factory=dict)

    def free(self, freed: Collection[int] | None) -> int:
        """Free the rows of these nodes, or of all."""
        count = 0
        for memory in self.runs.values():
            for key, row in memory.rows.items():
                if row.owner is not None and (freed is None or row.owner in freed):
                    memory.rows[key] = msgspec.structs.replace(row, owner=None, fence=row.fence + 1)
                    count += 1
        return count

    def quota(self, service: str, what: str) -> Quota:
        held = (reservation for some in self.reserved.values() for reservation in some)
        used = sum(each.amount for each in held if (each.service, each.what) == (service, what))
        return Quota(service=service, what=what, used=used, most=self.most[service, what])


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
        storage.free(None)
        for node in storage.nodes.values():
            node.gone = True

    @property
    def instance(self) -> str:
        return self._storage.instance

    async def set_credential(self, credential: Credential) -> None:
        await checkpoint_if_cancelled()
        self._storage.credential = credential

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

    async def keep_sources(self, run: str, sources: Sequence[SourceIdentity]) -> list[SourceIdentity]:
        await checkpoint_if_cancelled()
        memory = self._memory(run)
        if not memory.cursor.shards:
            memory.sources = list(sources)
        return list(memory.sources)

    async def seal(self, shard: Shard, cursor: Cursor, *events: Event) -> None:
        await checkpoint_if_cancelled()
        memory = self._memory(shard.run)
        self._enter(memory, Child(shard, events))
        memory.cursor = cursor

    async def move(self, run: str, cursor: Cursor) -> None:
        await checkpoint_if_cancelled()
        self._memory(run).cursor = cursor

    async def claim(
        self, run: str, states: Collection[State], *, limit: int = 1, node: int | None = None
    ) -> list[ShardRow]:
        await checkpoint_if_cancelled()
        owner = OWN if node is None else node
        if owner != OWN:
            self._require_node(owner)
        memory, now = self._storage.runs.get(run), self._clock()
        if memory is None:
            return []
        free = [row for row in await self.rows(run, states) if row.owner is None and is_due(row.due, now)]
        taken = [msgspec.structs.replace(row, owner=owner, fence=row.fence + 1) for row in free[:limit]]
        memory.rows |= {_key(row): row for row in taken}
        return taken

    async def write(self, change: Change) -> ShardRow:
        if not change.release:
            await checkpoint_if_cancelled()
        try:
            async with effect(f"manifest.{change.name}"):
                return self._write(change)
        except OSError as error:
            raise IncompleteRun(f"the answer of a write was lost ({error})") from error

    def _write(self, change: Change) -> ShardRow:
        now = self._clock()
        change = change.stamped(now)
        after, row = change.applied(now), change.row
        memory, stored = self._held(row, change.event)
        if change.event is None:
            due = stored.due if change.wait is None else after.due
            after = msgspec.structs.replace(stored, owner=None if change.release else stored.owner, due=due)
        elif not change.release:
            after = msgspec.structs.replace(after, owner=stored.owner)
        for child in change.children:
            self._refuse_present(memory, child.shard)
        self._refuse_taken(row, after)
        self._reserve(row, change)
        for child in change.children:
            self._enter(memory, child)
        memory.rows[_key(row)] = after
        memory.duplicate_jobs |= {duplicate.job: duplicate for duplicate in change.duplicate_jobs}
        if change.event is not None:
            memory.entries.append((_entry(row, after, change.event, now), row.fence))
        return after

    def _reserve(self, row: ShardRow, change: Change) -> None:
        place, reserved = (row.run, row.shard, row.generation), self._storage.reserved
        before = reserved.get(place, [])
        reserved[place] = [] if change.free else list(before)
        for each in change.reserve:
            try:
                self._require_room(each)
            except ManifestError:
                reserved[place] = before
                raise
            reserved[place].append(each)

    def _require_room(self, reservation: Reservation) -> None:
        if (reservation.service, reservation.what) not in self._storage.most:
            raise errors.unknown_quota(reservation)
        quota = self._storage.quota(reservation.service, reservation.what)
        if quota.used + reservation.amount > quota.most:
            raise errors.quota_full(quota, reservation.amount)

    def _enter(self, memory: _Memory, child: Child) -> None:
        shard = child.shard
        self._refuse_present(memory, shard)
        place = (shard.index, shard.generation)
        memory.shards[place] = shard
        row = memory.rows[place] = ShardRow(
            run=shard.run,
            shard=shard.index,
            generation=shard.generation,
            parent=shard.parent,
            cause=shard.cause,
            depth=shard.depth,
        )
        for event in child.events:
            row = self._write(Change(row, event))

    async def note(self, run: str, duplicate: DuplicateJob) -> None:
        await checkpoint_if_cancelled()
        self._memory(run).duplicate_jobs[duplicate.job] = duplicate

    async def publish(self, run: str, sha256: str) -> None:
        await checkpoint_if_cancelled()
        self._memory(run).sha256 = sha256

    async def reopen(self, run: str, children: Sequence[Child]) -> None:
        await checkpoint_if_cancelled()
        memory = self._memory(run)
        if memory.sha256 is None:
            raise errors.not_published(run)
        for child in children:
            self._refuse_present(memory, child.shard)
        for child in children:
            self._enter(memory, child)
        memory.sha256 = None

    async def lease(self, seconds: float, *, node: int | None = None, name: str = "") -> Lease:
        await checkpoint_if_cancelled()
        until = self._clock() + seconds
        if node is None:
            node = len(self._storage.nodes) + 1
            self._storage.nodes[node] = _Node(until)
        self._require_node(node).until = until
        return Lease(node=node, until=until)

    async def take_over(self) -> int:
        await checkpoint_if_cancelled()
        now = self._clock()
        dead = {number: node for number, node in self._storage.nodes.items() if not node.gone and node.until < now}
        for node in dead.values():
            node.gone = True
        return self._storage.free(dead)

    async def note_pass(self, run: str, done: ListPass) -> None:
        await checkpoint_if_cancelled()
        self._memory(run).passes.append(done)

    async def set_quota(self, service: str, what: str, most: int) -> None:
        await checkpoint_if_cancelled()
        self._storage.most[service, what] = most

    async def credential(self) -> Credential | None:
        return self._storage.credential

    async def find_run(self, run: str) -> Run | None:
        return self._storage.runs[run].run if run in self._storage.runs else None

    async def runs(self) -> list[Run]:
        return [memory.run for memory in self._storage.runs.values()]

    async def cursor(self, run: str) -> Cursor:
        return self._memory(run).cursor

    async def published(self, run: str) -> str | None:
        return self._memory(run).sha256

    async def shard(self, row: ShardRow) -> Shard:
        try:
            return self._storage.runs[row.run].shards[_key(row)]
        except KeyError:
            raise errors.unknown_shard(row) from None

    async def rows(
        self, run: str, states: Collection[State] | None = None, *, shard: int | None = None
    ) -> list[ShardRow]:
        memory = self._storage.runs.get(run)
        rows = [row for row in (memory.rows.values() if memory else ()) if shard is None or row.shard == shard]
        return sorted((row for row in rows if states is None or row.state in states), key=_key)

    async def duplicate_jobs(self, run: str) -> list[DuplicateJob]:
        memory = self._storage.runs.get(run)
        if memory is None:
            return []
        adopted = {row.job for other in self._storage.runs.values() for row in other.rows.values()}
        duplicates = (duplicate for duplicate in memory.duplicate_jobs.values() if duplicate.job not in adopted)
        return sorted(duplicates, key=lambda duplicate: (duplicate.shard, duplicate.generation, duplicate.job))

    async def history(self, run: str, shard: int | None = None) -> list[Entry]:
        memory = self._storage.runs.get(run)
        return [entry for entry, _ in (memory.entries if memory else []) if shard is None or entry.shard == shard]

    async def statistics(self, run: str) -> Statistics:
        memory = self._memory(run)
        states = [row.state for row in memory.rows.values()]
        known = [job for job in await self.duplicate_jobs(run) if job.state is not DuplicateState.SEEN]
        shards = [memory.shards.get((job.shard, job.generation)) for job in known]
        return Statistics(
            run=run,
            cursor=memory.cursor,
            states={state: states.count(state) for state in State if state in states},
            spooled_bytes=memory.sizes(SPOOLED),
            stored_bytes=memory.sizes(STORED),
            uploaded_bytes=sum(shard.bytes for shard in memory.reached("FileReady")),
            jobs_created=len(memory.reached("JobAdopted")),
            duplicates_healed=len(known),
            duplicates_live=sum(job.state is DuplicateState.CANCELLING for job in known),
            duplicates_lines=sum(shard.lines for shard in shards if shard is not None),
            retried=sum(shard.lines for shard in memory.shards.values() if shard.cause not in (None, "capacity")),
            lost=sum(shard.lines for shard in memory.reached("ResultLost")),
            tally=memory.tally(),
            merged=memory.sha256 is not None,
        )

    async def passes(self, run: str, since: float) -> list[ListPass]:
        memory = self._storage.runs.get(run)
        return [done for done in (memory.passes if memory else []) if done.began_at > since]

    async def quotas(self, service: str) -> list[Quota]:
        return [self._storage.quota(*place) for place in sorted(self._storage.most) if place[0] == service]

    async def outcome(self, change: Change) -> Outcome:
        row = change.row
        memory = self._storage.runs.get(row.run)
        stored = memory.rows.get(_key(row)) if memory else None
        if memory is None or stored is None or change.event is None:
            released = stored is not None and (stored.fence, stored.owner) == (row.fence, None)
            return Outcome.WRITTEN if released else Outcome.NOT_WRITTEN
        own = [line for line in memory.entries if (line[0].shard, line[0].generation) == _key(row)]
        found = [(entry.event, entry.before, fence) for entry, fence in own[row.version : row.version + 1]]
        return Outcome.WRITTEN if found == [(change.name, row.state, row.fence)] else Outcome.NOT_WRITTEN

    def _memory(self, run: str) -> _Memory:
        if run not in self._storage.runs:
            raise errors.unknown_run(run)
        return self._storage.runs[run]

    def _require_node(self, number: int) -> _Node:
        node = self._storage.nodes.get(number)
        if node is None or node.gone:
            raise errors.lease_lost(number)
        return node

    def _held(self, row: ShardRow, event: Event | None) -> tuple[_Memory, ShardRow]:
        """The run and the stored row, if it is still as it was read."""
        memory = self._storage.runs.get(row.run)
        stored = memory.rows.get(_key(row)) if memory else None
        same = stored is not None and stored.fence == row.fence and stored.owner in (None, row.owner or OWN)
        if memory is None or stored is None or not same:
            raise errors.claim_lost(row) if event is None else errors.stale(row)
        if event is not None and (stored.state, stored.attempt) != (row.state, row.attempt):
            raise errors.stale(row)
        return memory, stored

    def _refuse_present(self, memory: _Memory, shard: Shard) -> None:
        if (shard.index, shard.generation) in memory.shards:
            raise errors.sealed_already(shard)

    def _refuse_taken(self, row: ShardRow, after: ShardRow) -> None:
        if (after.file, after.job) == (row.file, row.job):
            return
        others = (other for memory in self._storage.runs.values() for other in memory.rows.values())
        for other in others:
            same = {after.file, after.job} & {other.file, other.job} - {None}
            if same and (other.run, _key(other)) != (row.run, _key(row)):
                raise errors.name_taken(after)


def _entry(row: ShardRow, after: ShardRow, event: Event, now: float) -> Entry:
    return Entry(
        at=now,
        shard=row.shard,
        generation=row.generation,
        attempt=after.attempt,
        event=type(event).__name__,
        before=row.state,
        after=after.state,
        detail=detail(event),
    )


def _key(row: ShardRow) -> Key:
    return row.shard, row.generation
