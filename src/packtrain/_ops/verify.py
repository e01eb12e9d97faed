"""``verify``: compare a state directory with its manifest."""

from __future__ import annotations

import stat
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import ManifestDamaged, NoRun, OutputUnknown
from .._flow.further import chain, output_of, published_runs
from .._io.output import output_at
from .._io.spool import Claim, Spool, differences
from .._io.threads import in_thread
from .._manifest.sqlite import inspect_sqlite
from .._manifest.witness import read_tokens, tokens_of
from .._rules import invariants
from .._rules.generations import covered, latest
from .._rules.lifecycle import SPOOLED
from .._snapshots import Finding, Verification
from .._validation import answers_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from .._io.output import Output
    from .._io.spool import RunSpool
    from .._manifest.base import Manifest
    from .._model import Run, Shard, ShardRow


class Verifier:
    """Checks one run. ``output`` is None while it is not known where its answers go."""

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
        rows = await self._manifest.rows(self._run.id)
        shards = {(row.shard, row.generation): await self._manifest.shard(row) for row in rows}
        self.shards = len(shards)
        await self._look_at_rows(rows, shards)
        await self._look_at_cut([shard for shard in shards.values() if not shard.generation])
        for row in rows:
            if row.state in SPOOLED:
                shard = shards[row.shard, row.generation]
                path = self._spool.shard_path(shard.index, shard.generation)
                await self._hold(path, [Claim(f"shard {shard.index}", shard.bytes, shard.sha256)])
        await self._look_at_answers(latest(row for row in rows if row.tally))

    async def _look_at_rows(self, rows: list[ShardRow], shards: dict[tuple[int, int], Shard]) -> None:
        entries = sorted(await self._manifest.history(self._run.id), key=lambda e: (e.shard, e.generation))
        histories = {place: list(some) for place, some in groupby(entries, lambda e: (e.shard, e.generation))}
        lines = covered(shards.values())
        for row in rows:
            place = (row.shard, row.generation)
            flaws = [
                *invariants.job_flaws(self._run.token, row, shards[place], histories.get(place, [])),
                *invariants.tally_flaws(row, lines[place]),
                *invariants.history_flaws(row, histories.get(place, [])),
            ]
            self._find(f"shard {row.shard}" + (f", generation {row.generation}" if row.generation else ""), flaws)

    async def _look_at_cut(self, shards: list[Shard]) -> None:
        cursor = await self._manifest.cursor(self._run.id)
        if any(shard.lines for shard in shards):
            self._find(f"run {self._run.id}", invariants.cut_flaws(shards, cursor))
        if cursor.rejects_bytes:
            rejects = await self._spool.results.head(self._spool.rejects) or 0
            if rejects < cursor.rejects_bytes:
                listed = self._spool.results.locate(self._spool.rejects)
                self._find(listed, [f"has {rejects} bytes of at least {cursor.rejects_bytes}"])

    async def _look_at_answers(self, landed: list[ShardRow]) -> None:
        """``landed`` hold what became of each shard, as far as it has landed."""
        published = await self._manifest.published(self._run.id) is not None
        output = self._output
        if published and output is not None and not output.parts:
            claims = [_claim(row) for row in landed]
            for run in (await published_runs(self._manifest, self._run, output))[1:]:
                claims += [_claim(row) for row in latest(await self._manifest.rows(run.id))]
            await self._hold(output.path, claims)
            return
        for row in landed:
            name = self._spool.answers(row)
            path = self._spool.results.path(name)
            if output is not None and output.parts and await self._spool.results.head(name) is None:
                path = output.sink.path(output.part(row))
            await self._hold(path, [_claim(row)])

    async def _hold(self, path: Path, claims: list[Claim]) -> None:
        """The file is these parts, one after the other."""
        self.files += 1
        if self._read:
            self.bytes += sum(claim.bytes for claim in claims)
        self._find(str(path), await in_thread(differences, path, claims, self._read))

    def _find(self, where: str, flaws: Iterable[str]) -> None:
        self.findings += [Finding(where=where, what=flaw) for flaw in flaws]


def _claim(row: ShardRow) -> Claim:
    assert row.tally is not None
    return Claim(f"shard {row.shard}", row.tally.bytes, row.tally.sha256, row.tally.answered)


async def verify(
    state: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None, read_data: bool = False
) -> Verification:
    """Compare a state directory, and what was published from it, with its manifest. Nothing is changed.

    It looks at rows, names and sizes; with ``read_data`` at every byte of shards, results and answers. ``out`` is where
    the answers go, by default STATE without its ``.packtrain``.

    Raises NoRun when there is no manifest, OutputUnknown when nothing says where its answers are, InUse when another
    process holds it, ManifestError when it is too damaged to be read.
    """
    spool, findings = Spool(Path(state)), list[Finding]()
    if not await in_thread(spool.manifest.exists):
        raise NoRun(f"{spool.manifest} is not there", state=spool.root)

    async with inspect_sqlite(spool.manifest) as (manifest, flaws):
        findings += [Finding(where=str(spool.manifest), what=flaw) for flaw in flaws]
        runs = await manifest.runs()
        findings += await in_thread(_look_at_directory, spool, runs)
        verifiers = [
            Verifier(manifest, run, spool.run(run.token), await _output(manifest, run, spool, out), read=read_data)
            for run in runs
        ]
        for verifier in verifiers:
            try:
                await verifier.verify()
            except ManifestDamaged:
                if not flaws:  # otherwise it has been found already
                    raise
    return Verification(
        findings=findings + [finding for verifier in verifiers for finding in verifier.findings],
        runs=len(runs),
        shards=sum(verifier.shards for verifier in verifiers),
        files=sum(verifier.files for verifier in verifiers),
        bytes_read=sum(verifier.bytes for verifier in verifiers),
    )


async def _output(manifest: Manifest, run: Run, spool: Spool, out: str | os.PathLike[str] | None) -> Output | None:
    if (await chain(manifest, run))[0].id != run.id:
        return output_of(spool, run)
    out = out or answers_of(spool.root)
    if out is None and await manifest.published(run.id):
        raise OutputUnknown(f"{spool.root}: its name does not say where its answers are")
    return None if out is None else await output_at(out)


def _look_at_directory(spool: Spool, runs: list[Run]) -> list[Finding]:
    noted = {token.run for token in read_tokens(spool.manifest)}
    lost = [run.token for run in runs if run.token not in noted]
    found = [Finding(where=str(tokens_of(spool.manifest)), what=f"does not name run {token}") for token in lost]
    open_to_others = filter(_is_open, sorted([spool.root, *spool.root.rglob("*")]))
    return found + [Finding(where=str(path), what="can be read or written by others") for path in open_to_others]


def _is_open(path: Path) -> bool:
    """A file in a directory that only its owner enters is closed whatever its own mode, but not once moved."""
    return not path.is_symlink() and bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
