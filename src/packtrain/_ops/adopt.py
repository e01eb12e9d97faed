"""``adopt``: take over a manifest that was copied, moved or put back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from .._errors import ManifestGone, NoRun
from .._io.spool import Spool
from .._manifest import queries
from .._manifest.database import open_database
from .._manifest.guard import take_over
from .._model import State
from .._rules.lifecycle import SPOOLED
from .._snapshots import Adoption

if TYPE_CHECKING:
    import os
    from sqlite3 import Connection

    from .._manifest.identity import Identity


async def adopt(state: str | os.PathLike[str]) -> Adoption:
    """Take a manifest over that was copied, moved or put back, or that is driven with another key from now on.

    To be called when no other copy of it is at work, nor will be. Every shard of which no job is known counts as in
    doubt afterwards: it is looked for at the service before anything of it is sent.

    Raises NoRun when there is no manifest, ManifestError when it is damaged or in use, or when files that it needs are
    gone.
    """
    return await anyio.to_thread.run_sync(_adopt, Spool(Path(state)))


def _adopt(spool: Spool) -> Adoption:
    if not spool.manifest.exists():
        raise NoRun(f"{spool.manifest} is not there", state=spool.root)
    with open_database(spool.manifest, partial(_take_over, spool)) as connection:
        runs = queries.runs(connection)
        doubted = [row for run in runs for row in queries.rows(run.id, {State.RECONCILING}, connection)]
        return Adoption(instance=queries.instance(connection), ambiguous=len(doubted))


def _take_over(spool: Spool, path: Path, now: Identity, connection: Connection) -> None:
    """An older manifest may want files that the later one has done with."""
    for run in queries.runs(connection):
        for row in queries.rows(run.id, SPOOLED, connection):
            shard = spool.run(run.token).shard(row.shard, row.generation)
            if not shard.exists():
                raise ManifestGone(
                    f"{shard} is gone, so this manifest cannot go on",
                    path=spool.manifest,
                    runs=[(run.token, run.model)],
                )
    take_over(path, now, connection)
