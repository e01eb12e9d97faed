"""Further runs: fixed lines that are added to the output of a complete run.

A further run is a run of its own in the same manifest, with shards, jobs and lists of its own; its answers are
published inside the state directory. Then the output is published again: what it was, and behind it the new answers. It
begins with the same bytes before and after, so this can be done again after a kill at any moment: its size says what it
has.
"""

from __future__ import annotations

import re
import secrets
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from .._errors import InputError, OutputChanged
from .._io.directory import Directory
from .._io.earlier_keys import EarlierKeys, RunKeys, write_lists
from .._io.inputs import compare_inputs, named_files
from .._io.output import Output
from .._io.storage import Piece, Pieces
from .._io.threads import finish, in_thread, uncancelled
from .._rules import naming
from .._rules.generations import latest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Container, Sequence
    from pathlib import Path

    from .._io.inputs import Inputs
    from .._io.spool import Spool
    from .._manifest.base import Manifest
    from .._model import Run
    from .run import RunContext

_FURTHER = re.compile(r"(.*)\+([1-9]\d{0,8})", re.DOTALL)


async def chain(manifest: Manifest, run: Run) -> list[Run]:
    """The run that ``run`` adds to, or is, and all further ones, in order."""
    first = _first(run.id)
    runs = [other for other in await manifest.runs() if _first(other.id) == first]
    return sorted(runs, key=lambda other: _number(other.id))


def _first(name: str) -> str:
    found = _FURTHER.fullmatch(name)
    return found[1] if found else name


def _number(name: str) -> int:
    found = _FURTHER.fullmatch(name)
    return int(found[2]) if found else 0


async def further_run(manifest: Manifest, run: Run, inputs: Inputs, own: Container[Path]) -> Run:
    """The run that adds ``inputs``: the last one if it is not complete, or was made of these files; else a new one."""
    runs = await chain(manifest, run)
    last = runs[-1]
    if len(runs) > 1 and (await manifest.published(last.id) is None or await _was_given(manifest, last, inputs, own)):
        return last
    token = naming.token_from(secrets.token_bytes(16))
    return msgspec.structs.replace(runs[0], id=f"{runs[0].id}+{len(runs)}", token=token, recovered=False)


async def _was_given(manifest: Manifest, run: Run, inputs: Inputs, own: Container[Path]) -> bool:
    """Every input is a file, as it is, of this run."""
    cursor = await manifest.cursor(run.id)
    if not cursor.shards or not await named_files(inputs, own):
        return False
    try:
        return not await compare_inputs(inputs, await manifest.keep_sources(run.id, []), own)
    except InputError:
        return False


def output_of(spool: Spool, run: Run) -> Output:
    """Where the answers of a further run are published."""
    output = Output(spool.root / "further" / f"{_number(run.id):05d}.jsonl", parts=False)
    output.sink = Directory(output.path.parent, "results")
    return output


@asynccontextmanager
async def earlier_answers(ctx: RunContext) -> AsyncIterator[Callable[[Sequence[bytes]], list[int]] | None]:
    """Finds the keys that runs before this one have answered; None for a run that adds to none."""
    runs = [run for run in await chain(ctx.manifest, ctx.run) if _number(run.id) < _number(ctx.run.id)]
    if not runs:
        yield None
        return
    held = [await _keys(ctx.manifest, ctx.spool, run) for run in runs]
    scratch, most = ctx.spool.root / "keys" / f"{ctx.run.token}.failed", ctx.options.ledger_keys // 2
    keys = await uncancelled(partial(EarlierKeys, held, scratch, memory_keys=most))
    try:
        yield keys.answered
    finally:
        await finish(in_thread(keys.close))


async def _keys(manifest: Manifest, spool: Spool, run: Run) -> RunKeys:
    files, shards = spool.run(run.token), (await manifest.cursor(run.id)).shards
    rows = latest(await manifest.rows(run.id))
    failed, unknown = (tuple(files.results.path(name(row)) for row in rows) for name in (files.failed, files.unknown))
    return RunKeys(files.keys, shards, failed, files.results.path(files.rejects), unknown)


