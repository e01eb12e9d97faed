"""``verify``: whether a state directory holds what its manifest says."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from ._errors import InputError
from ._flow.output import output_at
from ._flow.verify import Verifier
from ._io.spool import Spool
from ._manifest.admission import doubt
from ._manifest.sqlite import open_sqlite
from ._manifest.witness import read_tokens, tokens_of
from ._places import answers_of
from ._reports import Finding, Verification

if TYPE_CHECKING:
    import os
    from sqlite3 import Connection

    from ._flow.output import Output
    from ._manifest.base import Manifest
    from ._manifest.identity import Identity
    from ._model import Run


async def verify(
    state: str | os.PathLike[str], *, out: str | os.PathLike[str] | None = None, read_data: bool = False
) -> Verification:
    """Hold a state directory, and what was published from it, against its manifest. Nothing of them is changed.

    It looks at rows, names and sizes; with ``read_data`` at every byte of shards, results and answers. ``out`` is where
    the answers go, by default STATE without its ``.packtrain``.

    Raises InputError when there is no manifest, or no telling where its answers are; ManifestError when another process
    holds it, or when it is too damaged to be read.
    """
    spool, findings = Spool(Path(state)), list[Finding]()
    if not await anyio.to_thread.run_sync(spool.manifest.exists):
        raise InputError(f"{spool.manifest} is not there; name the state directory of a run")

    def examine(path: Path, now: Identity, connection: Connection) -> None:
        findings.extend(Finding(where=str(path), what=what) for what in _flaws(path, now, connection))

    async with open_sqlite(spool.manifest, admission=examine) as manifest:
        runs = await manifest.runs()
        findings += await anyio.to_thread.run_sync(_look_at_directory, spool, runs)
        verifiers = [
            Verifier(manifest, run, spool.run(run.token), await _output(manifest, run, spool, out), read=read_data)
            for run in runs
        ]
        for verifier in verifiers:
            await verifier.verify()
    return Verification(
        findings=findings + [finding for verifier in verifiers for finding in verifier.findings],
        runs=len(runs),
        shards=sum(verifier.shards for verifier in verifiers),
        files=sum(verifier.files for verifier in verifiers),
        bytes_read=sum(verifier.bytes for verifier in verifiers),
    )


async def _output(manifest: Manifest, run: Run, spool: Spool, out: str | os.PathLike[str] | None) -> Output | None:
    out = out or answers_of(spool.root)
    if out is None and await manifest.published(run.id):
        raise InputError(f"{spool.root} does not tell where its answers are; name them with --out")
    return None if out is None else await output_at(out)


def _flaws(path: Path, now: Identity, connection: Connection) -> list[str]:
    """Of the database itself, and of its being the one that it was."""
    verdicts = [row[0] for row in connection.execute("PRAGMA integrity_check(100)")]
    flaws = [] if verdicts == ["ok"] else verdicts
    flaws += [f"a row of {table} belongs to none of {parent}" for table, _, parent, _ in _strays(connection)]
    reason = doubt(path, now, connection)
    return flaws + ([reason] if reason else [])


def _strays(connection: Connection) -> list[tuple[str, int, str, int]]:
    return connection.execute("PRAGMA foreign_key_check").fetchall()


def _look_at_directory(spool: Spool, runs: list[Run]) -> list[Finding]:
    noted = {token.run for token in read_tokens(spool.manifest)}
    lost = [run.token for run in runs if run.token not in noted]
    found = [Finding(where=str(tokens_of(spool.manifest)), what=f"does not name run {token}") for token in lost]
    open_to_others = filter(_is_open, sorted([spool.root, *spool.root.rglob("*")]))
    return found + [Finding(where=str(path), what="can be read or written by others") for path in open_to_others]


def _is_open(path: Path) -> bool:
    """What stands in a directory of its owner's alone is closed whatever its own mode says, but not once moved."""
    return not path.is_symlink() and bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
