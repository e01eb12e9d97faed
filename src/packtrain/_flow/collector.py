"""Collection: the result file of an ended job is fetched, checked and joined with the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from .._errors import ApiError, IntegrityError, TransportError
from .._io.disk import draft, remove
from .._io.generation_files import Asked, Picked, account
from .._io.result_file import PartialDownload
from .._io.retry import persist
from .._io.spool import digest_of, land
from .._model import ShardRow, State, Tally
from .._rules.generations import Tree, absence, asks_again
from .._rules.lifecycle import Closed, Landed, Quarantined
from .._rules.submission import missing_results
from .publisher import publish_part
from .reconciler import moment, next_generation, suspect, terms
from .run import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from .._io.clock import Clock
    from .._model import Shard, ShardRow
    from .._providers.base import Download, Provider
    from .._rules.naming import Tag
    from .publisher import Output
    from .run import RunContext

#: Tries of one download in a row, each going on where the last one stopped.
_TRIES = 6
#: Copies of one file of results that may be fetched until two agree.
_COPIES = 5
_RANGE_REFUSED = 416


async def fetch_whole(
    ctx: RunContext, files: Sequence[tuple[str, Path]], join: Callable[[], Awaitable[Tally]]
) -> Tally:
    """Download files of results, each by name to a path, and return the tally of their ``join`` with the requests.

    One copy is believed when the transport vouches for its end and every key has its row; otherwise two copies must
    agree, for not every transport tells a body that was cut from one that was whole. A copy that ends in the middle
    of a row is never believed. Raises TransportError, or the IntegrityError of the last join.
    """
    seen, fault = None, None
    for _ in range(_COPIES):
        vouched = all([await fetch(ctx.provider, ctx.clock, name, part) for name, part in files])
        try:
            tally = await join()
        except IntegrityError as error:
            fault = error
        else:
            digest = [await anyio.to_thread.run_sync(digest_of, part) for _, part in files]
            if (vouched and not tally.missing) or digest == seen:
                return tally
            seen = digest
        for _, part in files:
            await anyio.to_thread.run_sync(remove, "part", part)
    raise fault or TransportError(f"{files[0][0]}: the results came down differently {_COPIES} times; see the network")


async def fetch(provider: Provider, clock: Clock, name: str, part: Path) -> bool:
    """Bring a results file down to ``part``; whether the transport vouches for its end. Raises the last error."""
    return await persist(_Fetch(provider, name, part).once, clock, tries=_TRIES)


class _Fetch:
    """The tries of one download; what they said of the file must agree."""

    def __init__(self, provider: Provider, name: str, path: Path) -> None:
        self._remote = provider
        self._name = name
        self._path = path
        #: Length and ETag of the file, as far as the last answer told them.
        self._seen: tuple[int | None, str | None] = (None, None)

    async def once(self) -> bool:
        part = await anyio.to_thread.run_sync(PartialDownload, self._path)
        try:
            return await self._go_on(part)
        except ApiError as error:
            if error.status != _RANGE_REFUSED:
                raise
            part.discard()
            raise TransportError("download of results: the file is shorter than it was; starting over") from error
        finally:
            part.close()

    async def _go_on(self, part: PartialDownload) -> bool:
        etag = self._seen[1]
        async with self._remote.download(self._name, offset=part.offset, etag=etag) as download:
            self._compare(part, download)
            part.begin(download.offset)
            async for piece in download.pieces():
                await anyio.to_thread.run_sync(part.write, piece)
            await anyio.to_thread.run_sync(part.finish, download.total)
            return download.vouched

    def _compare(self, part: PartialDownload, download: Download) -> None:
        before, self._seen = self._seen, (download.total, download.etag)
        if any(None not in pair and pair[0] != pair[1] for pair in zip(before, self._seen, strict=True)):
            part.discard()
            self._seen = (None, None)
            raise TransportError("download of results: the file is another one than before; starting over")


def downloads(ctx: RunContext, row: ShardRow) -> list[tuple[str, Path]]:
    """The files of results that a job left, each with the path that it is downloaded to."""
    part, names = ctx.files.part(row), (row.result or "").split()
    return [(name, part.with_name(f"{part.name}.{number}") if number else part) for number, name in enumerate(names)]


class Landing:
    """The results of one generation on their way into durable files; ``tree`` is that of its shard.

    ``following`` is the tag of a job that the service has of the generation after it, though the manifest forgot it.
    """

    def __init__(
        self, ctx: RunContext, row: ShardRow, shard: Shard, first: int, tree: Tree, following: Tag | None
    ) -> None:
        parent = tree.continued(row)
        self.downloads = downloads(ctx, row)
        self._ctx = ctx
        self._job = row
        self._shard = shard
        self._kept = ctx.files.kept(row)
        self._generation = tree.next_generation(row.shard)
        self._child = ctx.files.shard(row.shard, self._generation)
        self._following = following
        self._again = following is not None or asks_again(row, tree.above(row), ctx.options.retries)
        self._asked = Asked(
            requests=ctx.files.shard(row.shard, row.generation),
            lines=shard.lines,
            results=tuple(part for _, part in self.downloads),
            first=first,
            absent=absence(row),
            parent=ctx.files.kept(parent) if parent else None,
            parent_tally=(parent and parent.tally) or Tally(),
            shape=ctx.provider.capabilities.lines,
        )
        self._tally = Tally()
        self._picked: Picked | None = None

    def check(self) -> None:
        """Blocking. Raises IntegrityError when a file that is to be joined is gone or cut short."""
        require, parent = self._ctx.files.require, self._asked.parent
        require(self._asked.requests, self._shard.bytes)
        if parent is not None:
            require(parent.answers, self._asked.parent_tally.bytes)
            require(parent.failed)
            require(parent.requests)

    async def join(self) -> Tally:
        """Join what came down; the files are not durable yet."""
        return await anyio.to_thread.run_sync(self._join, limiter=self._ctx.joining)

    def _join(self) -> Tally:
        self._tally, self._picked = self._account()
        lines = self._following.lines if self._following else 0
        if lines == self._tally.failed > self._tally.again:
            # Somebody had asked all failed lines again, not only those whose failure may pass.
            self._tally, self._picked = self._account(everything=True)
        return self._tally

    def _account(self, *, everything: bool = False) -> tuple[Tally, Picked | None]:
        return account(
            self._asked,
            self._kept.drafts,
            draft(self._child) if self._again else None,
            everything=everything,
            with_request=self._ctx.run.join,
            window=self._ctx.options.join_window,
        )

    def seal(self) -> tuple[Tally, Shard | None]:
        """Blocking. Make all of it durable; returns the tally, and the next generation if there is one."""
        child = self._seal_child(self._picked) if self._picked else None
        digest = land(self._kept.drafts.all, self._kept.all)
        return msgspec.structs.replace(self._tally, sha256=digest), child

    def _seal_child(self, picked: Picked) -> Shard:
        digest = land([draft(self._child)], [self._child], what="shard")
        return picked.shard(self._job, self._generation, self._child.stat().st_size, digest)


async def collect(ctx: RunContext, row: ShardRow, output: Output | None = None) -> ShardRow:
    """From ENDED to CLOSED. Raises ApiError when the results cannot be had."""
    if row.state is State.ENDED:
        row = await _land(ctx, row)
    if row.state is not State.LANDED:
        return row
    if output is not None and output.parts and row.tally and not row.tally.again:
        await publish_part(ctx, output, row)
    return await _close(ctx, row)


async def _land(ctx: RunContext, row: ShardRow) -> ShardRow:
    landing = await _landing(ctx, row)
    try:
        await anyio.to_thread.run_sync(landing.check)
        if landing.downloads:
            await fetch_whole(ctx, landing.downloads, landing.join)
        else:
            await landing.join()
    except ApiError as error:
        return await _land(ctx, await _missed(ctx, row, error))
    except IntegrityError as error:
        what = f"the results of {row.job} can't be used" if row.job else "its lines can't be listed as failed"
        return await ctx.record(row, Quarantined(reason=f"{what}: {error}"))
    tally, child = await anyio.to_thread.run_sync(landing.seal)
    return await ctx.record(row, Landed(tally=tally), child, *(await suspect(ctx, child) if child else ()))


async def _missed(ctx: RunContext, row: ShardRow, error: ApiError) -> ShardRow:
    """The results are refused. If the job itself is still shown to us, it is they that are gone, not our key."""
    if error.kind != "absent" or not row.job or not row.result:
        raise error
    job = await ctx.provider.find_job(row.job)
    files = [await ctx.provider.find_file(name) for name in row.result.split()]
    shown = (job is not None, None not in files)
    lost = missing_results(row, str(error), shown, ctx.sightings, terms(ctx), moment(ctx))
    if isinstance(lost, str):
        raise TransportError(f"shard {row.shard}: {lost}")
    log.warning("shard %d: %s", row.shard, lost.reason, extra={"action": "ResultLost", "run": row.run})
    return await ctx.record(row, lost)


async def _landing(ctx: RunContext, row: ShardRow) -> Landing:
    shard, following = await ctx.manifest.shard(row), await next_generation(ctx, row)
    tree = Tree(await ctx.manifest.rows(row.run, shard=row.shard) if row.generation else [row])
    origin = row
    while (before := tree.continued(origin)) is not None:
        origin = before
    return Landing(ctx, row, shard, (await ctx.manifest.shard(origin)).first, tree, following)


async def _close(ctx: RunContext, row: ShardRow) -> ShardRow:
    """What is no longer needed goes, after the row that says so."""
    parts = dict.fromkeys([ctx.files.part(row), *(part for _, part in downloads(ctx, row))])
    useless = [*(("part", part) for part in parts), ("shard", ctx.files.shard(row.shard, row.generation))]
    if row.generation and (parent := Tree(await ctx.manifest.rows(row.run, shard=row.shard)).continued(row)):
        useless += [("results", path) for path in ctx.files.kept(parent).all]
    for what, path in useless:
        await anyio.to_thread.run_sync(remove, what, path)
    if row.file:
        await ctx.provider.delete_file(row.file)
    return await ctx.record(row, Closed())
