"""``adopt``: a manifest that cannot be trusted goes on, because a person says so."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from ._errors import InputError, ManifestError
from ._io.spool import Spool
from ._manifest import operations
from ._manifest.admission import take_over
from ._manifest.database import open_database
from ._model import State
from ._reports import Adoption
from ._rules.lifecycle import SPOOLED

if TYPE_CHECKING:
    import os
    from sqlite3 import Connection

    from ._manifest.identity import Identity


async def adopt(state: str | os.PathLike[str]) -> Adoption:
    """Take a manifest over that was copied, moved or put back, or that is driven with another key from now on.

    To be called when no other copy of it is at work, nor will be. Every shard of which no job is known counts as in
    doubt afterwards: it is looked for at the service before anything of it is sent.

    Raises InputError when there is no manifest, ManifestError when it is damaged or in use, or when files that it
    needs are gone.
    """
    return await anyio.to_thread.run_sync(_adopt, Spool(Path(state)))


def _adopt(spool: Spool) -> Adoption:
    if not spool.manifest.exists():
        raise InputError(f"{spool.manifest} is not there; name the state directory of a run")
    with open_database(spool.manifest, partial(_take_over, spool)) as connection:
        runs = operations.runs(connection)
        doubted = [job for run in runs for job in operations.jobs(run.id, {State.RECONCILING}, connection)]
        return Adoption(instance=operations.instance(connection), doubted=len(doubted))


def _take_over(spool: Spool, path: Path, now: Identity, connection: Connection) -> None:
    """An older manifest may want files that the later one has done with."""
    for run in operations.runs(connection):
        for job in operations.jobs(run.id, SPOOLED, connection):
            shard = spool.run(run.token).shard(job.shard, job.generation)
            if not shard.exists():
                raise ManifestError(
                    f"{shard} is gone, so this manifest cannot go on: move {spool.manifest}, and its -wal if there is "
                    f"one, aside, then let `packtrain recover INPUT... --run {run.token} --model {run.model} "
                    "--out OUT` make it anew"
                )
    take_over(path, now, connection)
