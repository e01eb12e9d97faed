"""Publication: collected shards become the output, which appears under its name only when complete."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import anyio
import msgspec

from .._errors import DecisionNeeded, OutputChanged, OutputTaken, PacktrainError
from .._io.generation_join import make_child
from .._io.inputs import named_files
from .._io.output import Output, Reservation
from .._io.storage import Piece, Pieces, Stored
from .._manifest.base import Child
from .._model import State, Tally
from .._rules.completion import settled
from .._rules.generations import Tree, latest, reopened
from .._rules.submission import candidate, plight
from .._snapshots import PaidTwice, RowCounts, Summary
from .._text import stored_path
from .._validation import check_form, counted
from .duplicates import last_sweep
from .further import chain, check_output, published_runs
from .job_list import refuse_beyond
from .reconciler import suspect
from .reporting import refresh

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterator, Sequence

    from .._io.inputs import Inputs
    from .._io.spool import RunSpool
    from .._io.storage import Readable
    from .._manifest.base import Manifest
    from .._model import Run, ShardRow, Statistics
    from .run import RunContext


#: Lists that are published with the answers.
_LISTS: tuple[Literal["failed", "unknown"], ...] = ("failed", "unknown")


async def prepare_output(ctx: RunContext, output: Output, inputs: Inputs, own: Container[Path]) -> None:
    """Reserve the output for the run. Raises InputError when publishing at the end would fail, or destroy something.

    ``own`` is what the run makes.
    """
    begun = (await ctx.manifest.cursor(ctx.run.id)).shards
    if not output.parts and not begun:
        check_form(output.path)
    await output.prepare(await named_files(inputs, own))
    await _reserve(ctx, output)
    if not await _is_own(ctx, output):
        await output.refuse_taken(lists=await _foreign_lists(ctx, output))
    if not (await ctx.manifest.cursor(ctx.run.id)).rejects_bytes:
        await _withdraw_rejects(ctx.files, output)


async def _reserve(ctx: RunContext, output: Output) -> None:
    """A run that is to go elsewhere than at its last start gives up the place that it had."""
    noted, here = ctx.files.reserved, os.fsencode(await anyio.Path(output.path).absolute())
    state = stored_path(await anyio.Path(ctx.spool.root).resolve())
    tokens = {run.token for run in await ctx.manifest.runs()}
    before = await _read(ctx.files.results, noted)
    if before is not None and before != here:
        await Output(Path(os.fsdecode(before)), parts=False).release(ctx.run.token)
    await output.reserve(Reservation(state=state, run=ctx.run.id, token=ctx.run.token), tokens)
    await ctx.files.results.put(noted, here)


async def release_unused(ctx: RunContext, output: Output) -> None:
    """End the reservation of a run that has nothing to publish so far. A failure is of no interest: it can stay."""
    with suppress(PacktrainError):
        if not (await ctx.manifest.cursor(ctx.run.id)).shards:
            await output.release(ctx.run.token)


async def _foreign_lists(ctx: RunContext, output: Output) -> list[str]:
    """The lists that this run cannot have published yet."""
    if ctx.run.recovered:
        return []
    kinds = [] if settled(await ctx.manifest.statistics(ctx.run.id)) else ["failed", "unknown"]
    # A start that came as far as the input may have left a list of rejected lines next to the output.
    listed = await ctx.files.results.head(ctx.files.rejects) is not None
    return kinds if listed else [*kinds, "rejected"]


async def _lists_rejects(files: RunSpool, output: Output, *, whole: bool) -> bool:
    rejects = Pieces(files.results, [Piece(files.rejects)])
    return await output.matches(output.list_of("rejected"), rejects, whole=whole)


async def _withdraw_rejects(files: RunSpool, output: Output) -> None:
    """Remove the list of a start that was refused: the next start validates these lines again, and may reject none.

    The list is ours when it is byte for byte what that start wrote.
    """
    if await files.results.head(files.rejects) and await _lists_rejects(files, output, whole=True):
        await output.sink.delete(output.list_of("rejected"))


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
    await output.refuse_taken(lists=())


async def publish_part(ctx: RunContext, output: Output, row: ShardRow) -> None:
    """Publish the answers of one shard; done again after a crash, with the same result. Their copy is removed.

    Raises OutputBlocked when there is a part that is of no generation of this shard.
    """
    assert row.tally is not None
    files, part = ctx.files, output.part(row)
    answers = files.answers(row)

    async def is_own(_: str) -> bool:
        rows = await ctx.manifest.rows(ctx.run.id, shard=row.shard)
        return await output.sink.digest(part) in {row.tally.sha256 for row in rows if row.tally}

    published = await output.sink.head(part) == row.tally.bytes
    if not published or await files.results.head(answers) is not None:
        await files.require(Stored(answers, row.tally.bytes))
        await output.publish(part, Pieces(files.results, [_answers(files, row)], files.damaged), is_own)
    await files.results.delete(answers)


async def publish_rejects(ctx: RunContext, output: Output) -> None:
    """Raises OutputBlocked for a list that is not the beginning of this one, nor this one of it, and FileDamaged when
    this one should be whole, and is gone or not what it was."""

    async def is_own(_: str) -> bool:
        return await _lists_rejects(ctx.files, output, whole=False)

    cursor = await ctx.manifest.cursor(ctx.run.id)
    if cursor.done and cursor.rejects_bytes:
        await ctx.files.require(Stored(ctx.files.rejects, cursor.rejects_bytes))
    sha256 = cursor.rejects_sha256 if cursor.done else ""
    await output.publish_list("rejected", ctx.files, [Piece(ctx.files.rejects, sha256=sha256)], is_own)


def _answers(files: RunSpool, row: ShardRow) -> Piece:
    return Piece(files.answers(row), sha256=row.tally.sha256 if row.tally else "")


def _list_pieces(files: RunSpool, rows: Sequence[ShardRow], kind: Literal["failed", "unknown"]) -> list[Piece]:
    """The parts of a list, each with its digest where that is known."""
    name_of, at = (files.failed, 0) if kind == "failed" else (files.unknown, 1)
    lists = [row.tally.lists if row.tally else () for row in rows]
    return [Piece(name_of(row), sha256=sha256[at] if sha256 else "") for row, sha256 in zip(rows, lists, strict=True)]


async def merge(ctx: RunContext, output: Output) -> str:
    """Publish the answers of all shards and the lists; returns a digest of them.

    Raises OutputBlocked when a file that is not of this run is in the way.
    """
    every = await ctx.manifest.rows(ctx.run.id)
    rows, files = latest(every), ctx.files
    replaced = await _replaced(ctx, output, every)

    def is_own(name: str) -> Callable[[str], Awaitable[bool]]:
        async def is_replaced(version: str) -> bool:
            return replaced.get(name) == version

        return is_replaced

    await output.clear()
    if output.parts:
        for row in rows:
            if row.state is State.LANDED:  # a stop may have come before its part
                await publish_part(ctx, output, row)
    await files.require(*_needed(files, rows, output))
    await publish_rejects(ctx, output)
    for kind in _LISTS:
        name = output.list_of(kind)
        published = await output.publish_list(kind, files, _list_pieces(files, rows, kind), is_own(name))
        if not published and name in replaced and await output.sink.version(name) == replaced[name]:
            # The list from before the retries is out of date.
            await output.sink.delete(name)
    # Last: a program that waits for the answers reads the lists next.
    answers = [] if output.parts else [_answers(files, row) for row in rows]
    await output.publish(output.answers, Pieces(files.results, answers, files.damaged), is_own(output.answers))
    return hashlib.sha256("".join(row.tally.sha256 for row in rows if row.tally).encode()).hexdigest()


async def _replaced(ctx: RunContext, output: Output, rows: Sequence[ShardRow]) -> dict[str, str]:
    """Of a run whose failed lines were asked again: the versions of the files that it published before."""
    recovered = ctx.run.recovered
    if not recovered and not reopened(rows):
        return {}
    record = await _read(ctx.files.results, ctx.files.replaced)
    if record is not None:
        try:
            return msgspec.json.decode(record, type=dict[str, str])
        except msgspec.DecodeError as error:
            path = ctx.files.results.path(ctx.files.replaced)
            raise ctx.files.damaged(path, f"cannot be read ({error})") from error
    # The release before this one kept no record, and a recovered run has lost it.
    return await _versions(output, lists_only=recovered)


async def _versions(output: Output, *, lists_only: bool = False) -> dict[str, str]:
    names = [*map(output.list_of, _LISTS), *(() if lists_only else (output.answers,))]
    versions = {name: await output.sink.version(name) for name in names}
    return {name: version for name, version in versions.items() if version is not None}


async def _read(origin: Readable, name: str) -> bytes | None:
    size = await origin.head(name)
    return None if size is None else await origin.read(name, 0, size)


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


async def publish(ctx: RunContext, output: Output) -> bool:
    """Publish the run, record it, and remove the copies; False for a run that was stopped before its end.

    The answers stand before the last search for duplicate jobs, which the service may hold up. It comes before the
    record, so that a kill between them leaves a run that is published, and searched, once more.

    Raises DecisionNeeded when a person must decide first, OtherContent when a job was noted of a shard that the whole
    input does not give, and OutputBlocked when a file that is not of this run is in the way; then all copies stay.
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
    OutputChanged when the output is no longer what was published. Nothing is entered when further runs have added to
    the output.
    """
    if len(await chain(ctx.manifest, ctx.run)) > 1:
        return False
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
    await _record_replaced(ctx, output, rows)
    entering = [Child(child, tuple(await suspect(ctx, child))) for child in children if child is not None]
    await ctx.manifest.reopen(ctx.run.id, entering)
    ctx.changes.notify()
    if output.parts:
        await output.sink.delete(output.success)
    return True


async def _record_replaced(ctx: RunContext, output: Output, rows: Sequence[ShardRow]) -> None:
    """Keep the versions of what was published, which the next publication takes the place of. Raises OutputTaken."""
    files, versions = ctx.files, await _versions(output)
    for kind in _LISTS:
        name = output.list_of(kind)
        pieces = _list_pieces(files, rows, kind)
        kept = [piece for piece in pieces if await files.results.head(piece.name) is not None]
        if name in versions and not await output.matches(name, Pieces(files.results, kept)):
            path = output.list_path(kind)
            raise OutputTaken(f"{path} is not the list that this run published there", path=path)
    await files.results.put(files.replaced, msgspec.json.encode(versions))


async def _restore(files: RunSpool, row: ShardRow, output: Output, name: str, offset: int) -> None:
    """Bring back the answers of a shard as they were before they were published."""
    digest = await files.restore(row, output.sink, name, offset)
    if row.tally is None or digest != row.tally.sha256:
        path = output.sink.path(name)
        raise OutputChanged(f"{path}: the answers of shard {row.shard} are not what was published there", path=path)


async def conclude(manifest: Manifest, files: RunSpool, run: Run, output: Output, began: float) -> Summary:
    """The summary; of a run that is published only with its output in place. Then what is left of its copies goes, and
    the reservation of the output. ``began`` by the monotonic clock.

    Raises ManifestError when the output is no longer there as it was published.
    """
    statistics = await manifest.statistics(run.id)
    if statistics.merged:
        await check_output(manifest, run, output)
        await files.discard_results()
        await output.clear()
        await output.release(run.token)
    summary = _summarise(run, statistics, began)
    further = [await manifest.statistics(other.id) for other in (await published_runs(manifest, run, output))[1:]]
    return await _with_further(summary, further, output) if statistics.merged and further else summary


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
        skipped=cursor.skipped,
        shards=cursor.shards,
        jobs_created=statistics.jobs_created,
        duplicates_healed=statistics.duplicates_healed,
        duplicates_live=statistics.duplicates_live,
        rows=RowCounts.of(tally),
        paid_twice=PaidTwice.of(statistics),
        bytes_in=cursor.bytes,
        bytes_uploaded=statistics.uploaded_bytes,
        seconds=round(time.monotonic() - began, 3),
    )


_Counts = TypeVar("_Counts", RowCounts, PaidTwice)


def _added(first: _Counts, others: Sequence[_Counts]) -> _Counts:
    names = first.__struct_fields__
    return msgspec.structs.replace(
        first, **{name: getattr(first, name) + sum(getattr(other, name) for other in others) for name in names}
    )


async def _with_further(summary: Summary, further: Sequence[Statistics], output: Output) -> Summary:
    """Of a run and those that add to it. Lines that were given again are counted once, as the lists have them."""
    answered = summary.answered + sum(other.tally.answered for other in further)
    failed, rejected = [await output.count_list(kind) for kind in ("failed", "rejected")]
    return msgspec.structs.replace(
        summary,
        lines=summary.lines + sum(other.cursor.lines for other in further),
        valid=answered + failed,
        answered=answered,
        failed=failed,
        rejected=rejected,
        skipped=sum(other.cursor.skipped for other in further),
        shards=summary.shards + sum(other.cursor.shards for other in further),
        jobs_created=summary.jobs_created + sum(other.jobs_created for other in further),
        duplicates_healed=summary.duplicates_healed + sum(other.duplicates_healed for other in further),
        duplicates_live=summary.duplicates_live + sum(other.duplicates_live for other in further),
        rows=_added(summary.rows, [RowCounts.of(other.tally) for other in further]),
        paid_twice=_added(summary.paid_twice, [PaidTwice.of(other) for other in further]),
        bytes_in=summary.bytes_in + sum(other.cursor.bytes for other in further),
        bytes_uploaded=summary.bytes_uploaded + sum(other.uploaded_bytes for other in further),
    )
