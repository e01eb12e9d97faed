"""Publication: collected shards become the output, which appears under its name only when complete."""

from __future__ import annotations

import filecmp
import hashlib
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from .._errors import DecisionNeeded, OutputChanged, OutputIsInput, OutputTaken
from .._io.disk import disk_errors, draft, make_directory, remove
from .._io.generation_files import pick
from .._io.inputs import named_files
from .._io.spool import land, publish_file, restore, touch
from .._manifest.base import Child, Manifest
from .._model import State, Tally
from .._rules.completion import settled
from .._rules.generations import Tree, latest, reopened
from .._rules.submission import candidate, plight
from .._snapshots import Summary
from .._validation import check_out, counted
from .duplicates import last_sweep
from .reconciler import suspect
from .reporting import refresh

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from .._io.inputs import Inputs
    from .._io.spool import RunSpool
    from .._model import Run, Shard, ShardRow, Statistics
    from .run import RunContext


class Output:
    """Where a run's answers go: one file, or a directory with a part for each shard."""

    def __init__(self, path: Path, *, parts: bool) -> None:
        self.path = path
        self.parts = parts

    def prepare(self, inputs: Sequence[Path]) -> None:
        """Blocking. Check that the output can be published, and that no input is lost by it. Raises OutputIsInput."""
        self.make()
        names = [*self._answers(), *self.lists()]
        names = [name for name in [*names, *map(draft, names)] if name.exists()]
        for path in filter(Path.exists, inputs):
            if any(path.samefile(name) for name in names):
                raise OutputIsInput(f"{path} is an input, and would be written over", path=path)

    def refuse_taken(self, *, lists: bool) -> None:
        """Blocking. Raises OutputTaken when the answers of a new run, or one of its lists, would replace something."""
        for name in [*self._answers(), *(self.lists() if lists else ())]:
            if os.path.lexists(name):
                raise OutputTaken(f"{name} exists already and is not of this run", path=name)

    def _answers(self) -> list[Path]:
        """Of a directory, the parts that are there, and what says that all are."""
        return [*self.path.glob("part-*.jsonl"), self.mark] if self.parts else [self.path]

    def lists(self) -> list[Path]:
        """All that can stand beside the answers."""
        return [self.beside(kind) for kind in ("failed", "unknown", "rejected")]

    def make(self) -> None:
        """Blocking. The directory that the answers go to."""
        with disk_errors(self.path):
            make_directory("output", self.path if self.parts else self.path.parent)

    def beside(self, kind: str) -> Path:
        """``OUT.failed.jsonl`` and the like."""
        return self.path.with_name(f"{self.path.name}.{kind}.jsonl")

    def part(self, row: ShardRow) -> Path:
        return self.path / f"part-{row.shard:05d}.jsonl"

    @property
    def mark(self) -> Path:
        """Of a directory: stands there when all parts do."""
        return self.path / "_SUCCESS"

    def size(self) -> int | None:
        """Bytes of what stands there; None when it is not there, or not complete."""
        if not self.parts:
            return self.path.stat().st_size if self.path.is_file() else None
        if not self.mark.is_file():
            return None
        return sum(part.stat().st_size for part in self.path.glob("part-*.jsonl"))


async def output_at(out: str | os.PathLike[str]) -> Output:
    """A file, or a directory of parts: one that exists, or a name with a slash at its end.

    Raises InputError for what has no name of its own.
    """
    check_out(out)
    path = Path(out)
    parts = os.fspath(out).endswith(os.sep) or await anyio.to_thread.run_sync(path.is_dir)
    return Output(path, parts=parts)


async def check_published(output: Output, size: int) -> None:
    """Raises OutputChanged when the output of a finished run is not there as it was published."""
    found = await anyio.to_thread.run_sync(output.size)
    if found != size:
        state = "is not there" if found is None else f"has {found} bytes"
        raise OutputChanged(
            f"{output.path}: the run is complete and published {size} bytes there, but it {state} now", path=output.path
        )


