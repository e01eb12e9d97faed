"""From sources to sealed shards: judge, roll, write, seal, until the input ends.

A shard and the position that it reaches are entered together, so a later start goes on behind the last one, and
what was read after it is read again. An input that cannot be read from the middle (a stream, rows) is read again
from its start: the shards that are sealed already are then not written, but checked against their digests.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread
import msgspec

from .._errors import InputError
from .._io.ledger import Ledger
from .._io.marks import place_of, refuse_changed
from .._io.rejects import RejectsFile
from .._io.spool import ShardCheck, ShardWriter
from .._model import Cursor, Job, Shard, SourceMark
from .._rules import progress, quota
from .._rules.rolling import Roller
from .backlog import open_backlog
from .judge import Judge
from .scanning import Scanner, scanning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from .._io.sources import Source
    from .._manifest.base import Manifest
    from .._model import Reject, Run
    from .._options import Options
    from .._rules.lifecycle import Event
    from .._rules.records import Batch
    from .backlog import Backlog
    from .scanning import Pending, Window
    from .signals import Changes, Meter


class Target(Protocol):
    """The open shard: a file that is written, or one that is sealed already and compared."""

    #: What was given to it, or will have been before it is sealed.
    bytes: int
    lines: int

    def write(self, data: memoryview) -> None: ...

    def seal(self) -> str: ...

    def discard(self) -> None: ...


class Ingest:
    """Cuts the input of one run.

    ``shard_path`` says where a shard's file goes, ``listed`` where people find the rejects in the end, ``suspect`` what
    is known of a shard before it was ever sent.
    """

    def __init__(
        self,
        run: Run,
        sources: Sequence[Source],
        *,
        manifest: Manifest,
        options: Options,
        shard_path: Callable[[int], Path],
        rejects: Path,
        listed: Path,
        keys: Path,
        changes: Changes,
        meter: Meter,
        suspect: Callable[[Shard], Awaitable[Sequence[Event]]] | None = None,
    ) -> None:
        self._run = run
        self._sources = sources
        self._manifest = manifest
        self._options = options
        self._shard_path = shard_path
        self._changes = changes
        self._meter = meter
        self._suspect = suspect
        self._ledger = Ledger(keys, memory_keys=options.ledger_keys)
        self._roller = Roller(run.limits.shard_bytes, run.limits.shard_requests)
        self._judge = Judge(options, self._roller, self._ledger)
        self._scanner: Scanner
        self._backlog: Backlog
        self._rejects_path = rejects
        self._listed = listed
        self._first_reject: Reject | None = None
        self._rejects: RejectsFile
        self._marks: list[SourceMark] = []
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
                self._cursor = progress.next_source(self._cursor)
            await self._finish()

    async def _inspect(self, source: Source) -> SourceMark:
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
        then = await self._manifest.mark_sources(self._run.id, now)
        await anyio.to_thread.run_sync(_compare_marks, then, now)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        """The files of an ingest under way. What is left unsealed at the end is not kept."""
        try:
            await anyio.to_thread.run_sync(self._ledger.restore, self._cursor.shards)
            self._rejects = await anyio.to_thread.run_sync(RejectsFile, self._rejects_path, self._cursor.rejects_bytes)
            try:
                async with Scanner(self._options) as self._scanner, open_backlog() as self._backlog:
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
                await self._take(await pending.batch())

    async def _next(self, window: Window) -> Pending | None:
        """The next frame; None at the end. A shard whose age is reached is sealed while waiting."""
        while True:
            with anyio.move_on_after(self._time_left()):
                return await window.take()
            await self._seal(self._cursor)

    def _time_left(self) -> float | None:
        age = self._run.limits.shard_age
        if age is None or self._shadow or self._target is None or not self._target.lines:
            return None
        return max(0.0, self._opened_at + age - time.monotonic())

    async def _take(self, judged: Batch) -> None:
        before, start = self._cursor, 0
        batch = await anyio.to_thread.run_sync(self._judge.judge, judged, before.line)
        count = len(batch.ends)
        reject_ends = await self._write_rejects(batch)
        while start < count:
            target = self._target or await self._open()
            taken = self._fit(target, batch, start)
            if taken:
                await self._fill(target, batch, start, taken)
                start += taken
            if start < count or self._full(target):
                position = progress.within(before, batch, start)
                rejects = position.rejected - before.rejected
                self._rejects_bytes = reject_ends[rejects - 1] if rejects else before.rejects_bytes
                await self._seal(position)
        self._rejects_bytes = reject_ends[-1] if reject_ends else before.rejects_bytes
        self._cursor = self._stamped(progress.past(before, batch))
        self._measure()

    async def _write_rejects(self, batch: Batch) -> list[int]:
        if not batch.rejects:
            return []
        self._first_reject = self._first_reject or batch.rejects[0]
        return await anyio.to_thread.run_sync(self._rejects.write, batch.rejects)

    async def _fill(self, target: Target, batch: Batch, start: int, count: int) -> None:
        """The keys must be known before the next lines are judged; the bytes are written and hashed meanwhile."""
        begin, end = batch.ends[start - 1] if start else 0, batch.ends[start + count - 1]
        target.bytes += end - begin
        target.lines += count
        await self._backlog.put(partial(target.write, memoryview(batch.data)[begin:end]))
        await anyio.to_thread.run_sync(self._ledger.add, batch.keys[start : start + count])

    def _fit(self, target: Target, batch: Batch, start: int) -> int:
        if self._shadow is not None:
            return min(self._shadow.lines - target.lines, len(batch.ends) - start)
        return self._roller.cut(target.bytes, target.lines, batch.ends, start)

    def _full(self, target: Target) -> bool:
        return target.lines == (self._shadow.lines if self._shadow else self._run.limits.shard_requests)

    async def _open(self) -> Target:
        if self._shards < self._sealed:
            self._shadow = await self._manifest.shard(Job(run=self._run.id, shard=self._shards))
            self._target = ShardCheck()
        else:
            await self._wait_for_room()
            self._shadow = None
            self._target = await anyio.to_thread.run_sync(ShardWriter, self._shard_path(self._shards))
        self._opened_at = time.monotonic()
        return self._target

    async def _wait_for_room(self) -> None:
        """Hold the source back while the spool is full."""
        while True:
            changed = self._changes.mark()
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
            raise InputError(
                f"the input is not the one that this run was started with: it differs before line {position.line + 1}. "
                "A stream must be given again from its start; for another one, choose another --out and --state"
            )

    async def _enter(self, target: Target, digest: str, reached: Cursor) -> None:
        await anyio.to_thread.run_sync(self._rejects.sync)
        if reached.shards == 1:
            await self._manifest.mark_sources(self._run.id, self._marks)
        shard = Shard(
            run=self._run.id,
            index=reached.shards - 1,
            bytes=target.bytes,
            lines=target.lines,
            sha256=digest,
            first=reached.valid - target.lines,
            last=reached.valid - 1,
        )
        await self._manifest.seal(shard, reached, *(await self._suspect(shard) if self._suspect else ()))
        self._changes.notify()

    async def _finish(self) -> None:
        if self._target is not None and self._target.lines:
            await self._seal(self._cursor)
        if self._shards < self._sealed:
            raise InputError(
                f"the input ended at line {self._cursor.lines}, earlier than at the first start; give it again whole"
            )
        if not self._cursor.valid:
            names = ", ".join(source.name for source in self._sources[:3])
            raise InputError(f"{names}: no usable line among {self._cursor.lines}{self._bad_lines()}")
        await anyio.to_thread.run_sync(self._rejects.sync)
        await self._manifest.move(self._run.id, msgspec.structs.replace(self._stamped(self._cursor), done=True))
        self._changes.notify()

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


def _compare_marks(then: list[SourceMark], now: list[SourceMark]) -> None:
    if [place_of(mark) for mark in now] != [place_of(mark) for mark in then]:
        raise InputError(
            f"this run was started with the inputs {', '.join(mark.name for mark in then)}; "
            "start it with the same ones, or give another --out and --state"
        )
    for before, after in zip(then, now, strict=True):
        refuse_changed(before, after)
