"""Duplicate jobs: recorded, then cancelled until they have ended. Nothing of them is ever downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .._errors import ApiError, ProtocolError, TransportError
from .._exits import plain_errors
from .._io.clock import time_limit
from .._model import DuplicateJob, DuplicateState, RemoteJob
from .._rules import submission
from .job_list import list_jobs
from .run import log

if TYPE_CHECKING:
    from collections.abc import Iterable

    import anyio

    from .run import RunContext

_REMOTE_ERRORS = (ApiError, ProtocolError, TransportError)
_MESSAGES = {
    DuplicateState.SEEN: "bears its tag, and is left alone until its shard adopts a job or a person decides",
    DuplicateState.CANCELLING: "is a duplicate job, and is being cancelled",
    DuplicateState.CANCELLED: "was a duplicate job, and was cancelled",
    DuplicateState.ENDED: "was a duplicate job, and had ended before it was found",
}


async def sweep(ctx: RunContext, jobs: Iterable[RemoteJob]) -> None:
    """Record the duplicates among these jobs, then cancel all that are to be cancelled."""
    known = {duplicate.job: duplicate.state for duplicate in await ctx.manifest.duplicate_jobs(ctx.run.id)}
    for duplicate in submission.find_duplicates(ctx.run.token, jobs, await ctx.manifest.rows(ctx.run.id)):
        if submission.is_news(duplicate, known):
            await _note(ctx, duplicate)
    await cancel_duplicates(ctx)


async def cancel_duplicates(ctx: RunContext) -> None:
    """Cancel once more what has not ended."""
    for duplicate in await cancelling(ctx):
        try:
            await ctx.provider.cancel(duplicate.job)
            job = await ctx.provider.find_job(duplicate.job)
        except _REMOTE_ERRORS as error:
            log.warning("%s: %s; trying again later", duplicate.job, error, extra={"action": "Cancel"})
            continue
        # A running job may end in any state after a cancel, with the rows that were done by then.
        if job is None or job.state.terminal:
            await _note(ctx, msgspec.structs.replace(duplicate, state=DuplicateState.CANCELLED))


async def cancelling(ctx: RunContext) -> list[DuplicateJob]:
    return [
        duplicate
        for duplicate in await ctx.manifest.duplicate_jobs(ctx.run.id)
        if duplicate.state is DuplicateState.CANCELLING
    ]


async def last_sweep(ctx: RunContext, stop: anyio.Event) -> None:
    """The sweep at the end of a run. When it fails, a warning says so, and the paid answers are published all the
    same."""
    rows = await ctx.manifest.rows(ctx.run.id)
    if not any(row.tag for row in rows):
        return
    deadline = ctx.clock.monotonic() + ctx.policy.last_sweep
    failure: str | None = f"it had not ended after {ctx.policy.last_sweep:.0f} s"
    try:
        with plain_errors():
            async with time_limit(ctx.clock, ctx.policy.last_sweep, stop):
                files = submission.all_input_files(ctx.run.token, rows)
                await sweep(ctx, (await list_jobs(ctx, files=files)).jobs.values())
                failure = None
    except _REMOTE_ERRORS as error:
        failure = str(error)
    if failure is not None:
        failure = "it was stopped" if stop.is_set() else failure
        log.warning("the last search for duplicate jobs failed: %s", failure, extra={"action": "Sweep"})
    await _await_ends(ctx, stop, deadline)


async def cancel_left(ctx: RunContext, stop: anyio.Event) -> None:
    """For a published run: cancel the duplicates that its end had no time for."""
    if await cancelling(ctx):
        deadline = ctx.clock.monotonic() + ctx.policy.last_sweep
        async with time_limit(ctx.clock, ctx.policy.last_sweep, stop):
            await cancel_duplicates(ctx)
        await _await_ends(ctx, stop, deadline)


async def _await_ends(ctx: RunContext, stop: anyio.Event, deadline: float) -> None:
    """Wait for duplicates to end, until the deadline by the monotonic clock, and warn of those that have not."""
    while await cancelling(ctx) and (left := deadline - ctx.clock.monotonic()) > 0 and not stop.is_set():
        async with time_limit(ctx.clock, left, stop):
            await ctx.clock.sleep(ctx.service.poll[0])
            await cancel_duplicates(ctx)
    for duplicate in await cancelling(ctx):
        log.warning(
            "shard %d: %s is a duplicate job that has not been cancelled yet, and may still cost money; start the same "
            "command again to go on with that",
            duplicate.shard,
            duplicate.job,
            extra={"action": "DuplicateJob", "run": ctx.run.id},
        )


async def _note(ctx: RunContext, duplicate: DuplicateJob) -> None:
    await ctx.manifest.note(ctx.run.id, duplicate)
    log.warning(
        "shard %d: %s %s",
        duplicate.shard,
        duplicate.job,
        _MESSAGES[duplicate.state],
        extra={"action": "DuplicateJob", "run": ctx.run.id},
    )
    ctx.changes.notify()
