"""The terms of a run: what it is started with, and what must not change from one start to the next."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, get_args

import msgspec

from .._errors import IncompleteRun, InputError, ManifestError
from .._io.inputs import compare_inputs as compare_named
from .._model import Limits, Run, Task
from .._names import check_model
from .._rules import naming
from .._service import GEMINI_LIMITS, Local, Service
from .context import log

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from .._io.inputs import Inputs
    from .._manifest.base import Manifest
    from .._options import Options
    from .output import Output

#: The run of a state directory that holds but one.
MAIN = "main"


def describe(
    run_id: str, model: str, task: Task, join: bool, parts: bool, service: Service | Local, options: Options
) -> Run:
    """The run as it would begin; its fingerprint covers what must not change between two starts.

    Raises InputError for a task that there is not, and for what can be no model.
    """
    check_model(model)
    if task not in get_args(Task):
        raise InputError(f"there is no task {task!r}; give one of {', '.join(get_args(Task))}")
    limits = _tightened(GEMINI_LIMITS if isinstance(service, Local) else service.limits, options)
    return Run(
        id=run_id,
        token=naming.token_from(secrets.token_bytes(16)),
        fingerprint=_fingerprint(model, task, join, parts, limits),
        model=model,
        task=task,
        limits=limits,
        join=join,
    )


def _fingerprint(model: str, task: Task, join: bool, parts: bool, limits: Limits) -> str:
    facts = msgspec.json.encode([model, task, join, parts, limits.shard_bytes, limits.shard_requests])
    return hashlib.sha256(facts).hexdigest()


async def find_ingested(manifest: Manifest, run_id: str, output: Output) -> Run:
    """The run, whose input was read to its end, and whose output is of this kind.

    Raises ManifestError when there is none, InputError for another kind of output, IncompleteRun when it still needs
    its input.
    """
    run = await manifest.find_run(run_id)
    if run is None:
        raise ManifestError(f"there is no run {run_id!r} here; start it first")
    if _fingerprint(run.model, run.task, run.join, output.parts, run.limits) != run.fingerprint:
        raise InputError(f"{output.path}: the answers of this run went elsewhere; give its --out as it was")
    if not (await manifest.cursor(run_id)).done:
        raise IncompleteRun("the input was not read to its end; start the run itself again")
    return run


async def compare_inputs(manifest: Manifest, run: Run, inputs: Inputs, own: Container[Path]) -> None:
    """Raises InputError when files that a run was cut from are others now, and for those that it was not cut from.
    Files that are gone are not missed; a stream can't be compared, and is not read again, which is told. ``own`` is
    what the run makes itself."""
    if not (await manifest.cursor(run.id)).done:
        return
    if streams := await compare_named(inputs, await manifest.mark_sources(run.id, []), own):
        log.warning(
            "the run has read its input to the end, so %s is not read again, and not compared with what it was; for "
            "other lines choose another --out",
            "standard input" if streams[0] == "-" else streams[0],
            extra={"action": "Stream", "run": run.id},
        )


def _tightened(service: Limits, options: Options) -> Limits:
    """The service's limits, or the caller's where these are lower."""
    return msgspec.structs.replace(
        service,
        shard_bytes=min(options.shard_bytes or service.shard_bytes, service.shard_bytes),
        shard_requests=options.shard_requests or service.shard_requests,
        shard_age=options.shard_age,
    )
