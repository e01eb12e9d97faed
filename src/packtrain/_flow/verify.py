"""Whether the files of a run are what its manifest says, by rows and sizes or by every byte."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import anyio.to_thread

from .._io.evidence import Claim, differences
from .._reports import Finding
from .._rules import soundness
from .._rules.lifecycle import SPOOLED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .._io.spool import RunSpool
    from .._manifest.base import Manifest
    from .._model import Job, Run, Shard
    from .output import Output


class Verifier:
    """Looks through one run. ``output`` is None while nobody knows where its answers go."""

    def __init__(self, manifest: Manifest, run: Run, spool: RunSpool, output: Output | None, *, read: bool) -> None:
        self.findings: list[Finding] = []
        self.shards = 0
        self.files = 0
        self.bytes = 0
        self._manifest = manifest
        self._run = run
        self._spool = spool
        self._output = output
        self._read = read

    async def verify(self) -> None:
        jobs = await self._manifest.jobs(self._run.id)
        shards = {(job.shard, job.generation): await self._manifest.shard(job) for job in jobs}
        self.shards = len(shards)
        await self._look_at_rows(jobs, shards)
        await self._look_at_cut([shard for shard in shards.values() if not shard.generation])
        for job in jobs:
            if job.state in SPOOLED:
                shard = shards[job.shard, job.generation]
                path = self._spool.shard(shard.index, shard.generation)
                await self._hold(path, [Claim(f"shard {shard.index}", shard.bytes, shard.sha256)])
        await self._look_at_answers(list({job.shard: job for job in jobs if job.tally}.values()))

    async def _look_at_rows(self, jobs: list[Job], shards: dict[tuple[int, int], Shard]) -> None:
        entries = sorted(await self._manifest.history(self._run.id), key=lambda e: (e.shard, e.generation))
        histories = {place: list(some) for place, some in groupby(entries, lambda e: (e.shard, e.generation))}
        for job in jobs:
            place = (job.shard, job.generation)
            flaws = [
                *soundness.job_flaws(self._run.token, job, shards[place]),
                *soundness.tally_flaws(job, shards[job.shard, 0].lines),
                *soundness.history_flaws(job, histories.get(place, [])),
            ]
            self._find(f"shard {job.shard}" + (f", generation {job.generation}" if job.generation else ""), flaws)

    async def _look_at_cut(self, shards: list[Shard]) -> None:
        cursor = await self._manifest.cursor(self._run.id)
        if any(shard.lines for shard in shards):
            self._find(f"run {self._run.id}", soundness.cut_flaws(shards, cursor))
        if cursor.rejects_bytes:
            rejects = await anyio.to_thread.run_sync(_size, self._spool.rejects)
            if rejects < cursor.rejects_bytes:
                self._find(str(self._spool.rejects), [f"has {rejects} bytes of at least {cursor.rejects_bytes}"])

    async def _look_at_answers(self, landed: list[Job]) -> None:
        """Of each shard the last generation that landed holds all that came before it."""
        published = await self._manifest.published(self._run.id) is not None
        output = self._output
        if published and output is not None and not output.parts:
            await self._hold(output.path, [_claim(job) for job in landed])
            return
        for job in landed:
            path = self._spool.answers(job)
            if output is not None and output.parts and not await anyio.to_thread.run_sync(path.exists):
                path = output.part(job)
            await self._hold(path, [_claim(job)])

    async def _hold(self, path: Path, claims: list[Claim]) -> None:
        """The file is these parts, one after the other."""
        self.files += 1
        if self._read:
            self.bytes += sum(claim.bytes for claim in claims)
        self._find(str(path), await anyio.to_thread.run_sync(differences, path, claims, self._read))

    def _find(self, where: str, flaws: Iterable[str]) -> None:
        self.findings += [Finding(where=where, what=flaw) for flaw in flaws]


def _claim(job: Job) -> Claim:
    assert job.tally is not None
    return Claim(f"shard {job.shard}", job.tally.bytes, job.tally.sha256, job.tally.answered)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
