"""Where a run's answers go, found and made sure of before anything is paid for."""

from __future__ import annotations

import filecmp
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from .._disk import remove
from .._io.inputs import named_files
from .._names import check_out
from .._rules.goals import settled
from .._rules.lineage import reopened
from .merge import Output

if TYPE_CHECKING:
    from collections.abc import Container

    from .._io.inputs import Inputs
    from .context import Context


async def output_at(out: str | os.PathLike[str]) -> Output:
    """A file, or a directory of parts: one that exists, or a name with a slash at its end.

    Raises InputError for what has no name of its own.
    """
    check_out(out)
    path = Path(out)
    parts = os.fspath(out).endswith(os.sep) or await anyio.to_thread.run_sync(path.is_dir)
    return Output(path, parts=parts)


async def prepare_output(ctx: Context, output: Output, inputs: Inputs, own: Container[Path]) -> None:
    """Raises InputError when publishing at the end would fail, or destroy something. ``own`` is what the run makes."""
    await anyio.to_thread.run_sync(output.prepare, await named_files(inputs, own))
    if not await _may_be_own(ctx, output):
        # A start that came as far as the input may have left a list of bad lines beside the output.
        lists = not await anyio.to_thread.run_sync(ctx.spool.rejects.exists)
        await anyio.to_thread.run_sync(partial(output.refuse_taken, lists=lists))
    if not (await ctx.manifest.cursor(ctx.run.id)).rejects_bytes:
        await anyio.to_thread.run_sync(_withdraw, ctx.spool.rejects, output.beside("rejected"))


def _withdraw(rejects: Path, published: Path) -> None:
    """Blocking. Take back the list of a start that was refused: the next one judges these lines anew, and may have none
    to list. It is ours when it is byte for byte what that start wrote."""
    filled = all(path.is_file() and path.stat().st_size for path in (rejects, published))
    if filled and filecmp.cmp(rejects, published, shallow=False):
        remove("output", published)


async def _may_be_own(ctx: Context, output: Output) -> bool:
    """Parts are published as they land; one file when all have, and it stays while failed lines are asked again."""
    statistics = await ctx.manifest.statistics(ctx.run.id)
    if output.parts or not statistics.cursor.shards:
        return statistics.cursor.shards > 0
    if settled(statistics) and await anyio.to_thread.run_sync(output.size) == statistics.tally.bytes:
        return True
    return reopened(await ctx.manifest.jobs(ctx.run.id))


async def refuse_output(output: Output, inputs: Inputs, own: Container[Path]) -> None:
    """Raises InputError as ``prepare_output``, for a run that has published nothing; lists beside it may be its own."""
    await anyio.to_thread.run_sync(output.prepare, await named_files(inputs, own))
    await anyio.to_thread.run_sync(partial(output.refuse_taken, lists=False))
