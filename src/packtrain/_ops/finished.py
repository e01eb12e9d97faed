"""``finished``: the summary of a complete run, without a network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from .._flow.publisher import conclude
from .._flow.run import MAIN, compare_inputs, describe
from .._io.output import output_at, own_files
from .._io.requests import pending_requests
from .._io.spool import Spool
from .._io.threads import in_thread
from .._manifest.sqlite import open_sqlite
from .._options import Options
from .._providers.service import Local

if TYPE_CHECKING:
    import os

    from .._io.inputs import Inputs
    from .._model import Task
    from .._providers.service import Service
    from .._snapshots import Summary


async def finished(
    state: str | os.PathLike[str],
    *,
    service: Service | Local,
    model: str,
    out: str | os.PathLike[str],
    task: Task = "generate",
    inputs: Inputs = (),
    run_id: str = MAIN,
    join: bool = False,
    options: Options | None = None,
) -> Summary | None:
    """The summary of a run that is complete and published. None when there is work left, which may be no more than a
    duplicate job that is not cancelled yet, or a request. Opens no connection.

    With ``inputs`` it also checks that a complete run was cut from these files, as they are, or raises InputError.

    Raises ManifestError as ``Client.run`` does: for a state of another run, or one that another process holds, and
    when the output is no longer there as it was published.
    """
    began, output = time.monotonic(), await output_at(out)
    spool = Spool(Path(state))
    if not await in_thread(spool.manifest.exists):
        return None
    async with open_sqlite(spool.manifest) as manifest:
        if await manifest.find_run(run_id) is None:
            return None
        run = describe(run_id, model, task, join, output.parts, service, options or Options())
        run = await manifest.open_run(run)
        statistics = await manifest.statistics(run.id)
        if statistics.duplicates_live or not statistics.merged:
            return None
        if await in_thread(pending_requests, spool.root):
            return None
        await compare_inputs(manifest, run, inputs, await own_files(spool, output))
        summary = await conclude(manifest, spool.run(run.token), run, output, began)
        if isinstance(service, Local) and service.directory is None and len(await manifest.runs()) == 1:
            await spool.discard_service()  # which a kill may have left
        return summary
