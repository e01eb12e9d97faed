"""Decisions of people about a run: recorded at once, or taken by its driver as a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .._errors import ApiError, Conflict, DecisionRefused, ProtocolError, TransportError
from .._io.requests import DecisionRequest, RetryRequest, pending_requests, reject_request, remove_request
from .._io.threads import in_thread
from .._model import Decision, DuplicateJob, ShardRow, State, Upload
from .._rules import naming
from .._rules.lifecycle import DropDecided, JobAdopted, JobKept, RetryDecided
from .._rules.retry import is_transient
from .._rules.submission import given_up, input_files, left_jobs, mismatch, was_cancelled
from .run import log

if TYPE_CHECKING:
    from pathlib import Path

    from .._model import Shard
    from .run import RunContext


async def resolve(ctx: RunContext, shard: int, decision: Decision, job: str | None) -> ShardRow:
    """The shard's row after the decision, which is one transaction. Raises DecisionRefused when it can't be taken."""
    row = await _quarantined(ctx, shard)
    match decision:
        case "adopt":
            return await _adopt_job(ctx, row, job or "")
        case "retry":
            return await _retry(ctx, row)
        case "drop":
            return await _drop(ctx, row)


async def take_requests(ctx: RunContext, *, published: bool) -> None:
    """Take the requests about this run.

    Files that are no request, and requests that cannot be met, are logged and kept apart. ``published``: the run is
    published at its end, so that a request to ask failed lines again may wait for that.
    """
    for waiting in await in_thread(pending_requests, ctx.spool.root):
        match waiting.request:
            case None if waiting.unreadable:
                _log_wait(ctx, waiting.path, f"it cannot be read ({waiting.unreadable})")
            case None:
                await _reject(ctx, waiting.path, "it is no request that this version knows")
            case DecisionRequest(run=run) as request if run == ctx.run.id:
                await _take(ctx, waiting.path, request)
            case RetryRequest(run=run) if run == ctx.run.id and not published:
                await _reject(ctx, waiting.path, "this driver does not publish the run, so it cannot ask lines again")
            case DecisionRequest(run=run) | RetryRequest(run=run) if await ctx.manifest.find_run(run) is None:
                await _reject(ctx, waiting.path, f"there is no run {run!r} here")
            case _:
                continue  # for the driver of another run, or for the end of this one


async def take_retry(ctx: RunContext) -> RetryRequest | None:
    """The request to ask failed lines of this run again, if there is one.

    It is removed before anything is asked: lines are rather asked by a new request than paid for twice by one.
    """
    for waiting in await in_thread(pending_requests, ctx.spool.root):
        if isinstance(waiting.request, RetryRequest) and waiting.request.run == ctx.run.id:
            await in_thread(remove_request, waiting.path)
            return waiting.request
    return None


async def _take(ctx: RunContext, path: Path, request: DecisionRequest) -> None:
    try:
        await resolve(ctx, request.shard, request.decision, request.job)
    except (DecisionRefused, Conflict, ApiError, ProtocolError, TransportError) as error:
        if is_transient(error):
            _log_wait(ctx, path, str(error))
        else:
            await _reject(ctx, path, str(error))
    else:
        await in_thread(remove_request, path)


def _log_wait(ctx: RunContext, path: Path, reason: str) -> None:
    log.warning("%s: %s; the request waits", path.name, reason, extra={"action": "Request", "run": ctx.run.id})


async def _reject(ctx: RunContext, path: Path, reason: str) -> None:
    log.warning("request %s rejected: %s", path.name, reason, extra={"action": "Request", "run": ctx.run.id})
    await in_thread(reject_request, path, reason)


async def _quarantined(ctx: RunContext, shard: int) -> ShardRow:
    """The quarantined row of a shard. Raises InputError when it is not quarantined, or does not exist."""
    stuck = await ctx.manifest.rows(ctx.run.id, {State.QUARANTINED})
    row = next((row for row in stuck if row.shard == shard), None)
    if row is None:
        count = (await ctx.manifest.statistics(ctx.run.id)).shards
        if not 0 <= shard < count:
            raise DecisionRefused(f"there is no shard {shard}; {_numbers(count)}", shard=shard)
        others = ", ".join(str(row.shard) for row in stuck) or "none"
        fact = f"shard {shard} is not quarantined, so there is nothing to decide; quarantined: {others}"
        raise DecisionRefused(fact, shard=shard)
    return row


def _numbers(count: int) -> str:
    return f"shards are 0 to {count - 1}" if count else "the run has none so far"


async def _adopt_job(ctx: RunContext, row: ShardRow, name: str) -> ShardRow:
    """Adopt the job ``name``, once its data agrees with the shard's."""
    able = ctx.provider.capabilities
    if not re.fullmatch(able.job_name, name):
        raise DecisionRefused(f"{name!r} is not the name of a job; they look like {able.job_example}", shard=row.shard)
    job = await ctx.provider.find_job(name)
    if job is None:
        raise DecisionRefused(f"{name}: the service shows no such job to this key", shard=row.shard)
    files = input_files(ctx.run.token, row)
    if flaw := mismatch(job, ctx.run, await ctx.manifest.shard(row), files):
        raise DecisionRefused(f"{flaw}; it was not adopted", shard=row.shard)
    if was_cancelled(row) and name == row.job:
        raise DecisionRefused(f"{row.reason}, so there is nothing to adopt", shard=row.shard)
    if name == row.job:
        return await ctx.record(row, JobKept(submitted_at=ctx.service_now(), reason=_reason("kept", row)))
    before = [given_up(row, row.job)] if row.job is not None else []
    known = JobAdopted(job=name, submitted_at=ctx.service_now(), reason=_reason("adopted", row))
    return await ctx.record(row, known, duplicate_jobs=before)


