"""What a manifest may have forgotten: one that was made anew, and one that was put back from an older copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._counts import counted
from .._errors import ManifestError
from .._model import ExtraState
from .._options import ATTEMPTS
from .._rules import naming
from .._rules.forgotten import suspicion, unknown
from .listing import look_through

if TYPE_CHECKING:
    from .._model import Job, Shard
    from .._rules.lifecycle import Event
    from .context import Context


async def suspect(ctx: Context, shard: Shard) -> list[Event]:
    """What is known of a shard that was just sealed: it is in doubt, if the run was recovered.

    The doubt is about the latest attempt whose input file stands at the service: it is the file to be revoked.
    """
    if not ctx.run.recovered:
        return []
    attempt = ATTEMPTS
    while attempt > 1 and not await ctx.remote.find_file(_file(ctx, shard, attempt)):
        attempt -= 1
    return [suspicion(ctx.run.token, shard, attempt, ctx.clock.now())]


async def next_generation(ctx: Context, job: Job) -> naming.Tag | None:
    """The tag of a job of the shard's next generation, which a recovered manifest does not know of yet."""
    if not ctx.run.recovered:
        return None
    place = (job.shard, job.generation + 1)
    for extra in await ctx.manifest.extras(ctx.run.id):
        if (extra.shard, extra.generation) == place and extra.state is ExtraState.SEEN:
            batch = await ctx.remote.find_batch(extra.batch)
            return naming.read_tag(ctx.run.token, batch.display_name) if batch else None
    return None


async def refuse_unknown(ctx: Context) -> None:
    """One pass over the list: raises ManifestError when it shows jobs whose creates the manifest never intended.

    A directory that was put back in place, its files written over, has inode and witness of then, and shows no trace.
    """
    if ctx.run.recovered:
        return
    listing = await look_through(ctx.remote, ctx.run.token)
    found = unknown(ctx.run.token, listing.batches.values(), await ctx.manifest.jobs(ctx.run.id))
    if found:
        jobs = counted(len(found), "job")
        raise ManifestError(
            f"{ctx.spool.manifest}: the service has {jobs} of this run that this manifest does not know of "
            f"({found[0].name} is {found[0].display_name}), so it was put back from an older copy, and would have jobs "
            "made, and paid for, again. If no other copy of it is at work, and none will be, say so with "
            f"`packtrain adopt {ctx.spool.manifest.parent}`; each shard is then looked for at the service before it is "
            "sent"
        )


def _file(ctx: Context, shard: Shard, attempt: int) -> str:
    return naming.file_name(ctx.run.token, shard.index, shard.generation, attempt)
