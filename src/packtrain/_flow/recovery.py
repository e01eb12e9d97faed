"""A run whose manifest may have forgotten jobs: what the service knows of it, held against what is sealed here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import InputError, ManifestError
from .._model import ExtraState
from .._options import ATTEMPTS
from .._rules import naming
from .._rules.extras import plain_model
from .._rules.recovery import suspicion, unknown
from .listing import list_jobs, look_through

if TYPE_CHECKING:
    from .._model import Job, RemoteBatch, Shard
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


async def forgotten(ctx: Context, job: Job) -> naming.Tag | None:
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
        raise ManifestError(
            f"{ctx.spool.manifest}: the service has {len(found)} jobs of this run that this manifest does not know of "
            f"({found[0].name} is {found[0].display_name}), so it was put back from an older copy, and would have jobs "
            "made, and paid for, again. If no other copy of it is at work, and none will be, say so with "
            f"`packtrain adopt {ctx.spool.manifest.parent}`; each shard is then looked for at the service before it is "
            "sent"
        )


async def find_jobs(ctx: Context) -> list[RemoteBatch]:
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


async def compare(ctx: Context, found: list[RemoteBatch]) -> int:
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


def _file(ctx: Context, shard: Shard, attempt: int) -> str:
    return naming.file_name(ctx.run.token, shard.index, shard.generation, attempt)
