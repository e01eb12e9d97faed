"""The results of an ended job land: fetched, checked against the shard's keys, put in order, durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from .._disk import remove
from .._errors import ApiError, IntegrityError, TransportError
from .._model import Job, State
from .._options import JOB_PATIENCE
from .._rules.lifecycle import Closed, Landed, Quarantined, ResultLost
from .context import log
from .download import fetch_whole
from .forgotten import next_generation, suspect
from .landing import Landing
from .merge import publish_part

if TYPE_CHECKING:
    from .context import Context
    from .output import Output


#: Results that are gone are asked, and paid for, again. It takes so many looks, over the whole settling time.
_GONE_LOOKS = 3


async def collect(ctx: Context, job: Job, output: Output | None = None) -> Job:
    """From ENDED to CLOSED. Raises ApiError when the results cannot be had."""
    if job.state is State.ENDED:
        job = await _land(ctx, job)
    if job.state is not State.LANDED:
        return job
    if output is not None and output.parts and job.tally and not job.tally.again:
        await publish_part(ctx, output, job)
    return await _close(ctx, job)


async def _land(ctx: Context, job: Job) -> Job:
    landing = await _landing(ctx, job)
    try:
        await anyio.to_thread.run_sync(landing.check)
        if job.result:
            await fetch_whole(ctx, job.result, landing.part, landing.join)
        else:
            await landing.join()
    except ApiError as error:
        return await _land(ctx, await _missed(ctx, job, error))
    except IntegrityError as error:
        what = f"the results of {job.batch} can't be used" if job.batch else "its lines can't be listed as failed"
        return await ctx.record(job, Quarantined(reason=f"{what}: {error}"))
    tally, child = await anyio.to_thread.run_sync(landing.seal)
    return await ctx.record(job, Landed(tally=tally), child, *(await suspect(ctx, child) if child else ()))


async def _missed(ctx: Context, job: Job, error: ApiError) -> Job:
    """The results are refused. If the job itself is still shown to us, it is they that are gone, not our key."""
    if error.status not in (403, 404) or not job.batch or not job.result:
        raise error
    known = await ctx.remote.find_batch(job.batch)
    overdue = ctx.service_now() - (job.submitted_at or 0.0) > JOB_PATIENCE
    if known is None and not overdue:
        raise TransportError(f"shard {job.shard}: neither {job.batch} nor its results are shown; is it the same key?")
    if await ctx.remote.find_file(job.result) is not None:
        ctx.oddities.forget(job.result)
        raise TransportError(f"shard {job.shard}: {job.result} is shown, but not given out: {error}")
    now, settle = ctx.clock.monotonic(), ctx.service.settle
    if not ctx.oddities.confirmed(job.result, "gone", now, looks=_GONE_LOOKS, seconds=settle):
        raise TransportError(f"shard {job.shard}: {job.result} is not shown; its lines are paid for, so we look again")
    reason = f"the answers of {job.batch} were made, and paid for, but can't be fetched any more: {error}"
    log.warning("shard %d: %s", job.shard, reason, extra={"action": "ResultLost", "run": job.run})
    return await ctx.record(job, ResultLost(reason=reason))


async def _landing(ctx: Context, job: Job) -> Landing:
    shard, following = await ctx.manifest.shard(job), await next_generation(ctx, job)
    if not job.generation:
        return Landing(ctx, job, shard, shard.first, None, following)
    lineage = {other.generation: other for other in await ctx.manifest.jobs(job.run) if other.shard == job.shard}
    first = (await ctx.manifest.shard(lineage[0])).first
    return Landing(ctx, job, shard, first, lineage[job.generation - 1], following)


async def _close(ctx: Context, job: Job) -> Job:
    """What is no longer needed goes, after the row that says so."""
    useless = [("part", ctx.spool.part(job)), ("shard", ctx.spool.shard(job.shard, job.generation))]
    if job.generation:
        parent = msgspec.structs.replace(job, generation=job.generation - 1)
        useless += [("results", path) for path in ctx.spool.kept(parent).all]
    for what, path in useless:
        await anyio.to_thread.run_sync(remove, what, path)
    if job.file:
        await ctx.remote.delete_file(job.file)
    return await ctx.record(job, Closed())
