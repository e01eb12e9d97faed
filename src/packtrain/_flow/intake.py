"""The input of a run taken in, until it ends or a stop is asked for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from .._io.inputs import open_sources
from .forgotten import suspect
from .ingest import Ingest
from .own import own_files

if TYPE_CHECKING:
    from pathlib import Path

    from .._io.inputs import Inputs
    from .context import Context
    from .output import Output
    from .session import Session


async def take_in(
    session: Session, ctx: Context, inputs: Inputs, output: Output | None = None, *, listed: Path | None = None
) -> None:
    """A stream that ends after a stop was asked for may have been cut by the same signal: it is not the end.

    ``listed`` is where people find the bad lines, if that is not the file in the state directory.
    Raises RuntimeError while another call takes it in: two would write into the same files.
    """
    if ctx.run.id in session.reading:
        raise RuntimeError(f"this client takes the input of run {ctx.run.id!r} in already")
    session.reading.add(ctx.run.id)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cut_off, session.stopped, tasks.cancel_scope)
            await _ingest(session, ctx, inputs, output, listed)
            tasks.cancel_scope.cancel()
    finally:
        session.reading.remove(ctx.run.id)


async def _cut_off(stopped: anyio.Event, scope: anyio.CancelScope) -> None:
    await stopped.wait()
    scope.cancel()


async def _ingest(session: Session, ctx: Context, inputs: Inputs, output: Output | None, listed: Path | None) -> None:
    if (await ctx.manifest.cursor(ctx.run.id)).done:
        return
    await Ingest(
        ctx.run,
        await open_sources(inputs, await own_files(session.spool, output)),
        manifest=ctx.manifest,
        options=ctx.options,
        shard_path=ctx.spool.shard,
        rejects=ctx.spool.rejects,
        listed=listed or ctx.spool.rejects,
        keys=ctx.spool.keys,
        changes=ctx.changes,
        meter=session.meter,
        suspect=partial(suspect, ctx),
    ).ingest()
