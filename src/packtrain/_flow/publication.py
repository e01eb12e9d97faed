"""The end of a run: nothing too many is left at the service, nobody has to decide, and its answers are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._advice import resolving
from .._counts import counted
from .._errors import IncompleteRun
from .._model import State
from .._rules.extras import plight
from .._rules.goals import settled
from .extras import last_sweep
from .merge import merge

if TYPE_CHECKING:
    from .context import Context
    from .output import Output
    from .session import Session


async def publish(session: Session, ctx: Context, output: Output) -> None:
    """Does nothing for a run that was stopped before its end. Raises IncompleteRun when a person must decide first."""
    if not settled(await ctx.manifest.statistics(ctx.run.id)):
        return
    await last_sweep(ctx, session.stopped)
    await session.reporter.refresh(ctx.run.id)
    await _refuse_undecided(ctx)
    await merge(ctx, output)


async def _refuse_undecided(ctx: Context) -> None:
    stuck = await ctx.manifest.jobs(ctx.run.id, {State.QUARANTINED})
    if stuck:
        extras = await ctx.manifest.extras(ctx.run.id)
        reasons = "; ".join(f"shard {job.shard}: {plight(job, extras)}" for job in stuck[:5])
        need = "needs" if len(stuck) == 1 else "need"
        raise IncompleteRun(
            f"{counted(len(stuck), 'shard')} {need} a decision, by "
            f"{resolving(ctx.spool.manifest.parent, stuck[0].shard, ctx.run.id)}; all others are answered. {reasons}",
            quarantined=len(stuck),
        )
