"""Where a run's answers go, found and made sure of before anything is paid for."""

from __future__ import annotations

import filecmp
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from .._disk import disk_errors, make_directory, remove
from .._errors import InputError, ManifestError
from .._io.inputs import named_files
from .._io.spool import draft
from .._names import check_out
from .._rules.goals import settled
from .._rules.lineage import reopened

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from .._io.inputs import Inputs
    from .._model import Job
    from .context import Context


class Output:
    """Where a run's answers go: one file, or a directory with a part for each shard."""

    def __init__(self, path: Path, *, parts: bool) -> None:
        self.path = path
        self.parts = parts

    def prepare(self, inputs: Sequence[Path]) -> None:
        """Blocking. Make sure that the output can be published, and that no input is lost by it. Raises InputError."""
        self.make()
        names = [*self._answers(), *self.lists()]
        names = [name for name in [*names, *map(draft, names)] if name.exists()]
        for path in filter(Path.exists, inputs):
            if any(path.samefile(name) for name in names):
                raise InputError(f"{path} is an input, and would be written over; choose another --out")

    def refuse_taken(self, *, lists: bool) -> None:
        """Blocking. Raises InputError when the answers of a new run, or one of its lists, would replace something."""
        for name in [*self._answers(), *(self.lists() if lists else ())]:
            if os.path.lexists(name):
                raise InputError(
                    f"{name} exists already and is not of this run; move it away, or choose another --out. If it is "
                    "of a run whose state directory is gone, asking again would be paid for again"
                )

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

    def part(self, job: Job) -> Path:
        return self.path / f"part-{job.shard:05d}.jsonl"

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
    """Raises ManifestError when the output of a finished run is not there as it was published."""
    found = await anyio.to_thread.run_sync(output.size)
    if found != size:
        state = "is not there" if found is None else f"has {found} bytes"
        raise ManifestError(
            f"{output.path}: the run is complete and published {size} bytes there, but it {state} now. Put it back; "
            "to ask the service again, and pay again, choose another --out and --state"
        )


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
