"""``adopt``: a manifest that cannot be trusted goes on, because a person says so."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import ManifestGone, NoRun
from .._io.spool import Spool
from .._io.threads import in_thread
from .._manifest.sqlite import adopt_sqlite
from .._snapshots import Adoption

if TYPE_CHECKING:
    import os

    from .._model import Run, ShardRow


async def adopt(state: str | os.PathLike[str]) -> Adoption:
    """Take a manifest over that was copied, moved or put back, or that is driven with another key from now on.

    To be called when no other copy of it is at work, nor will be. Every shard of which no job is known counts as in
    doubt afterwards: it is looked for at the service before anything of it is sent.

    Raises InputError when there is no manifest, ManifestError when it is damaged or in use, or when files that it
    needs are gone.
    """
    return await in_thread(_adopt, Spool(Path(state)))


def _adopt(spool: Spool) -> Adoption:
    if not spool.manifest.exists():
        raise NoRun(f"{spool.manifest} is not there", state=spool.root)
    instance, ambiguous = adopt_sqlite(spool.manifest, partial(_require_files, spool))
    return Adoption(instance=instance, ambiguous=ambiguous)


def _require_files(spool: Spool, run: Run, rows: list[ShardRow]) -> None:
    """Raises ManifestGone where an older manifest needs a file that the later one has let go."""
    for row in rows:
        shard = spool.run(run.token).shard_path(row.shard, row.generation)
        if not shard.exists():
            raise ManifestGone(
                f"{shard} is gone, so this manifest cannot go on", path=spool.manifest, runs=[(run.token, run.model)]
            )
