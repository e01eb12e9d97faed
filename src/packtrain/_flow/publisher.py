"""Publication: collected shards become the output, which appears under its name only when complete."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Literal

from .._errors import DecisionNeeded, OutputChanged
from .._io.generation_join import make_child
from .._io.inputs import named_files
from .._io.output import same_content
from .._io.storage import Piece, Pieces, Stored
from .._manifest.base import Child
from .._model import State, Tally
from .._rules.completion import settled
from .._rules.generations import Tree, latest, reopened
from .._rules.submission import candidate, plight
from .._snapshots import Summary
from .._validation import check_form, counted
from .duplicates import last_sweep
from .job_list import refuse_beyond
from .reconciler import suspect
from .reporting import refresh

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from .._io.inputs import Inputs
    from .._io.output import Output
    from .._io.spool import RunSpool
    from .._manifest.base import Manifest
    from .._model import Run, ShardRow, Statistics
    from .run import RunContext


async def prepare_output(ctx: RunContext, output: Output, inputs: Inputs, own: Container[Path]) -> None:
    """Raises InputError when publishing at the end would fail, or destroy something. ``own`` is what the run makes."""
    begun = (await ctx.manifest.cursor(ctx.run.id)).shards
    if not output.parts and not begun:
        check_form(output.path)
    await output.prepare(await named_files(inputs, own))
    if not await _is_own(ctx, output):
        # A start that came as far as the input may have left a list of rejected lines next to the output.
        listed = await ctx.files.results.head(ctx.files.rejects) is not None
        await output.refuse_taken(lists=not listed)
    if not (await ctx.manifest.cursor(ctx.run.id)).rejects_bytes:
        await _withdraw_rejects(ctx.files, output)


async def _withdraw_rejects(files: RunSpool, output: Output) -> None:
    """Remove the list of a start that was refused: the next start validates these lines again, and may reject none.

    The list is ours when it is byte for byte what that start wrote.
    """
    name = output.list_of("rejected")
    if await same_content(files.results, files.rejects, output.sink, name):
        await output.sink.delete(name)


async def _is_own(ctx: RunContext, output: Output) -> bool:
    """An output that exists is of this run. Parts are published one by one; one file when all shards are done, and it
    stays while failed lines are asked again."""
    statistics = await ctx.manifest.statistics(ctx.run.id)
    if output.parts or not statistics.cursor.shards:
        return statistics.cursor.shards > 0
    if settled(statistics) and await output.size() == statistics.tally.bytes:
        return True
    return reopened(await ctx.manifest.rows(ctx.run.id))


async def refuse_output(output: Output, inputs: Inputs, own: Container[Path]) -> None:
    """Raises InputError as ``prepare_output``, for a run that has published nothing but perhaps lists of its own."""
    await output.prepare(await named_files(inputs, own))
    await output.refuse_taken(lists=False)


async def publish_part(files: RunSpool, output: Output, row: ShardRow) -> None:
    """Publish the answers of one shard; done again after a crash, with the same result. Their copy is removed."""
    assert row.tally is not None
    answers, part = files.answers(row), output.part(row)
    published = await output.sink.head(part) == row.tally.bytes
    if not published or await files.results.head(answers) is not None:
        await files.require(Stored(answers, row.tally.bytes))
        await output.sink.write(part, Pieces(files.results, [_answers(files, row)], files.damaged))
    await files.results.delete(answers)


async def publish_rejects(ctx: RunContext, output: Output) -> None:
    """Raises FileDamaged when the list should be whole, and is gone or not what it was."""
    cursor = await ctx.manifest.cursor(ctx.run.id)
    if cursor.done and cursor.rejects_bytes:
        await ctx.files.require(Stored(ctx.files.rejects, cursor.rejects_bytes))
    sha256 = cursor.rejects_sha256 if cursor.done else ""
    await output.publish_list("rejected", ctx.files, [Piece(ctx.files.rejects, sha256=sha256)])


def _answers(files: RunSpool, row: ShardRow) -> Piece:
    return Piece(files.answers(row), sha256=row.tally.sha256 if row.tally else "")


async def merge(ctx: RunContext, output: Output) -> str:
    """Publish the answers of all shards and the lists; returns a digest of them."""
    rows, files = latest(await ctx.manifest.rows(ctx.run.id)), ctx.files
    if output.parts:
        for row in rows:
            if row.state is State.LANDED:  # a stop may have come before its part
                await publish_part(files, output, row)
    await files.require(*_needed(files, rows, output))
    await _publish_list(files, rows, output, "failed", [files.failed(row) for row in rows])
    await _publish_list(files, rows, output, "unknown", [files.unknown(row) for row in rows])
    # Last: a program that waits for the answers reads the lists next.
    await _publish_answers(ctx, rows, output)
    return hashlib.sha256("".join(row.tally.sha256 for row in rows if row.tally).encode()).hexdigest()


def _needed(files: RunSpool, rows: Sequence[ShardRow], output: Output) -> Iterator[str | Stored]:
    """What is published; empty lists may be gone."""
    for row in rows:
        tally = row.tally or Tally()
        if not output.parts:
            yield Stored(files.answers(row), tally.bytes)
        if tally.failed:
            yield files.failed(row)
        if tally.unknown:
            yield files.unknown(row)


async def _publish_list(
    files: RunSpool, rows: Sequence[ShardRow], output: Output, kind: Literal["failed", "unknown"], names: Sequence[str]
) -> None:
    at = ("failed", "unknown").index(kind)
    lists = [row.tally.lists if row.tally else () for row in rows]
    pieces = [Piece(name, sha256=sha256[at] if sha256 else "") for name, sha256 in zip(names, lists, strict=True)]
    published = await output.publish_list(kind, files, pieces)
    if not published and any(row.generation for row in rows):
        # The list from before the retries is out of date.
        await output.sink.delete(output.list_of(kind))


async def _publish_answers(ctx: RunContext, rows: Sequence[ShardRow], output: Output) -> None:
    """Raises OutputTaken when another program has made a file of this name since the run began."""
    name = output.success if output.parts else output.name
    pieces = [] if output.parts else [_answers(ctx.files, row) for row in rows]
    answers = Pieces(ctx.files.results, pieces, ctx.files.damaged)
    if await output.sink.publish_if_absent(name, answers):
        return
    if not await _is_own(ctx, output):
        await output.sink.reserve([name])
    await output.sink.replace_own(name, answers)


async def publish(ctx: RunContext, output: Output) -> bool:
    """Publish the run, record it, and remove the copies; False for a run that was stopped before its end.

    The answers stand before the last search for duplicate jobs, which the service may hold up. It comes before the
    record, so that a kill between them leaves a run that is published, and searched, once more.

    Raises DecisionNeeded when a person must decide first, OtherContent when a job was noted of a shard that the whole
    input does not give.
    """
    statistics = await ctx.manifest.statistics(ctx.run.id)
    if not settled(statistics):
        return False
    noted = await ctx.manifest.duplicate_jobs(ctx.run.id)
    refuse_beyond(ctx.run.token, (job.shard for job in noted), statistics.cursor)
    if statistics.count(State.QUARANTINED):
        await last_sweep(ctx, ctx.stopped)
        await refresh(ctx, ctx.run.id)
        await _refuse_undecided(ctx)
    digest = await merge(ctx, output)
    await last_sweep(ctx, ctx.stopped)
    await ctx.manifest.publish(ctx.run.id, digest)
    await ctx.files.discard_results()
    await refresh(ctx, ctx.run.id)
    return True


async def _refuse_undecided(ctx: RunContext) -> None:
    stuck = await ctx.manifest.rows(ctx.run.id, {State.QUARANTINED})
    if stuck:
        duplicate_jobs = await ctx.manifest.duplicate_jobs(ctx.run.id)
        reasons = {row.shard: plight(row, duplicate_jobs) for row in stuck}
        named = "; ".join(f"shard {shard}: {reason}" for shard, reason in list(reasons.items())[:5])
        jobs = {row.shard: candidate(row, duplicate_jobs) for row in stuck}
        need = "needs" if len(stuck) == 1 else "need"
        raise DecisionNeeded(
            f"{counted(len(stuck), 'shard')} {need} a decision; all others are answered. {named}",
            state=ctx.spool.root,
            run=ctx.run.id,
            token=ctx.run.token,
            shards=reasons,
            candidates={shard: job for shard, job in jobs.items() if job is not None},
        )


async def reopen(ctx: RunContext, output: Output, *, everything: bool) -> bool:
    """Enter the failed lines worth asking again, or all of them, as next generations; False when there are none.

    Until the one transaction at its end the run stays published, and all of it can be done again. Raises
    OutputChanged when the output is no longer what was published.
    """
    tree, shape = Tree(await ctx.manifest.rows(ctx.run.id)), ctx.provider.capabilities.lines
    rows = tree.holders()
    children = [
        None
        if tree.children(row)
        else await make_child(ctx.files, row, tree.next_generation(row.shard), shape, everything=everything)
        for row in rows
    ]
    if not any(children):
        return False
    offset = 0
    for row, child in zip(rows, children, strict=True):
        if child is not None or not output.parts:
            name, start = (output.part(row), 0) if output.parts else (output.name, offset)
            await _restore(ctx.files, row, output, name, start)
        offset += row.tally.bytes if row.tally else 0
    entering = [Child(child, tuple(await suspect(ctx, child))) for child in children if child is not None]
    await ctx.manifest.reopen(ctx.run.id, entering)
    ctx.changes.notify()
    if output.parts:
        await output.sink.delete(output.success)
    return True


async def _restore(files: RunSpool, row: ShardRow, output: Output, name: str, offset: int) -> None:
    """Bring back the answers of a shard as they were before they were published."""
    digest = await files.restore(row, output.sink, name, offset)
    if row.tally is None or digest != row.tally.sha256:
        path = output.sink.path(name)
        raise OutputChanged(f"{path}: the answers of shard {row.shard} are not what was published there", path=path)


async def conclude(manifest: Manifest, files: RunSpool, run: Run, output: Output, began: float) -> Summary:
    """The summary; of a run that is published only with its output in place, and then what a crash left of its copies
    goes. ``began`` by the monotonic clock.

    Raises ManifestError when the output is no longer there as it was published.
    """
    statistics = await manifest.statistics(run.id)
    if statistics.merged:
        await output.check(statistics.tally.bytes)
        await files.discard_results()
    return _summarise(run, statistics, began)


def _summarise(run: Run, statistics: Statistics, began: float) -> Summary:
    cursor, tally = statistics.cursor, statistics.tally
    return Summary(
        run=run.token,
        complete=statistics.merged,
        lines=cursor.lines,
        valid=cursor.valid,
        answered=tally.answered,
        failed=tally.failed,
        rejected=cursor.rejected,
        shards=cursor.shards,
        jobs_created=statistics.jobs_created,
        duplicates_healed=statistics.duplicates_healed,
        duplicates_live=statistics.duplicates_live,
        bytes_in=cursor.bytes,
        bytes_uploaded=statistics.uploaded_bytes,
        seconds=round(time.monotonic() - began, 3),
    )
