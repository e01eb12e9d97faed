"""Ingest: sources are validated, cut into shards and sealed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread
import msgspec

from .._errors import InputChanged, InputError
from .._io.clock import time_limit
from .._io.inputs import compare_identities, open_sources
from .._io.ledger import Ledger
from .._io.request_file import ShardCheck, ShardWriter
from .._io.spool import RejectsFile
from .._model import Cursor, Shard, ShardRow, SourceIdentity
from .._rules import quota
from .._rules.cursor import next_source, past, within
from .._rules.lines import OWN, LineShape
from .._rules.sharding import Roller
from .._rules.validate import Block, larger_than_shard, numbered, repeated_key, without
from .reconciler import suspect
from .run import own_files
from .validation_pool import Scanner, open_backlog, scanning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from .._io.clock import Clock
    from .._io.inputs import Inputs
    from .._io.sources import Source
    from .._io.spool import RunSpool
    from .._manifest.base import Manifest
    from .._model import Reject, Run
    from .._options import Options
    from .._rules.lifecycle import Event
    from .._rules.validate import Block
    from .publisher import Output
    from .run import Changes, Meter, RunContext
    from .validation_pool import Backlog, Pending, Window


class Judge:
    """Judges one frame after the other, against the limits and against all keys before it."""

    def __init__(self, options: Options, roller: Roller, ledger: Ledger, shape: LineShape = OWN) -> None:
        self._shape = shape
        self._options = options
        self._roller = roller
        self._ledger = ledger

    def judge(self, block: Block, before: int) -> Block:
        """The lines of a frame that stands behind ``before`` lines; those that cannot be used have become rejects.

        Blocks. Raises InputError for a repeated key if that is to be an error.
        """
        block = numbered(block, before)
        limit = self._roller.max_bytes
        block = without(block, self._roller.oversized(block.ends), lambda line: larger_than_shard(line, limit))
        repeated = self._ledger.repeated(block.keys)
        if repeated and self._options.duplicates == "error":
            at = repeated[0]
            reason = repeated_key(block.line(at), self._shape)
            raise InputError(f"{block.source}:{block.lines_no[at]} (byte {block.start(at)}): {reason}")
        return without(block, repeated, partial(repeated_key, shape=self._shape))


class Target(Protocol):
    """The open shard: a file that is written, or one that is sealed already and compared."""

    #: What was given to it, or will have been before it is sealed.
    bytes: int
    lines: int

    def write(self, data: memoryview) -> None: ...

    def seal(self) -> str: ...

    def discard(self) -> None: ...


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


class Ingest:
    """Cuts the input of one run into shards.

    ``listed`` is where people find the rejected lines; ``known`` gives the events of a shard before it is first sent.
    """

    def __init__(
        self,
        ctx: IngestContext,
        sources: Sequence[Source],
        *,
        listed: Path,
        known: Callable[[Shard], Awaitable[Sequence[Event]]] | None = None,
        shape: LineShape = OWN,
    ) -> None:
        self._shape = shape
        self._ctx = ctx
        self._known = known
        self._run = ctx.run
        self._sources = sources
        self._manifest = ctx.manifest
        self._options = ctx.options
        self._meter = ctx.meter
        self._ledger = Ledger(ctx.files.keys, memory_keys=ctx.options.ledger_keys)
        self._roller = Roller(ctx.run.limits.shard_bytes, ctx.run.limits.shard_requests)
        self._judge = Judge(ctx.options, self._roller, self._ledger, shape)
        self._scanner: Scanner
        self._backlog: Backlog
        self._listed = listed
        self._first_reject: Reject | None = None
        self._rejects: RejectsFile
        self._marks: list[SourceIdentity] = []
        self._cursor = Cursor()
        self._rejects_bytes = 0
        #: Shards that the manifest has, and shards that this pass has come to.
        self._sealed = 0
        self._shards = 0
        self._shadow: Shard | None = None
        self._target: Target | None = None
        self._opened_at = 0.0

    async def ingest(self) -> None:
        """Until the end of the input, which was not reached before.

        Raises InputError when the input cannot be used, IncompleteRun when the disk is full.
        """
        stored = await self._manifest.cursor(self._run.id)
        self._marks = [await self._inspect(source) for source in self._sources]
        lengths = [source.length for source in self._sources if source.length is not None]
        self._meter.bytes_total = sum(lengths) if len(lengths) == len(self._sources) else None
        await self._compare_sources(stored)
        self._sealed = stored.shards
        self._cursor = stored if all(source.replayable for source in self._sources) else Cursor()
        self._shards, self._rejects_bytes = self._cursor.shards, self._cursor.rejects_bytes
        async with self._opened():
            for source in self._sources[self._cursor.source :]:
                await self._take_source(source)
                self._cursor = next_source(self._cursor)
            await self._finish()

    async def _inspect(self, source: Source) -> SourceIdentity:
        """Make sure of the end of a file before anything of it is submitted, and see what it is known by."""
        if source.replayable:
            async with source:
                await source.verify()
        return source.mark()

    async def _compare_sources(self, stored: Cursor) -> None:
        """The inputs of a run that has shards must be the ones that these were cut from."""
        if not stored.shards:
            return
        now = self._marks
        then = await self._manifest.keep_sources(self._run.id, now)
        await compare_identities(then, now)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        """The files of an ingest under way. What is left unsealed at the end is not kept."""
        try:
            await anyio.to_thread.run_sync(self._ledger.restore, self._cursor.shards)
            self._rejects = await anyio.to_thread.run_sync(
                RejectsFile, self._ctx.files.rejects, self._cursor.rejects_bytes
            )
            try:
                async with Scanner(self._options, self._shape) as self._scanner, open_backlog() as self._backlog:
                    yield
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._close_files)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._ledger.close)

    def _close_files(self) -> None:
        self._rejects.close()
        if self._target is not None:
            self._target.discard()

    async def _take_source(self, source: Source) -> None:
        async with source, scanning(source, self._scanner, self._options, offset=self._cursor.offset) as window:
            while (pending := await self._next(window)) is not None:
                await self._take(await pending.block())

    async def _next(self, window: Window) -> Pending | None:
        """The next frame; None at the end. A shard whose age is reached is sealed while waiting."""
        while (left := self._time_left()) is not None:
            taken: list[Pending | None] = []
            async with time_limit(self._ctx.clock, left):
                taken.append(await window.take())
            if taken:
                return taken[0]
            await self._seal(self._cursor)
        return await window.take()

    def _time_left(self) -> float | None:
        age = self._run.limits.shard_age
        if age is None or self._shadow or self._target is None or not self._target.lines:
            return None
        return max(0.0, self._opened_at + age - self._ctx.clock.monotonic())

    async def _take(self, judged: Block) -> None:
        before, start = self._cursor, 0
        block = await anyio.to_thread.run_sync(self._judge.judge, judged, before.line)
        count = len(block.ends)
        reject_ends = await self._write_rejects(block)
        while start < count:
            target = self._target or await self._open()
            taken = self._fit(target, block, start)
            if taken:
                await self._fill(target, block, start, taken)
                start += taken
            if start < count or self._full(target):
                position = within(before, block, start)
                rejects = position.rejected - before.rejected
                self._rejects_bytes = reject_ends[rejects - 1] if rejects else before.rejects_bytes
                await self._seal(position)
        self._rejects_bytes = reject_ends[-1] if reject_ends else before.rejects_bytes
        self._cursor = self._stamped(past(before, block))
        self._measure()

    async def _write_rejects(self, block: Block) -> list[int]:
        if not block.rejects:
            return []
        self._first_reject = self._first_reject or block.rejects[0]
        return await anyio.to_thread.run_sync(self._rejects.write, block.rejects)

    async def _fill(self, target: Target, block: Block, start: int, count: int) -> None:
        """The keys must be known before the next lines are judged; the bytes are written and hashed meanwhile."""
        begin, end = block.ends[start - 1] if start else 0, block.ends[start + count - 1]
        target.bytes += end - begin
        target.lines += count
        await self._backlog.put(partial(target.write, memoryview(block.data)[begin:end]))
        await anyio.to_thread.run_sync(self._ledger.add, block.keys[start : start + count])

    def _fit(self, target: Target, block: Block, start: int) -> int:
        if self._shadow is not None:
            return min(self._shadow.lines - target.lines, len(block.ends) - start)
        return self._roller.cut(target.bytes, target.lines, block.ends, start)

    def _full(self, target: Target) -> bool:
        return target.lines == (self._shadow.lines if self._shadow else self._run.limits.shard_requests)

    async def _open(self) -> Target:
        if self._shards < self._sealed:
            self._shadow = await self._manifest.shard(ShardRow(run=self._run.id, shard=self._shards))
            self._target = ShardCheck()
        else:
            await self._wait_for_room()
            self._shadow = None
            self._target = await anyio.to_thread.run_sync(ShardWriter, self._ctx.files.shard(self._shards))
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
        await self._backlog.drain()
        digest = await anyio.to_thread.run_sync(target.seal)
        self._target = None  # not before: a cancelled seal leaves a draft to discard
        await anyio.to_thread.run_sync(self._ledger.seal, self._shards)
        self._shards += 1
        if self._shadow is None:
            await self._enter(target, digest, self._stamped(position))
        elif digest != self._shadow.sha256:
            raise InputChanged(
                f"the input is not the one that this run was started with: it differs before line {position.line + 1}; "
                "a stream must be given again from its start",
                name=self._sources[0].name,
            )

    async def _enter(self, target: Target, digest: str, reached: Cursor) -> None:
        await anyio.to_thread.run_sync(self._rejects.sync)
        if reached.shards == 1:
            await self._manifest.keep_sources(self._run.id, self._marks)
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
        if not self._cursor.valid:
            names = ", ".join(source.name for source in self._sources[:3])
            raise InputError(f"{names}: no usable line among {self._cursor.lines}{self._bad_lines()}")
        await anyio.to_thread.run_sync(self._rejects.sync)
        await self._manifest.move(self._run.id, msgspec.structs.replace(self._stamped(self._cursor), done=True))
        self._ctx.changes.notify()

    def _stamped(self, position: Cursor) -> Cursor:
        return msgspec.structs.replace(position, shards=self._shards, rejects_bytes=self._rejects_bytes)

    def _measure(self) -> None:
        cursor, limit = self._cursor, self._options.max_rejects
        self._meter.bytes_read, self._meter.lines = cursor.bytes, cursor.lines
        self._meter.valid, self._meter.rejected = cursor.valid, cursor.rejected
        if limit is not None and cursor.rejected > limit:
            raise InputError(f"{cursor.rejected} bad lines, more than the {limit} allowed{self._bad_lines()}")

    def _bad_lines(self) -> str:
        """The first of them that this start has met, and where all are."""
        if (first := self._first_reject) is None:
            return f"; they are listed in {self._listed}" if self._cursor.rejected else ""
        return f": {first.source}:{first.line}: {first.reason}; they are listed in {self._listed}"


async def take_in(ctx: RunContext, inputs: Inputs, output: Output | None = None, *, listed: Path | None = None) -> None:
    """Read the input until it ends or a stop is requested.

    A stream that ends after a stop was requested may have been cut by the same signal: it does not count as the end.
    ``listed`` is where people find the rejected lines, if not in the state directory. Raises RuntimeError while another
    call reads the same run's input: both would write the same files.
    """
    if ctx.run.id in ctx.reading:
        raise RuntimeError(f"this client already reads the input of run {ctx.run.id!r}")
    ctx.reading.add(ctx.run.id)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cut_off, ctx.stopped, tasks.cancel_scope)
            if not (await ctx.manifest.cursor(ctx.run.id)).done:
                shape = ctx.provider.capabilities.lines
                sources = await open_sources(inputs, await own_files(ctx.spool, output), shape)
                listed = listed or ctx.files.rejects
                await Ingest(ctx, sources, listed=listed, known=partial(suspect, ctx), shape=shape).ingest()
            tasks.cancel_scope.cancel()
    finally:
        ctx.reading.remove(ctx.run.id)


async def _cut_off(stopped: anyio.Event, scope: anyio.CancelScope) -> None:
    await stopped.wait()
    scope.cancel()
