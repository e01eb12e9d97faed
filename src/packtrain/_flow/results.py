"""The answers of a run as they land."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._io.results import read_results
from .._model import State
from .._rules.lineage import latest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .._model import Result
    from .context import Context


async def results(ctx: Context) -> AsyncIterator[Result]:
    """Shard by shard, until all have landed or wait for a person."""
    given: set[int] = set()
    while True:
        changed = ctx.changes.mark()
        jobs = latest(await ctx.manifest.jobs(ctx.run.id))
        for job in jobs:
            if job.shard not in given and job.state in (State.LANDED, State.CLOSED):
                given.add(job.shard)
                async for result in read_results(ctx.spool.answers(job), ctx.spool.failed(job)):
                    yield result
        done = (await ctx.manifest.cursor(ctx.run.id)).done
        if done and all(job.shard in given or job.state is State.QUARANTINED for job in jobs):
            return
        await changed.wait()
