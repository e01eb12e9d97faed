"""Which of the jobs that bear a shard's tag is its own, and what becomes of the others.

One is adopted. Each of the others is entered in the manifest before it is cancelled, and cancelled until it has ended;
nothing of it is ever downloaded. Whoever starts the run after a crash goes on with that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .._errors import ApiError, ProtocolError, TransportError
from .._model import Extra, ExtraState, Job, RemoteBatch
from .._rules import naming, polling
from .._rules.extras import find_extras, mismatch
from .._rules.lifecycle import JobKnown, Quarantined
from .context import log
from .listing import Listing, list_jobs
from .signals import wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    import anyio

    from .context import Context

_REMOTE_ERRORS = (ApiError, ProtocolError, TransportError)
#: How long the end of a run waits for jobs too many to end, in seconds.
_LAST_WAIT = 120.0
_TELLS = {
    ExtraState.SEEN: "bears its tag, and is left alone until the shard comes to it, or a person decides",
    ExtraState.CANCELLING: "is a job too many, and is cancelled",
    ExtraState.CANCELLED: "was a job too many, and was cancelled",
    ExtraState.ENDED: "was a job too many, and had ended before it was found",
}


async def find_own(ctx: Context, job: Job, listing: Listing) -> list[RemoteBatch]:
    """The jobs that bear a tag of this shard, without those that were given up."""
    given_up = {extra.batch for extra in await ctx.manifest.extras(ctx.run.id) if extra.state is not ExtraState.SEEN}
    found = listing.tagged(naming.shard_prefix(ctx.run.token, job.shard, job.generation))
    return [batch for batch in found if batch.name not in given_up]


async def adopt_job(ctx: Context, job: Job, matches: list[RemoteBatch]) -> Job:
    """Take one of these jobs for the shard's own; a person must decide if any was made of other content."""
    shard = await ctx.manifest.shard(job)
    found = [await ctx.remote.find_batch(match.name) or match for match in matches]
    strange = next(filter(None, (mismatch(batch, ctx.run, shard) for batch in found)), None)
    if strange is not None:
        return await ctx.record(job, Quarantined(reason=strange))
    batch = polling.winner(found)
    job = await ctx.record(job, JobKnown(batch=batch.name, submitted_at=batch.created_at or ctx.service_now()))
    if len(found) > 1:
        await sweep(ctx, found)
    return job


async def sweep(ctx: Context, batches: Iterable[RemoteBatch]) -> None:
    """Enter those of these jobs that are too many, and cancel what is left to cancel."""
    known = {extra.batch: extra.state for extra in await ctx.manifest.extras(ctx.run.id)}
    for extra in find_extras(ctx.run.token, batches, await ctx.manifest.jobs(ctx.run.id)):
        before = known.get(extra.batch)
        if before is None or (before is ExtraState.SEEN and extra.state is not ExtraState.SEEN):
            await _note(ctx, extra)
    await heal(ctx)


async def heal(ctx: Context) -> None:
    """Cancel once more what is to be cancelled and has not ended."""
    for extra in await cancelling(ctx):
        try:
            await ctx.remote.cancel(extra.batch)
            batch = await ctx.remote.find_batch(extra.batch)
        except _REMOTE_ERRORS as error:
            log.warning("%s: %s; trying again later", extra.batch, error, extra={"action": "Cancel"})
            continue
        # What was running may end in any state after a cancel, with the rows that were done by then.
        if batch is None or batch.state.terminal:
            await _note(ctx, msgspec.structs.replace(extra, state=ExtraState.CANCELLED))


async def cancelling(ctx: Context) -> list[Extra]:
    return [extra for extra in await ctx.manifest.extras(ctx.run.id) if extra.state is ExtraState.CANCELLING]


async def last_sweep(ctx: Context, stop: anyio.Event) -> None:
    """The sweep at the end of a run. What has been paid for is published even if it fails, and says so."""
    if not any(job.tag for job in await ctx.manifest.jobs(ctx.run.id)):
        return
    try:
        await sweep(ctx, (await list_jobs(ctx.remote, ctx.run.token)).batches.values())
    except _REMOTE_ERRORS as error:
        log.warning("the last look for jobs too many came to nothing: %s", error, extra={"action": "Sweep"})
    await _heal_all(ctx, stop)


async def heal_published(ctx: Context, stop: anyio.Event) -> None:
    """What the end of a run had no time for, at its next start."""
    if await cancelling(ctx):
        await heal(ctx)
        await _heal_all(ctx, stop)


async def _heal_all(ctx: Context, stop: anyio.Event) -> None:
    """Wait for jobs too many to end, for a while; and tell of those that have not."""
    deadline = ctx.clock.monotonic() + _LAST_WAIT
    while await cancelling(ctx) and ctx.clock.monotonic() < deadline and not stop.is_set():
        await wait(stop, ctx.service.poll[0])
        await heal(ctx)
    for extra in await cancelling(ctx):
        log.warning(
            "shard %d: %s is a job too many that has not been cancelled yet, and may still cost money; start the same "
            "command again to go on with that",
            extra.shard,
            extra.batch,
            extra={"action": "Extra", "run": ctx.run.id},
        )


async def _note(ctx: Context, extra: Extra) -> None:
    await ctx.manifest.note(ctx.run.id, extra)
    log.warning(
        "shard %d: %s %s", extra.shard, extra.batch, _TELLS[extra.state], extra={"action": "Extra", "run": ctx.run.id}
    )
    ctx.changes.notify()
