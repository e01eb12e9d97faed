"""Ingest: sources are validated, cut into shards and sealed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import msgspec

from .._errors import InputChanged, InputError
from .._io.clock import time_limit
from .._io.inputs import compare_identities, open_sources, refuse_other_formats
from .._io.ledger import BlockCheck
from .._io.output import own_files
from .._io.request_file import ShardCheck, open_write_queue
from .._model import Cursor, Shard, ShardRow, SourceIdentity
from .._rules import quota
from .._rules.cursor import next_source, past, within
from .._rules.diagnosis import LineForm
from .._rules.sharding import Roller
from .further import earlier_answers
from .reconciler import suspect
from .validation_pool import Validator, validating

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from .._io.clock import Clock
    from .._io.inputs import Inputs
    from .._io.output import Output
    from .._io.places import PlacesFile
    from .._io.request_file import WriteQueue
    from .._io.spool import RejectsFile, RunSpool
    from .._io.storage import Source
    from .._manifest.base import Manifest
    from .._model import Reject, Run
    from .._options import Options
    from .._rules.lifecycle import Event
    from .._rules.validate import Block
    from .run import Changes, Meter, RunContext
    from .shares import Shares
    from .validation_pool import BlockQueue, Pending


class Target(Protocol):
    """The open shard: a file that is written, or one that is sealed already and compared."""

    #: Written to it, or waiting to be written.
    bytes: int
    lines: int

    async def write(self, data: memoryview) -> None: ...

    async def seal(self) -> str: ...

    async def discard(self) -> None: ...


class IngestContext(Protocol):
    """What ingest needs of a run."""

    @property
    def run(self) -> Run: ...
    @property
    def files(self) -> RunSpool: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def options(self) -> Options: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def changes(self) -> Changes: ...
    @property
    def meter(self) -> Meter: ...
    @property
    def shares(self) -> Shares: ...


class Ingest:
    """Cuts the input of one run into shards.

    ``listed`` is the published list of rejected lines; ``known`` gives the events of a shard before it is first sent;
    ``answered`` finds digests of keys that need not be asked.
    """

    def __init__(
        self,
        ctx: IngestContext,
        sources: Sequence[Source],
        *,
        listed: str,
        known: Callable[[Shard], Awaitable[Sequence[Event]]] | None = None,
        form: LineForm,
        answered: Callable[[Sequence[bytes]], list[int]] | None = None,
    ) -> None:
        self._form = form
        self._ctx = ctx
        self._known = known
        self._run = ctx.run
        self._sources = sources
        self._manifest = ctx.manifest
        self._options = ctx.options
        self._meter = ctx.meter
        self._roller = Roller(ctx.run.limits.shard_bytes, ctx.run.limits.shard_requests)
        self._check = BlockCheck(
            ctx.files.ledger(ctx.options.ledger_keys), self._roller, ctx.options.duplicates, form.shape, answered
        )
        self._validator: Validator
        self._writes: WriteQueue
        self._listed = listed
        self._first_reject: Reject | None = None
        self._rejects: RejectsFile
        self._places: PlacesFile
        #: Bytes of the file of places that belong to sealed shards.
        self._known_places = 0
        self._identities: list[SourceIdentity] = []
        self._cursor = Cursor()
        #: Length and digest of the list of rejects up to the lines that were taken.
        self._listed_rejects = (0, "")
        #: Shards that the manifest has, and shards that this start has sealed or compared.
        self._sealed = 0
        self._shards = 0
        self._resealed: Shard | None = None
        self._target: Target | None = None
        self._opened_at = 0.0

    async def ingest(self) -> None:
        """Until the end of the input, which was not reached before.

        Raises InputError when the input cannot be used, IncompleteRun when the disk is full.
        """
        stored = await self._manifest.cursor(self._run.id)
        self._identities = [await self._inspect(source) for source in self._sources]
        sizes = [source.size for source in self._sources if source.size is not None]
        self._meter.bytes_total = sum(sizes) if len(sizes) == len(self._sources) else None
        await self._compare_sources(stored)
        self._sealed = stored.shards
        fresh = Cursor(recursive=stored.recursive or not stored.shards)
        replayable = stored.shards and all(source.replayable for source in self._sources)
        self._cursor = stored if replayable else fresh
        self._known_places = stored.places_bytes
        self._shards, self._listed_rejects = self._cursor.shards, _rejects_of(self._cursor)
        async with self._opened():
            for source in self._sources[self._cursor.source :]:
                await self._take_source(source)
                self._cursor = next_source(self._cursor)
            await self._finish()

    async def _inspect(self, source: Source) -> SourceIdentity:
        """Verify the end of a file before anything of it is submitted, and take its identity."""
        if source.replayable:
            async with source:
                await source.verify()
        return source.identity()

    async def _compare_sources(self, stored: Cursor) -> None:
        """The inputs of a run that has shards must be the ones that these were cut from."""
        if not stored.shards:
            return
        now = self._identities
        then = await self._manifest.keep_sources(self._run.id, now)
        await compare_identities(then, now)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        """The files of an ingest under way. What is left unsealed at the end is not kept."""
        try:
            await self._check.restore(self._cursor.shards)
            await self._ctx.files.keep_names([source.name for source in self._sources])
            self._rejects = await self._ctx.files.open_rejects(*_rejects_of(self._cursor))
            self._places = await self._ctx.files.open_places(self._known_places)
            try:
                validator = Validator(self._options, self._ctx.shares, self._form.shape)
                async with validator as self._validator, open_write_queue() as self._writes:
                    yield
            finally:
                await self._rejects.close()
                await self._places.close()
                if self._target is not None:
                    await self._target.discard()
        finally:
            await self._check.close()

    async def _take_source(self, source: Source) -> None:
        # Files have been looked at before. What has shards is taken as it is.
        look = None if source.replayable or self._sealed or self._run.recovered else self._form
        parts = validating(source, self._validator, self._options, offset=self._cursor.offset, look=look)
        async with source, parts as blocks:
            while (pending := await self._next(blocks)) is not None:
                await self._take(await pending.block())

    async def _next(self, blocks: BlockQueue) -> Pending | None:
        """The next block; None at the end. A shard whose age is reached is sealed while waiting."""
        while (left := self._time_left()) is not None:
            taken: list[Pending | None] = []
            async with time_limit(self._ctx.clock, left):
                taken.append(await blocks.take())
            if taken:
                return taken[0]
            await self._seal(self._cursor)
        return await blocks.take()

    def _time_left(self) -> float | None:
        age = self._run.limits.shard_age
        if age is None or self._resealed or self._target is None or not self._target.lines:
            return None
        return max(0.0, self._opened_at + age - self._ctx.clock.monotonic())

    async def _take(self, validated: Block) -> None:
        before, start = self._cursor, 0
        block = await self._check.check(validated, before.line)
        count = len(block.ends)
        reject_ends = await self._write_rejects(block)
        await self._places.add(block, before.source, before.valid)
        while start < count:
            target = self._target or await self._open()
            taken = self._fit(target, block, start)
            if taken:
                await self._fill(target, block, start, taken)
                start += taken
            if start < count or self._full(target):
                position = within(before, block, start)
                rejects = position.rejected - before.rejected
                self._listed_rejects = reject_ends[rejects - 1] if rejects else _rejects_of(before)
                await self._seal(position)
        self._listed_rejects = reject_ends[-1] if reject_ends else _rejects_of(before)
        self._cursor = self._stamped(past(before, block))
        self._measure()

    async def _write_rejects(self, block: Block) -> list[tuple[int, str]]:
        if not block.rejects:
            return []
        self._first_reject = self._first_reject or block.rejects[0]
        return await self._rejects.write(block.rejects)

    async def _fill(self, target: Target, block: Block, start: int, count: int) -> None:
        """The keys must be known before the next lines are checked; the bytes are written and hashed meanwhile."""
        begin, end = block.ends[start - 1] if start else 0, block.ends[start + count - 1]
        target.bytes += end - begin
        target.lines += count
        await target.write(memoryview(block.data)[begin:end])
        await self._check.add(block.keys[start : start + count])

    def _fit(self, target: Target, block: Block, start: int) -> int:
        if self._resealed is not None:
            return min(self._resealed.lines - target.lines, len(block.ends) - start)
        return self._roller.cut(target.bytes, target.lines, block.ends, start)

    def _full(self, target: Target) -> bool:
        return target.lines == (self._resealed.lines if self._resealed else self._run.limits.shard_requests)

    async def _open(self) -> Target:
        if self._shards < self._sealed:
            self._resealed = await self._manifest.shard(ShardRow(run=self._run.id, shard=self._shards))
            self._target = ShardCheck(self._writes)
        else:
            await self._wait_for_room()
            self._resealed = None
            self._target = await self._ctx.files.open_shard(self._shards, self._writes)
        self._opened_at = self._ctx.clock.monotonic()
        return self._target

    async def _wait_for_room(self) -> None:
        """Hold the source back while the spool is full."""
        while True:
            changed = self._ctx.changes.mark()
            spooled = (await self._manifest.statistics(self._run.id)).spooled_bytes
            if quota.may_open_shard(spooled, self._run.limits.shard_bytes, self._options.spool_bytes):
                return
            await changed.wait()

    async def _seal(self, position: Cursor) -> None:
        """Seal the open shard, whose last line ends at ``position``."""
        assert self._target is not None
        target = self._target
        digest = await target.seal()
        self._target = None  # not before: a cancelled seal leaves a draft to discard
        await self._check.seal(self._shards)
        self._shards += 1
        if self._resealed is None:
            await self._enter(target, digest, self._stamped(position))
        elif digest != self._resealed.sha256:
            raise InputChanged(
                f"the input is not the one that this run was started with: it differs before line {position.line + 1}; "
                "a stream must be given again from its start",
                name=self._sources[0].name,
            )

    async def _enter(self, target: Target, digest: str, reached: Cursor) -> None:
        await self._rejects.sync()
        await self._places.sync()
        if reached.shards == 1:
            await self._manifest.keep_sources(self._run.id, self._identities)
        shard = Shard(
            run=self._run.id,
            index=reached.shards - 1,
            bytes=target.bytes,
            lines=target.lines,
            sha256=digest,
            first=reached.valid - target.lines,
            last=reached.valid - 1,
        )
        await self._manifest.seal(shard, reached, *(await self._known(shard) if self._known else ()))
        self._ctx.changes.notify()

    async def _finish(self) -> None:
        if self._target is not None and self._target.lines:
            await self._seal(self._cursor)
        if self._shards < self._sealed:
            raise InputChanged(
                f"the input ended at line {self._cursor.lines}, earlier than at the first start",
                name=self._sources[-1].name,
            )
        if not self._cursor.valid and not self._cursor.skipped:
            names = ", ".join(source.name for source in self._sources[:3])
            if not self._cursor.lines:
                raise InputError(f"{names}: no usable line, because the input is empty")
            raise InputError(f"{names}: no usable line among {self._cursor.lines}{self._bad_lines()}")
        await self._rejects.sync()
        await self._manifest.move(self._run.id, msgspec.structs.replace(self._stamped(self._cursor), done=True))
        self._ctx.changes.notify()

    def _stamped(self, position: Cursor) -> Cursor:
        size, sha256 = self._listed_rejects
        places = self._places.length(position.valid)
        return msgspec.structs.replace(
            position, shards=self._shards, rejects_bytes=size, rejects_sha256=sha256, places_bytes=places
        )

    def _measure(self) -> None:
        cursor, limit = self._cursor, self._options.max_rejects
        self._meter.bytes_read, self._meter.lines = cursor.bytes, cursor.lines
        self._meter.valid, self._meter.rejected = cursor.valid, cursor.rejected
        if limit is not None and cursor.rejected > limit:
            raise InputError(f"{cursor.rejected} bad lines, more than the {limit} allowed{self._bad_lines()}")

    def _bad_lines(self) -> str:
        """The first rejected line of this start, and the list of all."""
        if (first := self._first_reject) is None:
            return f"; they are listed in {self._listed}" if self._cursor.rejected else ""
        return f": {first.source}:{first.line}: {first.reason}; they are listed in {self._listed}"


def _rejects_of(cursor: Cursor) -> tuple[int, str]:
    return cursor.rejects_bytes, cursor.rejects_sha256


async def take_in(ctx: RunContext, inputs: Inputs, output: Output | None = None, *, listed: Path | None = None) -> None:
    """Read the input until it ends or a stop is requested.

    A stream that ends after a stop was requested may have been cut by the same signal: it does not count as the end.
    ``listed`` is the published list of rejected lines, if there is one. Raises RuntimeError while another call reads
    the same run's input: both would write the same files.
    """
    if ctx.run.id in ctx.reading:
        raise RuntimeError(f"this client already reads the input of run {ctx.run.id!r}")
    ctx.reading.add(ctx.run.id)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cut_off, ctx.stopped, tasks.cancel_scope)
            if not (await ctx.manifest.cursor(ctx.run.id)).done:
                own, form = await own_files(ctx.spool, output), _form(ctx)
                cursor = await ctx.manifest.cursor(ctx.run.id)
                if not (ctx.run.recovered or cursor.shards):
                    await refuse_other_formats(inputs, form, own)
                flat = cursor.shards > 0 and not cursor.recursive
                sources = await open_sources(inputs, own, form.shape, flat=flat)
                place = str(listed or ctx.files.results.locate(ctx.files.rejects))
                async with earlier_answers(ctx) as answered:
                    known = partial(suspect, ctx)
                    await Ingest(ctx, sources, listed=place, known=known, form=form, answered=answered).ingest()
            tasks.cancel_scope.cancel()
    finally:
        ctx.reading.remove(ctx.run.id)


def _form(ctx: RunContext) -> LineForm:
    able = ctx.provider.capabilities
    return LineForm(shape=able.lines, requests=able.requests, task=ctx.run.task)


async def _cut_off(stopped: anyio.Event, scope: anyio.CancelScope) -> None:
    await stopped.wait()
    scope.cancel()
