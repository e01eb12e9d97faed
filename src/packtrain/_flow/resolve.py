"""A person's decision about a quarantined shard, recorded; the next start acts on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from .._errors import InputError
from .._io.spool import digest_of
from .._model import Decision, Extra, ExtraState, Job, State, Upload
from .._rules import naming
from .._rules.extras import mismatch
from .._rules.lifecycle import DropDecided, JobKnown, Readopted, RetryDecided

if TYPE_CHECKING:
    from .._model import Shard
    from .context import Context


async def resolve(ctx: Context, shard: int, decision: Decision, batch: str | None) -> Job:
    """The shard's row after the decision, which is one transaction. Raises InputError when it can't be taken."""
    job = await _quarantined(ctx, shard)
    match decision:
        case "adopt":
            return await _adopt_job(ctx, job, batch or "")
        case "retry":
            return await _retry(ctx, job)
        case "drop":
            return await _drop(ctx, job)


async def _quarantined(ctx: Context, shard: int) -> Job:
    """The row about which there is something to decide."""
    stuck = await ctx.manifest.jobs(ctx.run.id, {State.QUARANTINED})
    job = next((job for job in stuck if job.shard == shard), None)
    if job is None:
        count = (await ctx.manifest.statistics(ctx.run.id)).shards
        if not 0 <= shard < count:
            raise InputError(f"there is no shard {shard}; {_numbers(count)}")
        others = ", ".join(str(job.shard) for job in stuck) or "none"
        raise InputError(f"shard {shard} is not quarantined, so there is nothing to decide; quarantined: {others}")
    return job


def _numbers(count: int) -> str:
    return f"shards are 0 to {count - 1}" if count else "the run has none so far"


async def _adopt_job(ctx: Context, job: Job, name: str) -> Job:
    """The job ``name`` at the service is the shard's."""
    if not name.startswith("batches/"):
        raise InputError(f"{name!r} is not the name of a job; they look like batches/abc")
    batch = await ctx.remote.find_batch(name)
    if batch is None:
        raise InputError(f"{name}: the service shows no such job; see its name, and whether it is the same key")
    if strange := mismatch(batch, ctx.run, await ctx.manifest.shard(job)):
        raise InputError(f"{strange}; it was not adopted")
    if name == job.batch:
        return await ctx.record(job, Readopted(submitted_at=ctx.service_now(), reason=_reason("kept", job)))
    before = [_given_up(job, job.batch)] if job.batch is not None else []
    known = JobKnown(batch=name, submitted_at=ctx.service_now(), reason=_reason("adopted", job))
    return await ctx.record(job, known, extras=before)


async def _retry(ctx: Context, job: Job) -> Job:
    """One more attempt. Whatever job the shard had or was shown with is cancelled."""
    shard, attempt = await ctx.manifest.shard(job), job.attempt + 1
    await anyio.to_thread.run_sync(_require, ctx, shard, True)
    file = naming.file_name(ctx.run.token, job.shard, job.generation, attempt)
    upload, reason = Upload(size=shard.bytes), _reason("tried once more", job)
    decided = RetryDecided(attempt=attempt, file=file, upload=upload, reason=reason)
    return await ctx.record(job, decided, extras=await _left(ctx, job))


async def _drop(ctx: Context, job: Job) -> Job:
    """All lines of the shard fail. Whatever job it had or was shown with is cancelled."""
    await anyio.to_thread.run_sync(_require, ctx, await ctx.manifest.shard(job), False)
    return await ctx.record(job, DropDecided(reason=_reason("dropped", job)), extras=await _left(ctx, job))


def _require(ctx: Context, shard: Shard, whole: bool) -> None:
    """Blocking. Raises InputError when the file of the shard, from which its lines are sent and listed, is no help."""
    path = ctx.spool.shard(shard.index, shard.generation)
    found = path.stat().st_size if path.is_file() else None
    if found != shard.bytes or (whole and digest_of(path) != shard.sha256):
        state = "is gone" if found is None else "is not as it was sealed"
        raise InputError(
            f"{path} {state}; nothing was decided. Put it back as it was: of the same input `packtrain split` makes "
            "the same shards, with the limits that the run was given"
        )


async def _left(ctx: Context, job: Job) -> list[Extra]:
    """What the shard is done with: the job that it had, and those that were shown for it."""
    seen = [
        msgspec.structs.replace(extra, state=ExtraState.CANCELLING)
        for extra in await ctx.manifest.extras(ctx.run.id)
        if extra.state is ExtraState.SEEN and (extra.shard, extra.generation) == (job.shard, job.generation)
    ]
    return [*seen, _given_up(job, job.batch)] if job.batch is not None else seen


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