async def _retry(ctx: RunContext, row: ShardRow) -> ShardRow:
    """Begin one more attempt, and cancel any job that the shard had or that was shown for it."""
    shard, attempt = await ctx.manifest.shard(row), row.attempt + 1
    await _require(ctx, shard, read=True)
    file = naming.file_name(ctx.run.token, row.shard, row.generation, attempt)
    upload, reason = Upload(size=shard.bytes), _reason("tried once more", row)
    decided = RetryDecided(attempt=attempt, file=file, upload=upload, reason=reason)
    return await ctx.record(row, decided, duplicate_jobs=await _left(ctx, row))


async def retry_cancelled(ctx: RunContext) -> None:
    """Begin one more attempt for each shard that waits since its job was cancelled at the service."""
    for row in await ctx.manifest.rows(ctx.run.id, {State.QUARANTINED}):
        if was_cancelled(row):
            await _retry(ctx, row)


async def _drop(ctx: RunContext, row: ShardRow) -> ShardRow:
    """Fail all lines of the shard, and cancel any job that it had or that was shown for it."""
    await _require(ctx, await ctx.manifest.shard(row), read=False)
    return await ctx.record(row, DropDecided(reason=_reason("dropped", row)), duplicate_jobs=await _left(ctx, row))


async def _require(ctx: RunContext, shard: Shard, *, read: bool) -> None:
    """Raises DecisionRefused when the file of the shard, which the lines come from, is gone or changed."""
    if flaw := await ctx.files.shard_flaw(shard, read=read):
        path = ctx.files.shard_path(shard.index, shard.generation)
        raise DecisionRefused(f"{path} {flaw}; nothing was decided", shard=shard.index, path=path)


async def _left(ctx: RunContext, row: ShardRow) -> list[DuplicateJob]:
    """The jobs to cancel: the one that the shard had, and those that were shown for it."""
    return left_jobs(row, await ctx.manifest.duplicate_jobs(ctx.run.id))


def _reason(decision: str, row: ShardRow) -> str:
    return f"{decision} by a person's decision; before: {row.reason or 'no reason is known'}"
