"""Answers of a run as values: as they land, or from the published output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import OutputUnknown, Stopped
from .._io.output import Output
from .._io.result_file import read_results
from .._model import ShardRow, State, Tally
from .._rules.generations import latest
from .._validation import answers_of
from .further import check_output

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator

    import anyio

    from .._io.storage import Readable
    from .._model import Result
    from .run import RunContext


class Results:
    """The answers of one run, published in ``out``; None for the name that the state directory's name has in it."""

    def __init__(self, ctx: RunContext, out: str | os.PathLike[str] | None, stopped: anyio.Event) -> None:
        self._ctx = ctx
        self._stopped = stopped
        self._out = out
        self._output: Output | None = None

    async def read(self) -> AsyncIterator[Result]:
        """Shard by shard, until all have landed or wait for a person; of each the answers, then the failed keys.

        Raises OutputUnknown when ``out`` is needed and not given, OutputChanged when it is not what was published, and
        Stopped when a stop was asked for before all had landed.
        """
        ctx, given = self._ctx, set[int]()
        while True:
            changed, stopped, offset = ctx.changes.mark(), self._stopped.is_set(), 0
            rows = latest(await ctx.manifest.rows(ctx.run.id))
            for row in rows:
                if row.shard not in given and row.state in (State.LANDED, State.CLOSED):
                    given.add(row.shard)
                    async for result in self._shard(row, offset):
                        yield result
                offset += row.tally.bytes if row.tally else 0
            done = (await ctx.manifest.cursor(ctx.run.id)).done
            if done and all(row.shard in given or row.state is State.QUARANTINED for row in rows):
                return
            if stopped:
                raise Stopped("stopped before all answers had come; the others come at the next start", run=ctx.run.id)
            await changed.wait()

    async def _shard(self, row: ShardRow, offset: int) -> AsyncIterator[Result]:
        """``offset`` is where its answers begin in the output; no run with an output of parts is submitted."""
        files, tally = self._ctx.files, row.tally or Tally()
        origin: Readable = files.results
        name = files.answers(row)
        if await origin.head(name) is not None:
            offset = 0
        else:
            output = await self._published()
            origin, name = output.sink, output.name
        async for result in read_results(origin, name, self._ctx.provider.capabilities.lines, offset, tally.bytes):
            yield result
        if tally.failed:
            async for result in read_results(files.results, files.failed(row)):
                yield result

    async def _published(self) -> Output:
        if self._output is None:
            self._output = await self._find()
        return self._output

    async def _find(self) -> Output:
        ctx = self._ctx
        path = self._out or answers_of(ctx.files.state)
        output = None if path is None else Output(Path(path), parts=False)
        if output is None or await output.size() is None:
            named = "" if output is None else f", and {output.path} is not there"
            raise OutputUnknown(f"the answers of run {ctx.run.id!r} were published{named}; ``out`` names them")
        if await ctx.manifest.published(ctx.run.id):
            await check_output(ctx.manifest, ctx.run, output)
        return output
