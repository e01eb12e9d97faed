"""A run as a value before it starts, and as a summary after it ended; both without a network."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import anyio.to_thread
import msgspec

from ._errors import IncompleteRun, InputError, ManifestError
from ._flow.context import log
from ._flow.merge import Output, check_published
from ._io.inputs import compare_inputs as compare_named
from ._io.inputs import named_files
from ._io.spool import Spool
from ._manifest.sqlite import open_sqlite
from ._model import Limits, Run, Task
from ._options import Options
from ._reports import Summary
from ._rules import naming
from ._service import GEMINI_LIMITS, Local, Service

if TYPE_CHECKING:
    from ._io.inputs import Inputs
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
    inputs: Inputs = (),
    run_id: str = MAIN,
    join: bool = False,
    options: Options | None = None,
) -> Summary | None:
    """The summary of a run that is complete and published; None when there is work left, and be it no more than a job
    too many that has not been cancelled yet. Opens no connection.

    With ``inputs`` it also makes sure that a complete run was cut from these files, as they are, or raises InputError.

    Raises ManifestError as ``Client.run`` does: for a state of another run, or one that another process holds, and
    when the output is no longer there as it was published.
    """
    began, output = time.monotonic(), await output_at(out)
    spool = Spool(Path(state))
    if not await anyio.to_thread.run_sync(spool.manifest.exists):
        return None
    async with open_sqlite(spool.manifest) as manifest:
        if await manifest.find_run(run_id) is None:
            return None
        run = describe(run_id, model, task, join, output.parts, service, options or Options())
        run = await manifest.open_run(run)
        statistics = await manifest.statistics(run.id)
        if statistics.duplicates_live or not statistics.merged:
            return None
        await compare_inputs(manifest, run, inputs)
        return await conclude(manifest, spool, run, output, began)


async def conclude(manifest: Manifest, spool: Spool, run: Run, output: Output, began: float) -> Summary | None:
    """The summary if the run is published, with its output in place; ``began`` by the monotonic clock."""
    statistics = await manifest.statistics(run.id)
    if not statistics.merged:
        return None
    await check_published(output, statistics.tally.bytes)
    await anyio.to_thread.run_sync(spool.run(run.token).discard_results)
    return summarise(run, statistics, began)


def describe(
    run_id: str, model: str, task: Task, join: bool, parts: bool, service: Service | Local, options: Options
) -> Run:
    """The run as it would begin; its fingerprint covers what must not change between two starts.

    Raises InputError for a task that there is not.
    """
    if task not in get_args(Task):
        raise InputError(f"there is no task {task!r}; give one of {', '.join(get_args(Task))}")
    limits = _tightened(GEMINI_LIMITS if isinstance(service, Local) else service.limits, options)
    return Run(
        id=run_id,
        token=naming.token_from(secrets.token_bytes(16)),
        fingerprint=fingerprint(model, task, join, parts, limits),
        model=model,
        task=task,
        limits=limits,
        join=join,
    )


def fingerprint(model: str, task: Task, join: bool, parts: bool, limits: Limits) -> str:
    facts = msgspec.json.encode([model, task, join, parts, limits.shard_bytes, limits.shard_requests])
    return hashlib.sha256(facts).hexdigest()


async def output_at(out: str | os.PathLike[str]) -> Output:
    """A file, or a directory of parts: one that exists, or a name with a slash at its end."""
    path = Path(out)
    parts = os.fspath(out).endswith(os.sep) or await anyio.to_thread.run_sync(path.is_dir)
    return Output(path, parts=parts)


async def prepare_output(manifest: Manifest, run: Run, output: Output, inputs: Inputs, rejects: Path) -> None:
    """Raises InputError when publishing at the end would fail, or destroy something."""
    await anyio.to_thread.run_sync(output.prepare, await named_files(inputs))
    if not (await manifest.cursor(run.id)).shards:
        # A start that came as far as the input may have left a list of bad lines beside the output.
        lists = not await anyio.to_thread.run_sync(rejects.exists)
        await anyio.to_thread.run_sync(partial(output.refuse_taken, lists=lists))


async def find_unfinished(manifest: Manifest, run_id: str, output: Output) -> Run:
    """The run whose input was read to its end into this kind of output; nothing else is known of its inputs here.

    Raises ManifestError when there is none, InputError for another kind of output, IncompleteRun when it still needs
    its input.
    """
    run = await manifest.find_run(run_id)
    if run is None:
        raise ManifestError(f"there is no run {run_id!r} here; start it first")
    if fingerprint(run.model, run.task, run.join, output.parts, run.limits) != run.fingerprint:
        raise InputError(f"{output.path}: the answers of this run went elsewhere; give its --out as it was")
    if not (await manifest.cursor(run_id)).done:
        raise IncompleteRun("the input was not read to its end; start the run itself again")
    return run


async def compare_inputs(manifest: Manifest, run: Run, inputs: Inputs) -> None:
    """Raises InputError when files that a run was cut from are others now, and for those that it was not cut from.
    Files that are gone are not missed; a stream can't be compared, and is not read again, which is told."""
    if not (await manifest.cursor(run.id)).done:
        return
    if streams := await compare_named(inputs, await manifest.mark_sources(run.id, [])):
        log.warning(
            "the run has read its input to the end, so %s is not read again, and not compared with what it was; for "
            "other lines choose another --out",
            "standard input" if streams[0] == "-" else streams[0],
            extra={"action": "Stream", "run": run.id},
        )


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
        shards=cursor.shards,
        jobs_created=statistics.jobs_created,
        duplicates_healed=statistics.duplicates_healed,
        duplicates_live=statistics.duplicates_live,
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
