"""The landed shards become the output, which shows up under its name only when it is whole."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import anyio.to_thread

from .._disk import remove
from .._io.spool import publish, touch
from .._model import Tally
from .._rules.lineage import latest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .._io.spool import RunSpool
    from .._model import Job
    from .context import Context
    from .output import Output


async def publish_part(ctx: Context, output: Output, job: Job) -> None:
    """One landed shard becomes a part of its own; done again after a crash, with the same result."""
    await anyio.to_thread.run_sync(output.make)
    await anyio.to_thread.run_sync(_hand_over, ctx.spool, output.part(job), job)


async def merge(ctx: Context, output: Output) -> None:
    """Publish what all shards of the run have come to, record it, and let go of the copies."""
    jobs = latest(await ctx.manifest.jobs(ctx.run.id))
    spool = ctx.spool
    await anyio.to_thread.run_sync(_check, spool, jobs, output)
    await _publish_some(jobs, spool.failed, output.beside("failed"))
    await _publish_some(jobs, spool.unknown, output.beside("unknown"))
    # Last, for whoever waits for it reads the others next.
    if output.parts:
        await anyio.to_thread.run_sync(touch, output.mark)
    else:
        await anyio.to_thread.run_sync(publish, [spool.answers(job) for job in jobs], output.path)
    digest = hashlib.sha256("".join(job.tally.sha256 for job in jobs if job.tally).encode()).hexdigest()
    await ctx.manifest.publish(ctx.run.id, digest)
    await anyio.to_thread.run_sync(spool.discard_results)


def _hand_over(spool: RunSpool, part: Path, job: Job) -> None:
    """Blocking. Once the part stands, the copy here goes."""
    assert job.tally is not None
    answers = spool.answers(job)
    stands = part.is_file() and part.stat().st_size == job.tally.bytes
    if answers.exists() or not stands:
        spool.require(answers, job.tally.bytes)
        publish([answers], part)
    remove("results", answers)


def _check(spool: RunSpool, jobs: Sequence[Job], output: Output) -> None:
    """Blocking. Raises IntegrityError when a file to be published is gone or cut short; empty lists are not missed."""
    for job in jobs:
        tally = job.tally or Tally()
        if not output.parts:
            spool.require(spool.answers(job), tally.bytes)
        if tally.failed:
            spool.require(spool.failed(job))
        if tally.unknown:
            spool.require(spool.unknown(job))


async def publish_rejects(rejects: Path, output: Output) -> None:
    await anyio.to_thread.run_sync(_publish_filled, [rejects], output.beside("rejected"))


async def _publish_some(jobs: list[Job], path: Callable[[Job], Path], final: Path) -> None:
    published = await anyio.to_thread.run_sync(_publish_filled, [path(job) for job in jobs], final)
    if not published and any(job.generation for job in jobs):
        # The list of before the retries is out of date.
        await anyio.to_thread.run_sync(remove, "output", final)


def _publish_filled(parts: list[Path], final: Path) -> bool:
    """Blocking. A file with nothing to tell is not written."""
    filled = [part for part in parts if part.exists() and part.stat().st_size]
    if filled:
        publish(filled, final)
    return bool(filled)
