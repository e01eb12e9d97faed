"""The seam of the manifest: 14 verbs, each one transaction, and the reads.

A store over a network can implement it as well: every write on a row is one ``Change``, whose guard and effects fit
into one statement; times of leases and of ``due`` are the store's own; a write whose answer was lost is read back.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct

from .._model import DuplicateJob, Reservation, Shard, ShardRow
from .._rules.lifecycle import CreateDeferred, Event, JobNeverStarted, advance
from . import errors

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .._model import (
        Credential,
        Cursor,
        Entry,
        Lease,
        ListPass,
        Quota,
        Run,
        SourceIdentity,
        State,
        Statistics,
    )


class Child(Struct, frozen=True):
    """A generation to be sealed, whose file is durable, and the events that have happened to it already."""

    shard: Shard
    events: tuple[Event, ...] = ()


class Change(Struct, frozen=True):
    """One write on a row: all of it is applied if the row is still as ``row`` has it, else nothing.

    Compared are run, shard and generation, the fencing token, and that no other node owns the row; with an event the
    state and the attempt as well.
    """

    row: ShardRow
    #: None for a write that only gives back a claim or a reservation.
    event: Event | None = None
    #: Sealed with the event that sets the row's tally.
    children: tuple[Child, ...] = ()
    #: Noted as by ``note``.
    duplicate_jobs: tuple[DuplicateJob, ...] = ()
    #: Refused with QuotaFull, and the whole change with it, where one of them does not fit.
    reserve: tuple[Reservation, ...] = ()
    #: Give back what the row has reserved.
    free: bool = False
    #: Give back the claim.
    release: bool = False
    #: Seconds from now, by the manifest's clock, until the row may be claimed again; None leaves ``due`` as it is.
    wait: float | None = None

    @property
    def name(self) -> str:
        return type(self.event).__name__ if self.event is not None else "release"

    def stamped(self, now: float) -> Change:
        """With the time that the event names as ``due``, by the manifest's clock."""
        if self.wait is None or not isinstance(self.event, CreateDeferred | JobNeverStarted):
            return self
        return msgspec.structs.replace(self, event=msgspec.structs.replace(self.event, due=now + self.wait))

    def applied(self, now: float) -> ShardRow:
        """The row after the change. Raises ManifestError when the event may not follow the row's state."""
        row = self.row if self.event is None else advance(self.row, self.event)
        if self.children and row.tally is None:
            raise errors.no_tally(row)
        return msgspec.structs.replace(
            row,
            version=row.version if self.event is None else row.version + 1,
            owner=None if self.release else row.owner,
            due=row.due if self.wait is None else now + self.wait,
        )


class Outcome(enum.Enum):
    """What became of a change whose answer was lost."""

    WRITTEN = "written"
    #: And it never will be.
    NOT_WRITTEN = "not written"
    #: It cannot be read back now. Never to be taken for ``NOT_WRITTEN``.
    UNKNOWN = "unknown"


class Manifest(Protocol):
    """Every verb is durable when it returns. All may raise ManifestError, or IncompleteRun when the disk refuses.

    A row is worked on by the node that has claimed it, until the claim is released or taken over. A handle is a node of
    its own; what an earlier handle of an exclusive store held is free when the next one opens. When a write raises
    anything but a ManifestError, its outcome is unknown until ``outcome`` says otherwise.
    """

    @property
    def instance(self) -> str:
        """8 hex digits made once for this manifest, which are part of the display name of every input file."""
        ...

    # Verbs

    async def set_credential(self, credential: Credential) -> None: ...

    async def open_run(self, run: Run) -> Run:
        """Create the run, or resume the stored one with the same id. Raises ManifestError on another fingerprint."""
        ...

    async def keep_sources(self, run: str, sources: Sequence[SourceIdentity]) -> list[SourceIdentity]:
        """Store what the inputs look like, as long as no shard is cut from them; return what is stored."""
        ...

    async def seal(self, shard: Shard, cursor: Cursor, *events: Event) -> None:
        """Enter a shard, whose file is durable, together with the position that it reaches.

        The events are what is known of it already; no claim comes before them.
        """
        ...

    async def move(self, run: str, cursor: Cursor) -> None:
        """Move the cursor without a shard: the end of the input."""
        ...

    async def claim(
        self, run: str, states: Collection[State], *, limit: int = 1, node: int | None = None
    ) -> list[ShardRow]:
        """Take rows that are due (see ``retry.is_due``) and free, lowest shard first; each gets a new fencing token.

        ``node`` is the one that takes them, by default this handle's own. Raises ManifestError for a node whose lease
        was taken over.
        """
        ...

    async def write(self, change: Change) -> ShardRow:
        """Apply a change, with a history line for its event. Raises ManifestError when the row has moved on."""
        ...

    async def note(self, run: str, duplicate: DuplicateJob) -> None:
        """Enter a duplicate job, or its new state."""
        ...

    async def publish(self, run: str, sha256: str) -> None:
        """Record that the output is published; the digest is that of its shards' digests, in order."""
        ...

    async def reopen(self, run: str, children: Sequence[Child]) -> None:
        """Seal these generations of a published run in one transaction, and take back that it is published.

        Raises ManifestError unless the run is published.
        """
        ...

    async def lease(self, seconds: float, *, node: int | None = None, name: str = "") -> Lease:
        """Register a node, or extend the lease of ``node``, from now on for so long.

        A lease that has run out is extended until another node takes it over. Raises Conflict afterwards.
        """
        ...

    async def take_over(self) -> int:
        """Free the rows of nodes whose lease has run out, each with a new fencing token; how many there were.

        To be called by a node whose own beats were answered for a whole lease: after an outage all leases have run out.
        """
        ...

    async def note_pass(self, run: str, done: ListPass) -> None: ...

    async def set_quota(self, service: str, what: str, most: int) -> None:
        """Set the limit, which may be lower than what is used; then nothing is reserved until enough is given back."""
        ...

    # Reads

    async def credential(self) -> Credential | None:
        """Of the key and the service that the runs were last driven with; None before that, and after an adoption."""
        ...

    async def find_run(self, run: str) -> Run | None: ...

    async def runs(self) -> list[Run]:
        """In the order in which they were opened."""
        ...

    async def cursor(self, run: str) -> Cursor:
        """How far the input is cut; the zero cursor at first."""
        ...

    async def published(self, run: str) -> str | None: ...

    async def shard(self, row: ShardRow) -> Shard: ...

    async def rows(
        self, run: str, states: Collection[State] | None = None, *, shard: int | None = None
    ) -> list[ShardRow]:
        """Rows in these states (all without), of one shard or of all, by shard and generation."""
        ...

    async def duplicate_jobs(self, run: str) -> list[DuplicateJob]:
        """Lowest shard first. A job that was adopted after all is none."""
        ...

    async def history(self, run: str, shard: int | None = None) -> list[Entry]: ...

    async def statistics(self, run: str) -> Statistics: ...

    async def passes(self, run: str, since: float) -> list[ListPass]:
        """Those that began after this time, in the order in which they were noted."""
        ...

    async def quotas(self, service: str) -> list[Quota]: ...

    async def outcome(self, change: Change) -> Outcome:
        """What became of a change. Read under a lock that a write under way holds, so that none is missed."""
        ...