async def prepare_output(ctx: RunContext, output: Output, inputs: Inputs, own: Container[Path]) -> None:
    """Raises InputError when publishing at the end would fail, or destroy something. ``own`` is what the run makes."""
    await anyio.to_thread.run_sync(output.prepare, await named_files(inputs, own))
    if not await _may_be_own(ctx, output):
        # A start that came as far as the input may have left a list of bad lines beside the output.
        lists = not await anyio.to_thread.run_sync(ctx.files.rejects.exists)
        await anyio.to_thread.run_sync(partial(output.refuse_taken, lists=lists))
    if not (await ctx.manifest.cursor(ctx.run.id)).rejects_bytes:
        await anyio.to_thread.run_sync(_withdraw, ctx.files.rejects, output.beside("rejected"))


def _withdraw(rejects: Path, published: Path) -> None:
    """Blocking. Take back the list of a start that was refused: the next one judges these lines anew, and may have none
    to list. It is ours when it is byte for byte what that start wrote."""
    filled = all(path.is_file() and path.stat().st_size for path in (rejects, published))
    if filled and filecmp.cmp(rejects, published, shallow=False):
        remove("output", published)


async def _may_be_own(ctx: RunContext, output: Output) -> bool:
    """Parts are published as they land; one file when all have, and it stays while failed lines are asked again."""
    statistics = await ctx.manifest.statistics(ctx.run.id)
    if output.parts or not statistics.cursor.shards:
        return statistics.cursor.shards > 0
    if settled(statistics) and await anyio.to_thread.run_sync(output.size) == statistics.tally.bytes:
        return True
    return reopened(await ctx.manifest.rows(ctx.run.id))


async def refuse_output(output: Output, inputs: Inputs, own: Container[Path]) -> None:
    """Raises InputError as ``prepare_output``, for a run that has published nothing; lists beside it may be its own."""
    await anyio.to_thread.run_sync(output.prepare, await named_files(inputs, own))
    await anyio.to_thread.run_sync(partial(output.refuse_taken, lists=False))


async def publish_part(ctx: RunContext, output: Output, row: ShardRow) -> None:
    """One landed shard becomes a part of its own; done again after a crash, with the same result."""
    await anyio.to_thread.run_sync(output.make)
    await anyio.to_thread.run_sync(_hand_over, ctx.files, output.part(row), row)


async def merge(ctx: RunContext, output: Output) -> None:
    """Publish what all shards of the run have come to, record it, and let go of the copies."""
    rows = latest(await ctx.manifest.rows(ctx.run.id))
    spool = ctx.files
    await anyio.to_thread.run_sync(_check, spool, rows, output)
    await _publish_some(rows, spool.failed, output.beside("failed"))
    await _publish_some(rows, spool.unknown, output.beside("unknown"))
    # Last, for whoever waits for it reads the others next.
    if output.parts:
        await anyio.to_thread.run_sync(touch, output.mark)
    else:
        await anyio.to_thread.run_sync(publish_file, [spool.answers(row) for row in rows], output.path)
    digest = hashlib.sha256("".join(row.tally.sha256 for row in rows if row.tally).encode()).hexdigest()
    await ctx.manifest.publish(ctx.run.id, digest)
    await anyio.to_thread.run_sync(spool.discard_results)


def _hand_over(spool: RunSpool, part: Path, row: ShardRow) -> None:
    """Blocking. Once the part stands, the copy here goes."""
    assert row.tally is not None
    answers = spool.answers(row)
    stands = part.is_file() and part.stat().st_size == row.tally.bytes
    if answers.exists() or not stands:
        spool.require(answers, row.tally.bytes)
        publish_file([answers], part)
    remove("results", answers)


def _check(spool: RunSpool, rows: Sequence[ShardRow], output: Output) -> None:
    """Blocking. Raises IntegrityError when a file to be published is gone or cut short; empty lists are not missed."""
    for row in rows:
        tally = row.tally or Tally()
        if not output.parts:
            spool.require(spool.answers(row), tally.bytes)
        if tally.failed:
            spool.require(spool.failed(row))
        if tally.unknown:
            spool.require(spool.unknown(row))


