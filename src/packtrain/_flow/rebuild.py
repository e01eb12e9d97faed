"""A lost manifest is made anew: the input is cut again, and held against the jobs that the service lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from .._errors import InputError, ManifestError
from .._reports import Recovery
from .._rules import naming, quota
from .._rules.extras import plain_model
from .extras import sweep
from .groups import plain_errors
from .intake import take_in
from .listing import list_jobs
from .output import refuse_output
from .own import own_files

if TYPE_CHECKING:
    from .._io.inputs import Inputs
    from .._model import RemoteBatch, Run
    from .context import Context
    from .output import Output
    from .session import Session


async def rebuild(session: Session, run: Run, inputs: Inputs, output: Output) -> Recovery:
    """Take in anew the input of a run whose manifest is lost, as far as the spool has room.

    Raises as the public ``recover`` does.
    """
    found = await _find_jobs(session.context(run))
    await session.check_account()
    await refuse_output(output, inputs, await own_files(session.spool, output))
    ctx = await session.begin(run)
    await _take_in_until_full(session, ctx, inputs, output)
    with_job = await _compare(ctx, found)
    await sweep(ctx, found)
    statistics = await ctx.manifest.statistics(run.id)
    return Recovery(
        run=run.token, jobs=len(found), shards=statistics.shards, with_job=with_job, whole=statistics.cursor.done
    )


async def _take_in_until_full(session: Session, ctx: Context, inputs: Inputs, output: Output) -> None:
    with plain_errors():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_when_full, session, ctx)
            await take_in(session, ctx, inputs, output)
            tasks.cancel_scope.cancel()


async def _stop_when_full(session: Session, ctx: Context) -> None:
    while True:
        changed = ctx.changes.mark()
        spooled = (await ctx.manifest.statistics(ctx.run.id)).spooled_bytes
        if not quota.may_open_shard(spooled, ctx.run.limits.shard_bytes, ctx.options.spool_bytes):
            session.stop()
        await changed.wait()


async def _find_jobs(ctx: Context) -> list[RemoteBatch]:
    """All jobs of the run that the service lists. Raises ManifestError when there are none, InputError when they are of
    another model."""
    found = list((await list_jobs(ctx.remote, ctx.run.token)).batches.values())
    if not found:
        raise ManifestError(
            f"the service lists no job of run {ctx.run.token}, so there is nothing to recover it from; see whether the "
            "key is of the same account, and whether the run is the one that the names of its jobs have after 'pt1.'"
        )
    for other in found:
        if plain_model(other.model) not in ("", plain_model(ctx.run.model)):
            raise InputError(
                f"{other.name} of run {ctx.run.token} is for model {plain_model(other.model)}, not for "
                f"{ctx.run.model}; nothing was recovered: give --model as at the first start"
            )
    return found


async def _compare(ctx: Context, found: list[RemoteBatch]) -> int:
    """How many of the sealed shards have a job. Raises InputError when one was made of other lines."""
    contents: dict[tuple[int, int], set[tuple[str, int]]] = {}
    for batch in found:
        if tag := naming.read_tag(ctx.run.token, batch.display_name):
            contents.setdefault((tag.shard, tag.generation), set()).add((tag.sha16, tag.lines))
    with_job = 0
    for job in await ctx.manifest.jobs(ctx.run.id):
        shard = await ctx.manifest.shard(job)
        theirs = contents.get((shard.index, shard.generation), set())
        if theirs - {(shard.sha256[:16], shard.lines)}:
            raise InputError(
                f"shard {shard.index} of run {ctx.run.token} was made of other lines than these; give the same input, "
                "in the same order, and the same --max-shard-bytes and --max-shard-requests as at the first start"
            )
        with_job += bool(theirs)
    return with_job
