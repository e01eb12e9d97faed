"""The seam of the manifest: about ten verbs, each one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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
    from .._rules.lifecycle import Event


class Manifest(Protocol):
    """Every verb is durable when it returns. A handle is held by one driver at a time.

    A job is worked on by whoever claimed it, until ``release``; claims die with the handle. All methods may raise
    ManifestError, or IncompleteRun when the disk refuses; what a failed commit raises ends the use of the handle.
    """

    @property
    def instance(self) -> str:
        """8 hex digits made once for this manifest; they stand in the display name of every input file."""
        ...

    async def credential(self) -> Credential | None:
        """Of the key and the service that the runs were last driven with; None before, or by a person's word."""
        ...

    async def set_credential(self, mark: Credential) -> None: ...

    async def open_run(self, run: Run) -> Run:
        """Create the run, or take up the stored one with the same id. Raises ManifestError on another fingerprint."""
        ...

    async def find_run(self, run: str) -> Run | None: ...

    async def runs(self) -> list[Run]: ...

    async def cursor(self, run: str) -> Cursor:
        """How far the input is cut; the zero cursor at first."""
        ...

    async def keep_sources(self, run: str, marks: Sequence[SourceIdentity]) -> list[SourceIdentity]:
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

    async def shard(self, row: ShardRow) -> Shard: ...

    async def claim(self, run: str, states: Collection[State], *, now: float, limit: int = 1) -> list[ShardRow]:
        """Take due jobs (see ``retrying.is_due``) that nobody holds, lowest shard first; each gets a new fence."""
        ...

    async def record(
        self,
        row: ShardRow,
        event: Event,
        child: Shard | None = None,
        *events: Event,
        duplicate_jobs: Sequence[DuplicateJob] = (),
    ) -> ShardRow:
        """Apply the event and write its history line, in one transaction, if the row still has the job's
        state, attempt and fence. Raises ManifestError otherwise. With it comes ``child``, the next generation of the
        shard, whose file is durable, and to which ``events`` have happened already; and ``extras``, as by ``note``."""
        ...

    async def release(self, row: ShardRow, *, due: float | None = None) -> None:
        """Give a claimed job back, as any of its rows since the claim; with ``due``, it is not due earlier.

        Raises ManifestError when the claim is no longer the latest.
        """
        ...

    async def rows(self, run: str, states: Collection[State] | None = None) -> list[ShardRow]:
        """Jobs in these states (all without), lowest shard first."""
        ...

    async def note(self, run: str, duplicate: DuplicateJob) -> None:
        """Enter a job too many, or what has become of it."""
        ...

    async def duplicate_jobs(self, run: str) -> list[DuplicateJob]:
        """Jobs too many, lowest shard first. One that was adopted after all is none."""
        ...

    async def history(self, run: str, shard: int | None = None) -> list[Entry]: ...

    async def statistics(self, run: str) -> Statistics: ...

    async def publish(self, run: str, sha256: str) -> None:
        """Record that the output stands under its name; the digest is that of its shards' digests, in order."""
        ...

    async def reopen(self, run: str, children: Sequence[tuple[Shard, Sequence[Event]]]) -> None:
        """The output is no longer the last word: enter these shards, whose files are durable, each with the events
        that have happened to it, in the same transaction. Raises ManifestError unless the run is published."""
        ...

    async def published(self, run: str) -> str | None: ...
