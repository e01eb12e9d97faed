"""Recovery of a lost manifest, and the check that key and service are those of before."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio

from .._errors import ApiError, NothingToRecover, OtherAccount, OtherContent, ProtocolError, Stopped
from .._exits import plain_errors
from .._io.output import own_files
from .._model import Credential, State
from .._rules import naming, quota
from .._snapshots import Recovery
from .duplicates import sweep
from .ingest import take_in
from .job_list import list_jobs, read_list, refuse_beyond
from .outage import outlast
from .publisher import refuse_output

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .._io.inputs import Inputs
    from .._io.output import Output
    from .._manifest.base import Manifest
    from .._model import RemoteJob, Run, Secret, ShardRow
    from .._providers.base import Provider
    from .run import ClientContext, RunContext


async def check_account(client: ClientContext) -> None:
    """Take a new key, or a service at a new place, only if what was made with the last one is shown there. An outage is
    waited out; a stop ends it without an answer.

    Raises OtherAccount when nothing of it is shown, and the ApiError of a key that the service refuses.
    """
    await outlast(partial(_check_account, client), client.clock, client.options.patience, client.stopped)


async def _check_account(client: ClientContext) -> None:
    manifest, provider, place, key = client.manifest, client.provider, client.place, client.service.key
    mark = await manifest.credential()
    if mark is not None and _fits(mark, place, key):
        return
    shown = mark is None or await _is_ours(manifest, provider, client.policy.account_jobs)
    if mark is not None and not shown and not await _lists_ours(client):
        moved = mark.place != place
        fact = _elsewhere(mark.place, place) if moved else _OTHER_KEY
        raise OtherAccount(fact, state=client.spool.root, key=not moved)
    salt = secrets.token_hex(16)
    await manifest.set_credential(Credential(salt, _digest(salt, key), place))


_OTHER_KEY = "this state directory was driven with another key, and the service does not show its jobs to this one"


def _elsewhere(then: str, now: str) -> str:
    return (
        f"this state directory was driven with the service at {then or 'another address'}, and the one at {now} does "
        "not show its jobs"
    )


async def _is_ours(manifest: Manifest, provider: Provider, most: int) -> bool:
    rows = [(run, row) for run in await manifest.runs() for row in await manifest.rows(run.id) if _left_something(row)]
    for run, row in sorted(rows, key=lambda found: found[1].submitted_at or 0.0, reverse=True)[:most]:
        if row.job and await _shown(provider.find_job(row.job)):
            return True
        for attempt in range(row.attempt, 0, -1):
            name = naming.file_name(run.token, row.shard, row.generation, attempt)
            if await _shown(provider.find_file(name)):
                return True
    return not rows


async def _lists_ours(client: ClientContext) -> bool:
    """Whether the service lists a job with the tag of a run: a recovered row knows no job by its name yet."""
    for run in await client.manifest.runs():
        with suppress(ProtocolError):
            if (await read_list(client.context(run))).jobs:
                return True
    return False


def _left_something(row: ShardRow) -> bool:
    """Until its last bytes are sent, a first upload leaves nothing that a service would show."""
    return row.attempt > 1 or (row.attempt == 1 and row.state is not State.UPLOADING)


async def _shown(look: Awaitable[object | None]) -> bool:
    try:
        return await look is not None
    except ApiError as error:
        if error.kind == "absent":
            return False
        raise


def _fits(mark: Credential, place: str, key: Secret | None) -> bool:
    return mark.place == place and hmac.compare_digest(mark.digest, _digest(mark.salt, key))


def _digest(salt: str, key: Secret | None) -> str:
    return hashlib.sha256(f"{salt}|{key.reveal()}".encode()).hexdigest() if key else ""


async def rebuild(client: ClientContext, run: Run, inputs: Inputs, output: Output) -> Recovery:
    """Take in again the input of a run whose manifest is lost, as far as the spool has room.

    Raises as the public ``recover`` does.
    """
    find = partial(_find_jobs, client.context(run))
    found = await outlast(find, client.clock, client.options.patience, client.stopped)
    if found is None:
        raise Stopped(f"run {run.id!r}: stopped before its jobs were found", run=run.id)
    await check_account(client)
    await refuse_output(output, inputs, await own_files(client.spool, output))
    ctx = await client.begin(run)
    await _take_in_until_full(ctx, inputs, output)
    with_job = await _compare(ctx, found)
    await sweep(ctx, found)
    statistics = await ctx.manifest.statistics(run.id)
    return Recovery(
        run=run.token, jobs=len(found), shards=statistics.shards, with_job=with_job, whole=statistics.cursor.done
    )


async def _take_in_until_full(ctx: RunContext, inputs: Inputs, output: Output) -> None:
    with plain_errors():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_when_full, ctx)
            await take_in(ctx, inputs, output)
            tasks.cancel_scope.cancel()


async def _stop_when_full(ctx: RunContext) -> None:
    while True:
        changed = ctx.changes.mark()
        spooled = (await ctx.manifest.statistics(ctx.run.id)).spooled_bytes
        if not quota.may_open_shard(spooled, ctx.run.limits.shard_bytes, ctx.options.spool_bytes):
            ctx.stop()
        await changed.wait()


async def _find_jobs(ctx: RunContext) -> list[RemoteJob]:
    """All jobs of the run that the service lists. Raises NothingToRecover when there are none, OtherContent when they
    are for another model."""
    found = list((await list_jobs(ctx)).jobs.values())
    if not found:
        raise NothingToRecover(
            f"the service lists no job of run {ctx.run.token}, so there is nothing to recover it from",
            run=ctx.run.token,
        )
    for other in found:
        if other.model and not naming.same_model(other.model, ctx.run.model):
            raise OtherContent(
                f"{other.name} of run {ctx.run.token} is for model {other.model}, not for {ctx.run.model}",
                run=ctx.run.token,
            )
    return found


async def _compare(ctx: RunContext, found: list[RemoteJob]) -> int:
    """How many of the sealed shards have a job. Raises OtherContent when one was made of other lines, or of a shard
    that the whole input does not give."""
    contents: dict[tuple[int, int], set[tuple[str, int]]] = {}
    for job in found:
        if tag := naming.read_tag(ctx.run.token, job.display_name):
            contents.setdefault((tag.shard, tag.generation), set()).add((tag.sha16, tag.lines))
    with_job = 0
    for row in await ctx.manifest.rows(ctx.run.id):
        shard = await ctx.manifest.shard(row)
        theirs = contents.get((shard.index, shard.generation), set())
        if theirs - {(shard.sha256[:16], shard.lines)}:
            raise OtherContent(
                f"shard {shard.index} of run {ctx.run.token} was made of other lines than these", run=ctx.run.token
            )
        with_job += bool(theirs)
    cursor = await ctx.manifest.cursor(ctx.run.id)
    if cursor.done:
        refuse_beyond(ctx.run.token, (shard for shard, _ in contents), cursor)
    return with_job