async def sizes(manifest: Manifest, runs: Sequence[Run]) -> list[int]:
    """Bytes of the output with the answers of the first run, of the first two, and so on."""
    found = [0]
    for run in runs:
        found.append(found[-1] + (await manifest.statistics(run.id)).tally.bytes)
    return found[1:]


async def check_output(manifest: Manifest, run: Run, output: Output) -> None:
    """Raises OutputChanged when a finished run's answers are not there as they were published."""
    runs = await _complete_runs(manifest, run)
    if await output.size() not in await sizes(manifest, runs):
        await output.check((await manifest.statistics(run.id)).tally.bytes)


async def published_runs(manifest: Manifest, run: Run, output: Output) -> list[Run]:
    """The run, and those further ones whose answers are in its output as well."""
    runs, size = await _complete_runs(manifest, run), await output.size()
    count = sum(known <= (size or 0) for known in await sizes(manifest, runs))
    return runs[: max(1, count)]


async def _complete_runs(manifest: Manifest, run: Run) -> list[Run]:
    """The run itself, and the further ones behind it that are complete."""
    runs = await chain(manifest, run)
    if run.id != runs[0].id:
        return [run]
    return [run, *[other for other in runs[1:] if await manifest.published(other.id) is not None]]


async def combine(ctx: RunContext, output: Output) -> None:
    """Publish the answers and the lists of all runs that add to this one.

    Raises OutputChanged when the answers are not what was published, OutputBlocked for a list that is not.
    """
    runs = await chain(ctx.manifest, ctx.run)
    known, version = await sizes(ctx.manifest, runs), await output.sink.version(output.name)
    size = await output.size()
    if size not in known or version is None:
        raise OutputChanged(f"{output.path}: it is not what was published there", path=output.path)
    if size != known[-1]:
        added = [output_of(ctx.spool, run) for run in runs[known.index(size) + 1 :]]
        if not await output.sink.replace(output.name, _joined(output, size, added), version):
            raise OutputChanged(f"{output.path}: it was changed meanwhile", path=output.path)
    await _publish_lists(ctx, runs, output)


async def _publish_lists(ctx: RunContext, runs: Sequence[Run], output: Output) -> None:
    held = [await _keys(ctx.manifest, ctx.spool, run) for run in runs]
    place = Directory(ctx.spool.root / "further", "results")
    drafts = {kind: f"{kind}.next.jsonl" for kind in ("failed", "rejected", "unknown")}
    paths = [place.path(name) for name in drafts.values()]
    await in_thread(partial(write_lists, held, *paths, memory_keys=ctx.options.ledger_keys))
    for kind, name in drafts.items():
        content, last = Pieces(place, [Piece(name)]), f"{kind}.jsonl"
        first = Pieces(ctx.files.results, await _first_list(ctx, kind))

        async def is_own(_: str, kind: str = kind, first: Pieces = first, last: str = last) -> bool:
            listed = output.list_of(kind)
            if await place.head(last) is not None and await output.matches(listed, Pieces(place, [Piece(last)])):
                return True
            return await output.matches(listed, first)

        if await place.head(name):
            await output.publish(output.list_of(kind), content, is_own)
        elif await output.sink.head(output.list_of(kind)) is not None and await is_own(""):
            await output.sink.delete(output.list_of(kind))
        await place.put(last, content)


async def _first_list(ctx: RunContext, kind: str) -> list[Piece]:
    """A list as the first run has published it."""
    files = ctx.files
    if kind == "rejected":
        names = [files.rejects]
    else:
        name_of = files.failed if kind == "failed" else files.unknown
        names = [name_of(row) for row in latest(await ctx.manifest.rows(ctx.run.id))]
    return [Piece(name) for name in names if await files.results.head(name)]


async def _joined(output: Output, size: int, added: Sequence[Output]) -> AsyncIterator[bytes]:
    async for block in output.sink.blocks(output.name, 0, size):
        yield block
    for part in added:
        async for block in part.sink.blocks(part.name):
            yield block
