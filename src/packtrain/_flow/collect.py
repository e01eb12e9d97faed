"""The results of an ended job land: fetched, checked against the shard's keys, put in order, durable."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from .._disk import remove
from .._errors import ApiError, IntegrityError, TransportError
from .._io.join import Outputs, join_files
from .._io.part import Part
from .._io.patience import persist
from .._io.spool import digest_of, land
from .._model import Job, State, Tally
from .._options import JOB_PATIENCE
from .._rules.lifecycle import Closed, Landed, Quarantined
from .merge import publish_part

if TYPE_CHECKING:
    from pathlib import Path

    from .._model import Shard
    from .context import Context
    from .merge import Output

#: Tries of one download in a row, each going on where the last one stopped.
_TRIES = 6
#: Copies of one file of results that may be fetched until two agree.
_COPIES = 5


async def collect(ctx: Context, job: Job, output: Output | None = None) -> Job:
    """From ENDED to CLOSED. Raises ApiError when the results cannot be had."""
    if job.state is State.ENDED:
        job = await _land(ctx, job)
    if job.state is not State.LANDED:
        return job
    if output is not None and output.parts:
        await publish_part(ctx, output, job)
        await anyio.to_thread.run_sync(remove, "results", ctx.spool.answers(job))
    return await _close(ctx, job)


async def _land(ctx: Context, job: Job) -> Job:
    shard = await ctx.manifest.shard(job)
    try:
        tally = await _account(ctx, job, shard)
    except ApiError as error:
        return await _missed(ctx, job, error)
    except IntegrityError as error:
        return await ctx.record(job, Quarantined(reason=f"the results of {job.batch} can't be used: {error}"))
    return await ctx.record(job, Landed(tally=tally))


async def _account(ctx: Context, job: Job, shard: Shard) -> Tally:
    """The shard's keys accounted for. Missing rows are believed when two copies of the results agree, and a copy that
    ends in the middle of a row never: not every transport tells a body that was cut from one that was whole."""
    if not job.result:
        return await anyio.to_thread.run_sync(_join, ctx, job, shard, limiter=ctx.joining)
    part, seen, fault = ctx.spool.part(job), None, None
    for _ in range(_COPIES):
        await fetch(ctx, job.result, part)
        try:
            tally = await anyio.to_thread.run_sync(_join, ctx, job, shard, limiter=ctx.joining)
        except IntegrityError as error:
            fault = error
        else:
            digest = await anyio.to_thread.run_sync(digest_of, part)
            if not tally.missing or digest == seen:
                return tally
            seen = digest
        await anyio.to_thread.run_sync(remove, "part", part)
    reason = f"its results came down differently {_COPIES} times; see the network"
    raise fault or TransportError(f"shard {job.shard}: {reason}")


async def _missed(ctx: Context, job: Job, error: ApiError) -> Job:
    """The results are refused. If the job itself is still shown to us, it is they that are gone, not our key."""
    if error.status not in (403, 404) or not job.batch:
        raise error
    known = await ctx.remote.find_batch(job.batch)
    overdue = ctx.clock.now() - (job.submitted_at or 0.0) > JOB_PATIENCE
    if known is None and not overdue:
        raise TransportError(f"shard {job.shard}: neither {job.batch} nor its results are shown; is it the same key?")
    reason = f"the answers of {job.batch} were made, and paid for, but can't be fetched any more: {error}"
    return await ctx.record(job, Quarantined(reason=reason))


def _join(ctx: Context, job: Job, shard: Shard) -> Tally:
    """Blocking. The three files are durable under their names when it returns."""
    spool = ctx.spool
    finals = (spool.answers(job), spool.failed(job), spool.unknown(job))
    temporaries = tuple(path.with_name(path.name + ".tmp") for path in finals)
    tally = join_files(
        [spool.shard(shard.index, shard.generation)],
        [spool.part(job)] if job.result else [],
        Outputs(*temporaries),
        with_request=ctx.run.join,
        absent="the service returned no row for this key" if job.result else (job.reason or "the job left no results"),
        window=ctx.options.join_window,
    )
    if tally.answered + tally.failed != shard.lines:
        raise IntegrityError(
            f"shard {shard.index}: {tally.answered} answers and {tally.failed} failures do not add up to "
            f"{shard.lines} lines; {spool.shard(shard.index)} was changed"
        )
    digest = land(temporaries, finals)
    return msgspec.structs.replace(tally, sha256=digest)


async def _close(ctx: Context, job: Job) -> Job:
    """What is no longer needed goes, after the row that says so."""
    await anyio.to_thread.run_sync(remove, "part", ctx.spool.part(job))
    await anyio.to_thread.run_sync(remove, "shard", ctx.spool.shard(job.shard, job.generation))
    if job.file:
        await ctx.remote.delete_file(job.file)
    return await ctx.record(job, Closed())


async def fetch(ctx: Context, name: str, part: Path) -> None:
    """Bring a results file down to ``part``, going on where an earlier try stopped. Raises the last error."""
    await persist(partial(_fetch_once, ctx, name, part), ctx.clock, tries=_TRIES)


async def _fetch_once(ctx: Context, name: str, path: Path) -> None:
    part = await anyio.to_thread.run_sync(Part, path)
    try:
        async with ctx.remote.download(name, offset=part.offset) as download:
            part.begin(download.offset)
            async for piece in download.pieces():
                await anyio.to_thread.run_sync(part.write, piece)
            await anyio.to_thread.run_sync(part.finish, download.total)
    finally:
        part.close()
