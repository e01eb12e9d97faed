"""A run is worked on: its input is taken in while its shards are driven."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from .._rules.goals import never, settled, submitted
from .drive import Driver
from .extras import heal_published
from .groups import plain_errors
from .intake import take_in
from .merge import publish_rejects
from .publication import publish

if TYPE_CHECKING:
    from .._io.inputs import Inputs
    from .._model import Statistics
    from .context import Context
    from .drive import Goal
    from .output import Output
    from .session import Session


async def complete(session: Session, ctx: Context, output: Output, inputs: Inputs = (), *, wait: bool = True) -> None:
    """Bring a run to its end, and publish it, or as far as a stop lets it come; without ``wait``, until all that can be
    submitted is."""
    if await ctx.manifest.published(ctx.run.id):
        await heal_published(ctx, session.stopped)
        return
    try:
        with plain_errors():
            await _work(session, ctx, output, inputs, wait)
    finally:
        with anyio.CancelScope(shield=True):
            await publish_rejects(ctx.spool.rejects, output)
    await publish(session, ctx, output)


async def _work(session: Session, ctx: Context, output: Output, inputs: Inputs, wait: bool) -> None:
    driver = Driver(ctx, output, patient=wait)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.reporter.report, ctx.run.id)
        tasks.start_soon(partial(take_in, session, ctx, inputs, output, listed=output.beside("rejected")))
        await driver.drive(settled if wait else _submission(driver, ctx), session.stopped)
        tasks.cancel_scope.cancel()


def _submission(driver: Driver, ctx: Context) -> Goal:
    def reached(statistics: Statistics) -> bool:
        return driver.has_looked and submitted(statistics, ctx.run.limits, ctx.options.spool_bytes)

    return reached


async def drive_all(session: Session) -> None:
    """Drive the runs that there are, and those that come, until a stop is asked for."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.reporter.report)
        await _drive_all(session)
        tasks.cancel_scope.cancel()
    await session.reporter.refresh_latest()


async def _drive_all(session: Session) -> None:
    driven: set[str] = set()
    async with anyio.create_task_group() as tasks:
        while not session.stopped.is_set():
            changed = session.changes.mark()
            for run in await session.manifest.runs():
                if run.id not in driven:
                    driven.add(run.id)
                    tasks.start_soon(Driver(session.context(run)).drive, never, session.stopped)
            await changed.wait()
