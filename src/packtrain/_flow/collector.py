"""Collection: the result file of an ended job is fetched, checked and joined with the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .._errors import ApiError, GatewayError, IntegrityError, ProtocolError, TransportError
from .._exits import plain_errors
from .._io.clock import time_limit
from .._io.generation_join import GenerationJoin
from .._io.retry import persist
from .._model import State
from .._rules.generations import Tree, asks_again
from .._rules.lifecycle import Closed, Landed, Quarantined
from .._rules.retry import backoff
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
_REMOTE_ERRORS = (ApiError, ProtocolError, TransportError)


async def fetch_whole(ctx: RunContext, results: Sequence[tuple[str, str]], join: GenerationJoin) -> Tally:
    """Download files of results, each from a remote name to a part, and join them with the requests.

    One copy is believed when the transport vouches for its end and every key has its row; otherwise two copies must
    agree, because not every transport can tell a body that was cut from one that was whole. A copy that ends in the
    middle of a row, or has a row for no key, may be a proxy's: it is believed, or given up, only when it has stayed the
    same for some time.

    Raises TransportError, or the IntegrityError of a join whose copies have stayed the same.
    """
    name, copies, seen = results[0][0], ctx.policy.result_copies, None
    doubt: IntegrityError | str = ""
    for copy in range(copies):
        if copy > 1:
            await ctx.clock.sleep(backoff(copy, ctx.clock.jitter()))
        vouched = all([await _fetch(ctx, name, part) for name, part in results])
        doubt = ""
        try:
            tally = await join.join()
        except IntegrityError as error:
            doubt = error
        else:
            if vouched and not tally.missing:
                return tally
            if tally.missing == join.lines and any([await ctx.files.parts.head(part) for _, part in results]):
                doubt = "it has a row for none of the requests"
        digests = await join.digests()
        if digests == seen:
            if doubt and not _lasting(ctx, name, digests):
                break
            if isinstance(doubt, IntegrityError):
                raise doubt
            return tally
        seen = digests
        await ctx.files.drop_parts(*(part for _, part in results))
    await ctx.files.drop_parts(*(part for _, part in results))
    if doubt:
        raise TransportError(f"{name}: {doubt}; a proxy may be in the way")
    raise TransportError(f"{name}: the results were downloaded differently {copies} times; see the network")


def _lasting(ctx: RunContext, name: str, digests: list[str]) -> bool:
    """Whether a copy that can hardly be meant has stayed the same for long enough."""
    policy, same = ctx.policy, " ".join(digests)
    looks, seconds = policy.odd_results_looks, policy.odd_results_seconds
    return ctx.sightings.confirmed(f"copy of {name}", same, ctx.clock.monotonic(), looks=looks, seconds=seconds)


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
        except (ApiError, GatewayError) as error:
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
        await publish_part(ctx, output, row)
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
        limiter=ctx.shares.joining,
        shape=ctx.provider.capabilities.lines,
        retry_class=ctx.options.retry_class,
        row_limit=ctx.options.max_result_line_bytes,
    )


async def tidy(ctx: RunContext) -> None:
    """For a run that is published: remove what is left of its shards, at the service for a limited time."""
    reason = f"no answer for {ctx.policy.tidy:.0f} s"
    try:
        with plain_errors():
            async with time_limit(ctx.clock, ctx.policy.tidy, ctx.stopped):
                for row in await _landed(ctx):
                    await _close(ctx, row, lenient=False)
    except _REMOTE_ERRORS as error:
        reason = str(error)
    if left := await _landed(ctx):
        log.warning(
            "input files that could not be deleted at the service: %d (%s); it removes them itself when they expire",
            len(left),
            "a stop was asked for" if ctx.stopped.is_set() else reason,
            extra={"action": "Tidy", "run": ctx.run.id},
        )
    for row in left:
        await _remove(ctx, row)
        await ctx.record(row, Closed())


async def _landed(ctx: RunContext) -> list[ShardRow]:
    return await ctx.manifest.rows(ctx.run.id, {State.LANDED})


async def _close(ctx: RunContext, row: ShardRow, *, lenient: bool = True) -> ShardRow:
    """Remove what is no longer needed, after the row that makes it so. If ``lenient``, a file at the service that can't
    be deleted is no setback of the run; that is tried again later."""
    await _remove(ctx, row)
    if row.file:
        try:
            await ctx.provider.delete_file(row.file)
        except _REMOTE_ERRORS as error:
            if not lenient:
                raise
            wait = ctx.policy.delete_again
            log.warning("shard %d: %s; trying again in %.0f s", row.shard, error, wait, extra={"action": "Tidy"})
            return msgspec.structs.replace(row, due=ctx.clock.now() + wait)
    return await ctx.record(row, Closed())


async def _remove(ctx: RunContext, row: ShardRow) -> None:
    """On disk; done again with the same result."""
    files = ctx.files
    await files.drop_parts(*dict.fromkeys([files.part(row), *(part for _, part in _parts(files, row))]))
    await files.shards.delete(files.shard(row.shard, row.generation))
    if row.generation and (parent := Tree(await ctx.manifest.rows(row.run, shard=row.shard)).continued(row)):
        await files.results.delete(
            files.answers(parent), files.failed(parent), files.unknown(parent), files.requests(parent)
        )
