"""A published run asks its failed lines again: its answers come back from the output, the rest starts anew."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread

from .._disk import remove
from .._errors import ManifestError
from .._io.lineage import pick
from .._io.spool import draft, land, restore
from .._rules.lineage import latest
from .forgotten import suspect

if TYPE_CHECKING:
    from pathlib import Path

    from .._model import Job, Shard
    from .context import Context
    from .output import Output


async def reopen(ctx: Context, output: Output, *, everything: bool) -> bool:
    """Enter the failed lines worth asking again, or all of them, as next generations; False when there are none.

    Until the one transaction at its end the run stays published, and all of it can be done again. Raises
    ManifestError when the output is no longer what was published.
    """
    jobs = latest(await ctx.manifest.jobs(ctx.run.id))
    children = [await anyio.to_thread.run_sync(partial(_child, ctx, job, everything=everything)) for job in jobs]
    if not any(children):
        return False
    offset = 0
    for job, child in zip(jobs, children, strict=True):
        if child is not None or not output.parts:
            source, start = (output.part(job), 0) if output.parts else (output.path, offset)
            await anyio.to_thread.run_sync(_restore, ctx, job, source, start)
        offset += job.tally.bytes if job.tally else 0
    entering = [(child, await suspect(ctx, child)) for child in children if child is not None]
    await ctx.manifest.reopen(ctx.run.id, entering)
    ctx.changes.notify()
    if output.parts:
        await anyio.to_thread.run_sync(remove, "output", output.mark)
    return True


def _child(ctx: Context, job: Job, *, everything: bool) -> Shard | None:
    """Blocking. The next generation of a shard, durable; None when nothing of it is to be asked again."""
    if job.tally is None or not job.tally.failed:
        return None
    path, kept = ctx.spool.shard(job.shard, job.generation + 1), ctx.spool.kept(job)
    for needed in (kept.failed, kept.requests):
        ctx.spool.require(needed)
    picked = pick(kept, draft(path), everything=everything)
    if picked is None:
        remove("shard", draft(path))
        return None
    digest = land([draft(path)], [path], what="shard")
    return picked.shard(job, path.stat().st_size, digest)


def _restore(ctx: Context, job: Job, source: Path, offset: int) -> None:
    """Blocking. The answers of a shard as they were before they were published."""
    assert job.tally is not None
    digest = restore(source, offset, job.tally.bytes, ctx.spool.answers(job))
    if digest != job.tally.sha256:
        raise ManifestError(
            f"{source}: the answers of shard {job.shard} are not what was published there; put them back as they were"
        )
