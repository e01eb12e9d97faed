"""A run as a value before it starts, and as a summary after it ended; both without a network."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from ._flow.merge import Output, check_published
from ._io.spool import Spool
from ._manifest.sqlite import open_sqlite
from ._model import Limits, Run, Task
from ._options import Options
from ._reports import Summary
from ._rules import naming
from ._service import GEMINI_LIMITS, Local, Service

if TYPE_CHECKING:
    from ._manifest.base import Manifest
    from ._model import Statistics

MAIN = "main"


async def finished(
    state: str | os.PathLike[str],
    *,
    service: Service | Local,
    model: str,
    out: str | os.PathLike[str],
    task: Task = "generate",
    run_id: str = MAIN,
    join: bool = False,
    options: Options | None = None,
) -> Summary | None:
    """The summary of a run that is complete and published; None when there is work left. Opens no connection.

    Raises ManifestError as ``Client.run`` does: for a state of another run, or one that another process holds, and
    when the output is no longer there as it was published.
    """
    began = time.monotonic()
    spool = Spool(Path(state))
    if not await anyio.to_thread.run_sync(spool.manifest.exists):
        return None
    async with open_sqlite(spool.manifest) as manifest:
        if await manifest.find_run(run_id) is None:
            return None
        run = await manifest.open_run(describe(run_id, model, task, join, service, options or Options()))
        return await conclude(manifest, run, output_at(out), began)


async def conclude(manifest: Manifest, run: Run, output: Output, began: float) -> Summary | None:
    """The summary if the run is published, with its output in place; ``began`` by the monotonic clock."""
    statistics = await manifest.statistics(run.id)
    if not statistics.merged:
        return None
    await check_published(output, statistics.tally.bytes)
    return summarise(run, statistics, began)


def describe(run_id: str, model: str, task: Task, join: bool, service: Service | Local, options: Options) -> Run:
    """The run as it would begin; its fingerprint covers what must not change between two starts."""
    limits = _tightened(GEMINI_LIMITS if isinstance(service, Local) else service.limits, options)
    facts = msgspec.json.encode([model, task, join, limits.shard_bytes, limits.shard_requests])
    return Run(
        id=run_id,
        token=naming.token_from(secrets.token_bytes(16)),
        fingerprint=hashlib.sha256(facts).hexdigest(),
        model=model,
        task=task,
        limits=limits,
        join=join,
    )


def output_at(out: str | os.PathLike[str]) -> Output:
    """A file, or with a slash at its end a directory of parts."""
    return Output(Path(out), parts=os.fspath(out).endswith(os.sep))


def summarise(run: Run, statistics: Statistics, began: float) -> Summary:
    cursor, tally = statistics.cursor, statistics.tally
    return Summary(
        run=run.token,
        complete=statistics.merged,
        lines=cursor.lines,
        valid=cursor.valid,
        answered=tally.answered,
        failed=tally.failed,
        rejected=cursor.rejected,
        shards=statistics.shards,
        jobs_created=statistics.jobs_created,
        duplicates_healed=statistics.duplicates_healed,
        bytes_in=cursor.bytes,
        bytes_uploaded=statistics.uploaded_bytes,
        seconds=round(time.monotonic() - began, 3),
    )


def _tightened(service: Limits, options: Options) -> Limits:
    """The service's limits, or the caller's where these are lower."""
    return msgspec.structs.replace(
        service,
        shard_bytes=min(options.shard_bytes or service.shard_bytes, service.shard_bytes),
        shard_requests=options.shard_requests or service.shard_requests,
        shard_age=options.shard_age,
    )