async def publish_rejects(rejects: Path, output: Output) -> None:
    await anyio.to_thread.run_sync(_publish_filled, [rejects], output.beside("rejected"))


async def _publish_some(rows: list[ShardRow], path: Callable[[ShardRow], Path], final: Path) -> None:
    published = await anyio.to_thread.run_sync(_publish_filled, [path(row) for row in rows], final)
    if not published and any(row.generation for row in rows):
        # The list of before the retries is out of date.
        await anyio.to_thread.run_sync(remove, "output", final)


def _publish_filled(parts: list[Path], final: Path) -> bool:
    """Blocking. A file with nothing to tell is not written."""
    filled = [part for part in parts if part.exists() and part.stat().st_size]
    if filled:
        publish_file(filled, final)
    return bool(filled)


async def publish(ctx: RunContext, output: Output) -> None:
    """Does nothing for a run that was stopped before its end. Raises DecisionNeeded when a person must decide first."""
    if not settled(await ctx.manifest.statistics(ctx.run.id)):
        return
    await last_sweep(ctx, ctx.stopped)
    await refresh(ctx, ctx.run.id)
    await _refuse_undecided(ctx)
    await merge(ctx, output)


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
    ManifestError when the output is no longer what was published.
    """
    tree = Tree(await ctx.manifest.rows(ctx.run.id))
    rows = tree.holders()
    children = [await anyio.to_thread.run_sync(partial(_child, ctx, tree, row, everything=everything)) for row in rows]
    if not any(children):
        return False
    offset = 0
    for row, child in zip(rows, children, strict=True):
        if child is not None or not output.parts:
            source, start = (output.part(row), 0) if output.parts else (output.path, offset)
            await anyio.to_thread.run_sync(_restore, ctx, row, source, start)
        offset += row.tally.bytes if row.tally else 0
    entering = [Child(child, tuple(await suspect(ctx, child))) for child in children if child is not None]
    await ctx.manifest.reopen(ctx.run.id, entering)
    ctx.changes.notify()
    if output.parts:
        await anyio.to_thread.run_sync(remove, "output", output.mark)
    return True


def _child(ctx: RunContext, tree: Tree, row: ShardRow, *, everything: bool) -> Shard | None:
    """Blocking. The child of a generation without one, durable; None when nothing of it is to be asked again."""
    if row.tally is None or not row.tally.failed or tree.children(row):
        return None
    generation = tree.next_generation(row.shard)
    path, kept = ctx.files.shard(row.shard, generation), ctx.files.kept(row)
    for needed in (kept.failed, kept.requests):
        ctx.files.require(needed)
    picked = pick(kept, draft(path), everything=everything, shape=ctx.provider.capabilities.lines)
    if picked is None:
        remove("shard", draft(path))
        return None
    digest = land([draft(path)], [path], what="shard")
    return picked.shard(row, generation, path.stat().st_size, digest)


def _restore(ctx: RunContext, row: ShardRow, source: Path, offset: int) -> None:
    """Blocking. The answers of a shard as they were before they were published."""
    assert row.tally is not None
    digest = restore(source, offset, row.tally.bytes, ctx.files.answers(row))
    if digest != row.tally.sha256:
        raise OutputChanged(f"{source}: the answers of shard {row.shard} are not what was published there", path=source)


async def conclude(manifest: Manifest, spool: RunSpool, run: Run, output: Output, began: float) -> Summary:
    """The summary; of a run that is published only with its output in place, and then what a crash left of its copies
    goes. ``began`` by the monotonic clock.

    Raises ManifestError when the output is no longer there as it was published.
    """
    statistics = await manifest.statistics(run.id)
    if statistics.merged:
        await check_published(output, statistics.tally.bytes)
        await anyio.to_thread.run_sync(spool.discard_results)
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
