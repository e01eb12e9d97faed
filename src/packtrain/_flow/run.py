"""A run and the parts that it works with."""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, get_args

import anyio
import msgspec

from .._errors import InputError, InputUnfinished, OutputUnknown, UnknownRun
from .._io.inputs import compare_inputs as compare_named
from .._manifest.base import Change, Child
from .._model import Limits, Run, Task
from .._options import Policy
from .._providers.service import Service
from .._rules import naming
from .._rules.lifecycle import CreateDeferred, JobNeverStarted, detail
from .._rules.submission import Sightings
from .._text import encodable
from .._validation import check_model
from .remote_names import translated

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

    from .._io.clock import Clock
    from .._io.inputs import Inputs
    from .._io.output import Output
    from .._io.spool import RunSpool, Spool
    from .._manifest.base import Manifest
    from .._model import DuplicateJob, Shard, ShardRow, Statistics
    from .._options import Options
    from .._providers.base import Provider
    from .._providers.service import Local, Service
    from .._rules.lifecycle import Event
    from .shares import Shares


class Changes:
    """Wakes waiting tasks whenever the manifest may have changed."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    def mark(self) -> anyio.Event:
        """An event that the next notification sets. Take it before reading the manifest, and none is missed."""
        return self._event


class Meter:
    """Counts of this process, for people to look at; nothing is decided by them."""

    def __init__(self) -> None:
        self.bytes_total: int | None = None
        #: The manifest's, as last read.
        self.statistics: Statistics | None = None
        self.bytes_read = 0
        self.bytes_sent = 0
        self.lines = 0
        self.valid = 0
        self.rejected = 0
        #: Why the status file could not be written the last time.
        self.status_error = ""

    def sent(self, count: int) -> None:
        self.bytes_sent += count


log = logging.getLogger("packtrain")


@dataclass(frozen=True, kw_only=True)
class ClientContext:
    """What all runs of one client share."""

    spool: Spool
    manifest: Manifest
    provider: Provider
    clock: Clock
    service: Service
    #: Where the service is for good: its origin, or the directory of a local one, whose port changes.
    place: str = ""
    options: Options
    policy: Policy = field(default_factory=Policy)
    meter: Meter = field(default_factory=lambda: Meter())
    changes: Changes = field(default_factory=lambda: Changes())
    stopped: anyio.Event = field(default_factory=anyio.Event)
    shares: Shares
    #: Runs whose input is being read.
    reading: set[str] = field(default_factory=set)
    #: Tokens of the runs that this client began.
    begun: set[str] = field(default_factory=set)

    async def begin(self, run: Run) -> RunContext:
        """Open the run, new or stored. Raises ManifestError when another run has its id."""
        opened = await self.manifest.open_run(run)
        if opened.token == run.token:
            self.begun.add(run.token)
        ctx = await self.resume(opened)
        self.changes.notify()
        return ctx

    async def resume(self, run: Run) -> RunContext:
        """The context of a stored run, with its directories made."""
        ctx = self.context(run)
        await ctx.files.prepare()
        return ctx

    def context(self, run: Run) -> RunContext:
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        parts["provider"] = translated(self.provider, self.manifest, run)
        return RunContext(run=run, files=self.spool.run(run.token), **parts)

    def stop(self) -> None:
        """Stop permanently after calls in flight have finished."""
        self.stopped.set()
        self.changes.notify()


@dataclass(frozen=True, kw_only=True)
class RunContext(ClientContext):
    """One run, and everything that it works with."""

    run: Run
    #: Its own files in the spool.
    files: RunSpool
    sightings: Sightings = field(default_factory=Sightings)

    @property
    def resumed(self) -> bool:
        """The run existed before this process, so an older manifest may have been restored meanwhile."""
        return self.run.token not in self.begun

    def service_now(self) -> float:
        """Unix seconds by the service's clock, or by ours until an answer has given its time."""
        now = self.provider.now()
        return self.clock.now() if now is None else now

    async def record(
        self,
        row: ShardRow,
        event: Event,
        child: Shard | None = None,
        *events: Event,
        duplicate_jobs: Sequence[DuplicateJob] = (),
    ) -> ShardRow:
        """Record the event, log it, and notify waiters. Everything that happens to a row is written here.

        ``events`` have happened to ``child`` already. A ``due`` of the event is kept as a wait from now on, because the
        manifest goes by its own clock.
        """
        due = event.due if isinstance(event, CreateDeferred | JobNeverStarted) else None
        change = Change(
            row,
            event,
            children=() if child is None else (Child(child, events),),
            duplicate_jobs=tuple(duplicate_jobs),
            wait=None if due is None else max(0.0, due - self.clock.now()),
        )
        after, name = await self.manifest.write(change), change.name
        log.info(
            "shard %d: %s -> %s %s", row.shard, name, after.state, detail(event), extra={"action": name, "run": row.run}
        )
        self.changes.notify()
        return after

    async def release(self, row: ShardRow, due: float | None = None) -> None:
        """Give a claimed row back, as any of its versions since the claim; not to be claimed before ``due``."""
        wait = None if due is None or due <= self.clock.now() else due - self.clock.now()
        await self.manifest.write(Change(row, release=True, wait=wait))


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
        raise InputError(f"there is no task {task!r}; tasks are {', '.join(get_args(Task))}")
    limits = _tightened(service.limits, options)
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

    Raises UnknownRun when there is none, OutputUnknown for another kind of output, InputUnfinished when it still
    needs its input.
    """
    run = await manifest.find_run(run_id)
    if run is None:
        raise UnknownRun(f"there is no run {run_id!r} here", run=run_id)
    if _fingerprint(run.model, run.task, run.join, output.parts, run.limits) != run.fingerprint:
        raise OutputUnknown(f"{output.path}: the answers of this run went to another kind of output")
    if not (await manifest.cursor(run_id)).done:
        raise InputUnfinished(f"run {run_id!r}: its input was not read to its end", run=run_id)
    return run


async def compare_inputs(manifest: Manifest, run: Run, inputs: Inputs, own: Container[Path]) -> None:
    """Raises InputError when files that a run was cut from are others now, and for those that it was not cut from.
    Files that are gone are not missed; a stream can't be compared, and is not read again, which is logged. ``own`` is
    what the run makes itself."""
    cursor = await manifest.cursor(run.id)
    if not cursor.done:
        return
    stored = await manifest.keep_sources(run.id, [])
    if streams := await compare_named(inputs, stored, own, flat=not cursor.recursive):
        log.warning(
            "the run has read its input to the end, so %s is not read again, and not compared with what it was; for "
            "other lines choose another --out",
            "standard input" if streams[0] == "-" else encodable(streams[0]),
            extra={"action": "Stream", "run": run.id},
        )


def _tightened(service: Limits, options: Options) -> Limits:
    """The service's limits, or the caller's where these are lower."""
    requests = [limit for limit in (options.shard_requests, service.shard_requests) if limit is not None]
    return msgspec.structs.replace(
        service,
        shard_bytes=min(options.shard_bytes or service.shard_bytes, service.shard_bytes),
        shard_requests=min(requests, default=None),
        shard_age=options.shard_age,
    )
