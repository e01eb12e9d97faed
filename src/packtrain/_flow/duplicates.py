"""Which of the jobs that bear a shard's tag is its own, and what becomes of the others.

One is adopted. Each of the others is entered in the manifest before it is cancelled, and cancelled until it has ended;
nothing of it is ever downloaded. Whoever starts the run after a crash goes on with that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .._errors import ApiError, ProtocolError, TransportError
from .._model import DuplicateJob, DuplicateState, RemoteJob, ShardRow
from .._rules import naming, submission
from .._rules.lifecycle import JobAdopted, Quarantined
from .._rules.submission import find_extras, mismatch
from .job_list import Listing, list_jobs
from .run import log, wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    import anyio

    from .run import RunContext

_REMOTE_ERRORS = (ApiError, ProtocolError, TransportError)
#: How long the end of a run waits for jobs too many to end, in seconds.
_LAST_WAIT = 120.0
_TELLS = {
    DuplicateState.SEEN: "bears its tag, and is left alone until the shard comes to it, or a person decides",
    DuplicateState.CANCELLING: "is a job too many, and is cancelled",
    DuplicateState.CANCELLED: "was a job too many, and was cancelled",
    DuplicateState.ENDED: "was a job too many, and had ended before it was found",
}


async def find_own(ctx: RunContext, row: ShardRow, listing: Listing) -> list[RemoteJob]:
    """The jobs that bear a tag of this shard, without those that were given up."""
    given_up = {
        duplicate.job
        for duplicate in await ctx.manifest.duplicate_jobs(ctx.run.id)
        if duplicate.state is not DuplicateState.SEEN
    }
    found = listing.tagged(naming.shard_prefix(ctx.run.token, row.shard, row.generation))
    return [job for job in found if job.name not in given_up]


async def adopt_job(ctx: RunContext, row: ShardRow, matches: list[RemoteJob]) -> ShardRow:
    """Take one of these jobs for the shard's own; a person must decide if any was made of other content."""
    shard = await ctx.manifest.shard(row)
    found = [await ctx.provider.find_job(match.name) or match for match in matches]
    strange = next(filter(None, (mismatch(job, ctx.run, shard) for job in found)), None)
    if strange is not None:
        return await ctx.record(row, Quarantined(reason=strange))
    job = submission.winner(found)
    row = await ctx.record(row, JobAdopted(job=job.name, submitted_at=job.created_at or ctx.service_now()))
    if len(found) > 1:
        await sweep(ctx, found)
    return row


async def sweep(ctx: RunContext, jobs: Iterable[RemoteJob]) -> None:
    """Enter those of these jobs that are too many, and cancel what is left to cancel."""
    known = {duplicate.job: duplicate.state for duplicate in await ctx.manifest.duplicate_jobs(ctx.run.id)}
    for duplicate in find_extras(ctx.run.token, jobs, await ctx.manifest.rows(ctx.run.id)):
        before = known.get(duplicate.job)
        if before is None or (before is DuplicateState.SEEN and duplicate.state is not DuplicateState.SEEN):
            await _note(ctx, duplicate)
    await heal(ctx)


async def heal(ctx: RunContext) -> None:
    """Cancel once more what is to be cancelled and has not ended."""
    for duplicate in await cancelling(ctx):
        try:
            await ctx.provider.cancel(duplicate.job)
            job = await ctx.provider.find_job(duplicate.job)
        except _REMOTE_ERRORS as error:
            log.warning("%s: %s; trying again later", duplicate.job, error, extra={"action": "Cancel"})
            continue
        # What was running may end in any state after a cancel, with the rows that were done by then.
        if job is None or job.state.terminal:
            await _note(ctx, msgspec.structs.replace(duplicate, state=DuplicateState.CANCELLED))


async def cancelling(ctx: RunContext) -> list[DuplicateJob]:
    return [
        duplicate
        for duplicate in await ctx.manifest.duplicate_jobs(ctx.run.id)
        if duplicate.state is DuplicateState.CANCELLING
    ]


async def last_sweep(ctx: RunContext, stop: anyio.Event) -> None:
    """The sweep at the end of a run. What has been paid for is published even if it fails, and says so."""
    if not any(row.tag for row in await ctx.manifest.rows(ctx.run.id)):
        return
    try:
        await sweep(ctx, (await list_jobs(ctx.provider, ctx.run.token)).jobs.values())
    except _REMOTE_ERRORS as error:
        log.warning("the last look for jobs too many came to nothing: %s", error, extra={"action": "Sweep"})
    await _heal_all(ctx, stop)


async def heal_published(ctx: RunContext, stop: anyio.Event) -> None:
    """What the end of a run had no time for, at its next start."""
    if await cancelling(ctx):
        await heal(ctx)
        await _heal_all(ctx, stop)


async def _heal_all(ctx: RunContext, stop: anyio.Event) -> None:
    """Wait for jobs too many to end, for a while; and tell of those that have not."""
    deadline = ctx.clock.monotonic() + _LAST_WAIT
    while await cancelling(ctx) and ctx.clock.monotonic() < deadline and not stop.is_set():
        await wait(stop, ctx.service.poll[0])
        await heal(ctx)
    for duplicate in await cancelling(ctx):
        log.warning(
            "shard %d: %s is a job too many that has not been cancelled yet, and may still cost money; start the same "
            "command again to go on with that",
            duplicate.shard,
            duplicate.job,
            extra={"action": "Extra", "run": ctx.run.id},
        )


async def _note(ctx: RunContext, duplicate: DuplicateJob) -> None:
    await ctx.manifest.note(ctx.run.id, duplicate)
    log.warning(
        "shard %d: %s %s",
        duplicate.shard,
        duplicate.job,
        _TELLS[duplicate.state],
        extra={"action": "Extra", "run": ctx.run.id},
    )
    ctx.changes.notify()
