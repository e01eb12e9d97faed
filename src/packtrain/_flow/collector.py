"""Collection: the result file of an ended job is fetched, checked and joined with the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ApiError, IntegrityError, TransportError
from .._io.generation_join import GenerationJoin
from .._io.retry import persist
from .._model import State
from .._rules.generations import Tree, asks_again
from .._rules.lifecycle import Closed, Landed, Quarantined
from .._rules.submission import missing_results
from .publisher import publish_part
from .reconciler import moment, next_generation, suspect, terms
from .run import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._io.clock import Clock
    from .._io.output import Output
    from .._io.spool import ResultDownload, RunSpool
    from .._model import ShardRow, Tally
    from .._providers.base import Download, Provider
    from .run import RunContext

_RANGE_REFUSED = 416


async def fetch_whole(ctx: RunContext, results: Sequence[tuple[str, str]], join: GenerationJoin) -> Tally:
    """Download files of results, each from a remote name to a part, and join them with the requests.

    One copy is believed when the transport vouches for its end and every key has its row; otherwise two copies must
    agree, because not every transport can tell a body that was cut from one that was whole. A copy that ends in the
    middle of a row is never believed. Raises TransportError, or the IntegrityError of the last join.
    """
    seen, fault = None, None
    for _ in range(ctx.policy.result_copies):
        vouched = all([await _fetch(ctx, name, part) for name, part in results])
        try:
            tally = await join.join()
        except IntegrityError as error:
            fault = error
        else:
            digests = await join.digests()
            if (vouched and not tally.missing) or digests == seen:
                return tally
            seen = digests
        await ctx.files.parts.delete(*(part for _, part in results))
    name, copies = results[0][0], ctx.policy.result_copies
    raise fault or TransportError(f"{name}: the results were downloaded differently {copies} times; see the network")


async def _fetch(ctx: RunContext, name: str, part: str) -> bool:
    return await fetch(ctx.provider, ctx.clock, name, ctx.files, part, tries=ctx.policy.download_tries)


async def fetch(provider: Provider, clock: Clock, name: str, files: RunSpool, part: str, *, tries: int) -> bool:
    """Download a results file to ``part``; True when the transport vouches for its end. Raises the last error."""
    return await persist(_Fetch(provider, name, files, part).once, clock, tries=tries)


class _Fetch:
    """The tries of one download; what they say of the file must agree."""

    def __init__(self, provider: Provider, name: str, files: RunSpool, part: str) -> None:
        self._remote = provider
        self._name = name
        self._files = files
        self._part = part
        #: Length and ETag of the file, as far as the last answer had them.
        self._seen: tuple[int | None, str | None] = (None, None)

    async def once(self) -> bool:
        part = await self._files.open_part(self._part)
        try:
            return await self._resume(part)
        except ApiError as error:
            if error.status != _RANGE_REFUSED:
                raise
            await part.discard()
            raise TransportError("download of results: the file is shorter than it was; starting over") from error
        finally:
            await part.close()

    async def _resume(self, part: ResultDownload) -> bool:
        etag = self._seen[1]
        async with self._remote.download(self._name, offset=part.offset, etag=etag) as download:
            await self._compare(part, download)
            part.begin(download.offset)
            async for piece in download.pieces():
                await part.write(piece)
            await part.finish(download.total)
            return download.vouched

    async def _compare(self, part: ResultDownload, download: Download) -> None:
        before, self._seen = self._seen, (download.total, download.etag)
        if any(None not in pair and pair[0] != pair[1] for pair in zip(before, self._seen, strict=True)):
            await part.discard()
            self._seen = (None, None)
            raise TransportError("download of results: the file is another one than before; starting over")


async def collect(ctx: RunContext, row: ShardRow, output: Output | None = None) -> ShardRow:
    """From ENDED to CLOSED. Raises ApiError when the results cannot be downloaded."""
    if row.state is State.ENDED:
        row = await _land(ctx, row)
    if row.state is not State.LANDED:
        return row
    if output is not None and output.parts and row.tally and not row.tally.again:
        await publish_part(ctx.files, output, row)
    return await _close(ctx, row)


async def _land(ctx: RunContext, row: ShardRow) -> ShardRow:
    join = await _open_join(ctx, row)
    try:
        await join.check()
        if results := _parts(ctx.files, row):
            await fetch_whole(ctx, results, join)
        else:
            await join.join()
    except ApiError as error:
        return await _land(ctx, await _missed(ctx, row, error))
    except IntegrityError as error:
        what = f"the results of {row.job} can't be used" if row.job else "its lines can't be listed as failed"
        return await ctx.record(row, Quarantined(reason=f"{what}: {error}"))
    tally, child = await join.seal()
    return await ctx.record(row, Landed(tally=tally), child, *(await suspect(ctx, child) if child else ()))


async def _missed(ctx: RunContext, row: ShardRow, error: ApiError) -> ShardRow:
    """The results are refused. If the job itself is still shown to us, they are gone, and our key is right."""
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


def _parts(files: RunSpool, row: ShardRow) -> list[tuple[str, str]]:
    """The remote names of the results that a job left, each with the part that it is downloaded to."""
    return [(name, files.part(row, number)) for number, name in enumerate((row.result or "").split())]


async def _open_join(ctx: RunContext, row: ShardRow) -> GenerationJoin:
    """The join of one generation with the one that it continues, if there is one."""
    shard, following = await ctx.manifest.shard(row), await next_generation(ctx, row)
    tree = Tree(await ctx.manifest.rows(row.run, shard=row.shard) if row.generation else [row])
    origin = row
    while (before := tree.continued(origin)) is not None:
        origin = before
    return GenerationJoin(
        ctx.files,
        row,
        shard,
        first=(await ctx.manifest.shard(origin)).first,
        parent=tree.continued(row),
        parts=[part for _, part in _parts(ctx.files, row)],
        child=tree.next_generation(row.shard),
        again=following is not None or asks_again(row, tree.above(row), ctx.options.retries),
        known_lines=following.lines if following else 0,
        with_request=ctx.run.join,
        window=ctx.options.join_window,
        limiter=ctx.joining,
        shape=ctx.provider.capabilities.lines,
    )


async def _close(ctx: RunContext, row: ShardRow) -> ShardRow:
    """Remove what is no longer needed, after the row that makes it so."""
    files = ctx.files
    await files.parts.delete(*dict.fromkeys([files.part(row), *(part for _, part in _parts(files, row))]))
    await files.shards.delete(files.shard(row.shard, row.generation))
    if row.generation and (parent := Tree(await ctx.manifest.rows(row.run, shard=row.shard)).continued(row)):
        await files.results.delete(
            files.answers(parent), files.failed(parent), files.unknown(parent), files.requests(parent)
        )
    if row.file:
        await ctx.provider.delete_file(row.file)
    return await ctx.record(row, Closed())
