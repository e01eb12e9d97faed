"""The landed shards become the output, which shows up under its name only when it is whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from .._disk import disk_errors, make_directory, remove
from .._errors import InputError, ManifestError
from .._io.spool import draft, publish, touch
from .._model import Tally
from .._rules.lineage import latest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._io.spool import RunSpool
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
        """Of a directory, those that are there."""
        return [*self.path.glob("part-*.jsonl")] if self.parts else [self.path]

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


async def publish_part(ctx: Context, output: Output, job: Job) -> None:
    """One landed shard becomes a part of its own; done again after a crash, with the same result."""
    await anyio.to_thread.run_sync(output.make)
    await anyio.to_thread.run_sync(_hand_over, ctx.spool, output.part(job), job)


async def merge(ctx: Context, output: Output) -> None:
    """Publish what all shards of the run have come to, record it, and let go of the copies."""
    jobs = latest(await ctx.manifest.jobs(ctx.run.id))
    spool = ctx.spool
    await anyio.to_thread.run_sync(_check, spool, jobs, output)
    await _publish_some(jobs, spool.failed, output.beside("failed"))
    await _publish_some(jobs, spool.unknown, output.beside("unknown"))
    # Last, for whoever waits for it reads the others next.
    if output.parts:
        await anyio.to_thread.run_sync(touch, output.mark)
    else:
        await anyio.to_thread.run_sync(publish, [spool.answers(job) for job in jobs], output.path)
    digest = hashlib.sha256("".join(job.tally.sha256 for job in jobs if job.tally).encode()).hexdigest()
    await ctx.manifest.publish(ctx.run.id, digest)
    await anyio.to_thread.run_sync(spool.discard_results)


def _hand_over(spool: RunSpool, part: Path, job: Job) -> None:
    """Blocking. Once the part stands, the copy here goes."""
    assert job.tally is not None
    answers = spool.answers(job)
    stands = part.is_file() and part.stat().st_size == job.tally.bytes
    if answers.exists() or not stands:
        spool.require(answers, job.tally.bytes)
        publish([answers], part)
    remove("results", answers)


def _check(spool: RunSpool, jobs: Sequence[Job], output: Output) -> None:
    """Blocking. Raises IntegrityError when a file to be published is gone or cut short; empty lists are not missed."""
    for job in jobs:
        tally = job.tally or Tally()
        if not output.parts:
            spool.require(spool.answers(job), tally.bytes)
        if tally.failed:
            spool.require(spool.failed(job))
        if tally.unknown:
            spool.require(spool.unknown(job))


async def publish_rejects(rejects: Path, output: Output) -> None:
    await anyio.to_thread.run_sync(_publish_filled, [rejects], output.beside("rejected"))


async def check_published(output: Output, size: int) -> None:
    """Raises ManifestError when the output of a finished run is not there as it was published."""
    found = await anyio.to_thread.run_sync(output.size)
    if found != size:
        state = "is not there" if found is None else f"has {found} bytes"
        raise ManifestError(
            f"{output.path}: the run is complete and published {size} bytes there, but it {state} now. Put it back; "
            "to ask the service again, and pay again, choose another --out and --state"
        )


async def _publish_some(jobs: list[Job], path: Callable[[Job], Path], final: Path) -> None:
    published = await anyio.to_thread.run_sync(_publish_filled, [path(job) for job in jobs], final)
    if not published and any(job.generation for job in jobs):
        # The list of before the retries is out of date.
        await anyio.to_thread.run_sync(remove, "output", final)


def _publish_filled(parts: list[Path], final: Path) -> bool:
    """Blocking. A file with nothing to tell is not written."""
    filled = [part for part in parts if part.exists() and part.stat().st_size]
    if filled:
        publish(filled, final)
    return bool(filled)
