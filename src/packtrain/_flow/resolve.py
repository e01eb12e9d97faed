"""A person's decision about a quarantined shard, recorded; the next start acts on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .._errors import InputError
from .._model import Decision, Extra, ExtraState, Job, State, Upload
from .._rules import naming
from .._rules.extras import mismatch
from .._rules.lifecycle import DropDecided, JobKnown, Readopted, RetryDecided

if TYPE_CHECKING:
    from .context import Context


async def resolve(ctx: Context, shard: int, decision: Decision, batch: str | None) -> Job:
    """The shard's row after the decision. Raises InputError when it can't be taken."""
    job = await _quarantined(ctx, shard)
    match decision:
        case "adopt":
            return await _adopt(ctx, job, batch or "")
        case "retry":
            return await _retry(ctx, job)
        case "drop":
            return await _drop(ctx, job)


async def _quarantined(ctx: Context, shard: int) -> Job:
    """The row about which there is something to decide."""
    stuck = await ctx.manifest.jobs(ctx.run.id, {State.QUARANTINED})
    job = next((job for job in stuck if job.shard == shard), None)
    if job is None:
        others = ", ".join(str(job.shard) for job in stuck) or "none"
        raise InputError(f"shard {shard} is not quarantined, so there is nothing to decide; quarantined: {others}")
    return job


async def _adopt(ctx: Context, job: Job, name: str) -> Job:
    """The job ``name`` at the service is the shard's."""
    if not name.startswith("batches/"):
        raise InputError(f"{name!r} is not the name of a job; they look like batches/abc")
    batch = await ctx.remote.find_batch(name)
    if batch is None:
        raise InputError(f"{name}: the service shows no such job; see its name, and whether it is the same key")
    if strange := mismatch(batch, ctx.run, await ctx.manifest.shard(job)):
        raise InputError(f"{strange}; it was not adopted")
    if name == job.batch:
        return await ctx.record(job, Readopted(submitted_at=ctx.clock.now(), reason=_reason("kept", job)))
    if job.batch is not None:
        await ctx.manifest.note(ctx.run.id, _given_up(job, job.batch))
    return await ctx.record(job, JobKnown(batch=name, submitted_at=ctx.clock.now(), reason=_reason("adopted", job)))


async def _retry(ctx: Context, job: Job) -> Job:
    """One more attempt. Whatever job the shard had or was shown with is cancelled."""
    await _give_up(ctx, job)
    shard, attempt = await ctx.manifest.shard(job), job.attempt + 1
    file = naming.file_name(ctx.run.token, job.shard, job.generation, attempt)
    upload = Upload(size=shard.bytes)
    return await ctx.record(
        job, RetryDecided(attempt=attempt, file=file, upload=upload, reason=_reason("tried once more", job))
    )


async def _drop(ctx: Context, job: Job) -> Job:
    """All lines of the shard fail. Whatever job it had or was shown with is cancelled."""
    await _give_up(ctx, job)
    return await ctx.record(job, DropDecided(reason=_reason("dropped", job)))


async def _give_up(ctx: Context, job: Job) -> None:
    if job.batch is not None:
        await ctx.manifest.note(ctx.run.id, _given_up(job, job.batch))
    for extra in await ctx.manifest.extras(ctx.run.id):
        if extra.state is ExtraState.SEEN and (extra.shard, extra.generation) == (job.shard, job.generation):
            await ctx.manifest.note(ctx.run.id, msgspec.structs.replace(extra, state=ExtraState.CANCELLING))


def _given_up(job: Job, batch: str) -> Extra:
    return Extra(
        batch=batch,
        shard=job.shard,
        generation=job.generation,
        attempt=job.attempt,
        state=ExtraState.CANCELLING,
    )


def _reason(decision: str, job: Job) -> str:
    return f"{decision} by a person's decision; before: {job.reason or 'no reason is known'}"
