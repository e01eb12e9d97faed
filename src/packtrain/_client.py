"""The composition root: state directory, manifest, transport and service put together into a client."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from ._errors import IncompleteRun, InputError
from ._flow.account import check_account
from ._flow.context import Context
from ._flow.drive import Driver
from ._flow.extras import heal_published, last_sweep, sweep
from ._flow.groups import plain_errors
from ._flow.ingest import Ingest
from ._flow.merge import Output, check_published, merge, publish_rejects
from ._flow.recovery import compare, find_jobs, suspect
from ._flow.reopen import reopen
from ._flow.report import Reporter
from ._flow.resolve import resolve
from ._flow.signals import Changes, Meter
from ._io.clock import SystemClock
from ._io.gemini import GeminiRemote
from ._io.inputs import named_files, open_sources
from ._io.results import read_results
from ._io.spool import Spool
from ._io.transport import open_transport
from ._manifest.sqlite import open_sqlite
from ._model import Result, Run, State, Statistics, Task
from ._options import Options
from ._reports import Recovery
from ._rules import quota
from ._rules.extras import plight
from ._rules.lifecycle import COLLECT, DOUBT, LIVE, SETTLED
from ._rules.lineage import latest
from ._runs import MAIN, compare_inputs, conclude, describe, find_unfinished, output_at, prepare_output, summarise
from ._service import Local, Service

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator

    from ._io.base import Clock, Remote
    from ._io.inputs import Inputs
    from ._manifest.base import Manifest
    from ._model import Decision, Job
    from ._reports import Progress, Summary

#: Polling and waiting for a service in this very process, in seconds.
_LOCAL_POLL, _LOCAL_SETTLE = (0.1, 1.0), 1.0


@asynccontextmanager
async def open_client(
    state: str | os.PathLike[str], *, service: Service | Local, options: Options | None = None
) -> AsyncIterator[Client]:
    """A client on the state directory ``state``, which it holds until the block ends.

    Raises ManifestError when another process holds the directory, and when it cannot be used.
    """
    spool = Spool(Path(state))
    async with open_client_on(spool, spool.manifest, service, options or Options()) as client:
        yield client


@asynccontextmanager
async def open_client_on(spool: Spool, path: Path, service: Service | Local, options: Options) -> AsyncIterator[Client]:
    """A client whose manifest is in ``path``."""
    meter, place = Meter(), None
    async with AsyncExitStack() as stack:
        manifest = await stack.enter_async_context(open_sqlite(path))
        await anyio.to_thread.run_sync(spool.clear)
        if isinstance(service, Local):
            directory = service.directory or spool.service
            place = str(await anyio.Path(directory).resolve())
            service = await stack.enter_async_context(_local(directory))
        connections = options.uploads + options.downloads + 4
        transport = await stack.enter_async_context(open_transport(service, connections=connections))
        clock = SystemClock()
        remote = GeminiRemote(transport, clock, sent=meter.sent)
        yield Client(spool, manifest, remote, clock, service, options, meter, place)


@asynccontextmanager
async def _local(directory: Path) -> AsyncIterator[Service]:
    from .server import serving

    async with serving(directory) as origin:
        yield Service(origin=origin, poll=_LOCAL_POLL, settle=_LOCAL_SETTLE)


class Client:
    """Runs on one state directory. Made by ``open_client``.

    ``run`` does a whole job. Its parts stand alone for services that never end: ``submit`` takes input in,
    ``drive`` moves what was taken in, ``results`` gives the answers as they land.
    """

    def __init__(
        self,
        spool: Spool,
        manifest: Manifest,
        remote: Remote,
        clock: Clock,
        service: Service,
        options: Options,
        meter: Meter,
        place: str | None = None,
    ) -> None:
        self._spool = spool
        self._manifest = manifest
        self._remote = remote
        self._clock = clock
        self._service = service
        self._place = place or service.origin
        self._options = options
        self._meter = meter
        self._changes = Changes()
        self._stop = anyio.Event()
        self._reporter = Reporter(spool, manifest, meter)
        self._driving = False
        #: The tokens of runs that began here.
        self._begun: set[str] = set()

    async def run(
        self,
        inputs: Inputs,
        *,
        model: str,
        out: str | os.PathLike[str],
        task: Task = "generate",
        run_id: str = MAIN,
        join: bool = False,
        wait: bool = True,
    ) -> Summary:
        """Every line of ``inputs`` answered in ``out``, in input order; the same call again goes on, or does nothing.

        ``out`` is a file, or with a slash at its end a directory of parts. With ``wait`` false it returns once
        nothing more can be submitted. The summary is complete when ``out`` is published.

        Raises InputError for input that cannot be used, ApiError when the service refuses for good, ManifestError for
        a state of another run or one that was put back, and for a key or a service that does not show what was made
        before, IncompleteRun when a person must decide, TransportError after a long outage.
        """
        if self._driving:
            raise RuntimeError("this client drives already; use submit and results with drive, or run without it")
        await self._check_account()
        began, output = time.monotonic(), await output_at(out)
        ctx = self._context(await self._open(run_id, model, task, join, parts=output.parts))
        await compare_inputs(self._manifest, ctx.run, inputs)
        if await self._manifest.published(run_id):
            await heal_published(ctx, self._stop)
        else:
            await prepare_output(self._manifest, ctx.run, output, inputs, ctx.spool.rejects)
            await self._work(ctx, inputs, output, wait=wait)
            await self._publish(ctx, output)
        statistics = await self._reporter.refresh(run_id)
        return await conclude(self._manifest, self._spool, ctx.run, output, began) or summarise(
            ctx.run, statistics, began
        )

    async def retry(self, out: str | os.PathLike[str], *, run_id: str = MAIN, everything: bool = False) -> Summary:
        """The failed lines of a complete run asked once more, and ``out`` published anew with what they came to.

        Those are asked whose failure may pass; with ``everything`` all of them. Until its end ``out`` stays as it is.
        A retry, or a run, that was cut short is brought to its end first of all, and nothing is asked beyond that.

        Raises as ``run`` does, and ManifestError when ``out`` is no longer what was published.
        """
        if self._driving:
            raise RuntimeError("this client drives already; use another one for a retry")
        await self._check_account()
        began, output = time.monotonic(), await output_at(out)
        run = await find_unfinished(self._manifest, run_id, output)
        ctx = self._context(run)
        await anyio.to_thread.run_sync(ctx.spool.prepare)
        if await self._manifest.published(run_id):
            await check_published(output, (await self._manifest.statistics(run_id)).tally.bytes)
            await reopen(ctx, output, everything=everything)
        if await self._manifest.published(run_id):
            await heal_published(ctx, self._stop)
        else:
            await self._work(ctx, (), output, wait=True)
            await self._publish(ctx, output)
        statistics = await self._reporter.refresh(run_id)
        return await conclude(self._manifest, self._spool, run, output, began) or summarise(run, statistics, began)

    async def submit(
        self, inputs: Inputs, *, model: str, task: Task = "generate", run_id: str = MAIN, join: bool = False
    ) -> Run:
        """Take the input in, to its end: validated, cut into shards, sealed. ``drive`` sends them meanwhile.

        Raises as ``run`` does, and IncompleteRun when it was stopped before the end.
        """
        run = await self._open(run_id, model, task, join)
        await compare_inputs(self._manifest, run, inputs)
        with plain_errors():
            await self._ingest_until_stopped(run, inputs)
        if not (await self._manifest.cursor(run.id)).done:
            raise IncompleteRun("stopped before the end of the input; submit it again to go on")
        return run

    async def recover(
        self,
        inputs: Inputs,
        *,
        token: str,
        model: str,
        out: str | os.PathLike[str],
        task: Task = "generate",
        run_id: str = MAIN,
        join: bool = False,
    ) -> Recovery:
        """Take in anew the input of a run whose manifest is lost, as far as the spool has room; see ``recover``."""
        output = await output_at(out)
        run = describe(run_id, model, task, join, output.parts, self._service, self._options)
        run = msgspec.structs.replace(run, token=token, recovered=True)
        found = await find_jobs(self._context(run))
        await self._check_account()
        await anyio.to_thread.run_sync(output.prepare, await named_files(inputs))
        # Lists beside it may be those of this run.
        await anyio.to_thread.run_sync(partial(output.refuse_taken, lists=False))
        run = await self._manifest.open_run(run)
        await anyio.to_thread.run_sync(self._spool.run(token).prepare)
        with plain_errors():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._stop_when_full, run)
                await self._ingest_until_stopped(run, inputs)
                tasks.cancel_scope.cancel()
        with_job = await compare(self._context(run), found)
        await sweep(self._context(run), found)
        statistics = await self._manifest.statistics(run_id)
        return Recovery(
            run=token,
            jobs=len(found),
            shards=statistics.shards,
            with_job=with_job,
            whole=statistics.cursor.done,
        )

    async def drive(self) -> None:
        """Move the shards of all runs, also of those still to be submitted, until cancelled or stopped.

        Raises as ``run`` does.
        """
        await self._check_account()
        driven: set[str] = set()
        self._driving = True
        with plain_errors():
            async with anyio.create_task_group() as tasks:
                while not self._stop.is_set():
                    changed = self._changes.mark()
                    for run in await self._manifest.runs():
                        if run.id not in driven:
                            driven.add(run.id)
                            tasks.start_soon(Driver(self._context(run)).drive, _never, self._stop)
                    await changed.wait()

    async def resolve(self, shard: int, decision: Decision, *, batch: str | None = None, run_id: str = MAIN) -> Job:
        """Record a person's decision about a quarantined shard; ``run`` or ``drive`` acts on it from then on.

        ``adopt``: the job ``batch`` is the shard's; it is looked up at the service, and must be of the same content.
        ``retry``: one more attempt is made. ``drop``: all lines of the shard fail with the reason. With these two
        any job that the shard had is given up and cancelled. Returns the shard's row.

        Raises InputError for a shard that is not quarantined and for a job that cannot be the shard's.
        """
        run = await self._manifest.find_run(run_id)
        if run is None:
            known = ", ".join(run.id for run in await self._manifest.runs()) or "none"
            raise InputError(f"there is no run {run_id!r} here; runs that there are: {known}")
        job = await resolve(self._context(run), shard, decision, batch)
        await self._reporter.refresh(run_id)
        return job

    async def results(self, run: Run) -> AsyncIterator[Result]:
        """The answers of a run, shard by shard as they land, until all have; failed lines come with their error.

        To be read before ``run`` has merged them away.
        """
        given: set[int] = set()
        spool = self._spool.run(run.token)
        while True:
            changed = self._changes.mark()
            jobs = latest(await self._manifest.jobs(run.id))
            for job in jobs:
                if job.shard not in given and job.state in (State.LANDED, State.CLOSED):
                    given.add(job.shard)
                    async for result in read_results(spool.answers(job), spool.failed(job)):
                        yield result
            done = (await self._manifest.cursor(run.id)).done
            if done and all(job.shard in given or job.state is State.QUARANTINED for job in jobs):
                return
            await changed.wait()

    async def statistics(self, run_id: str = MAIN) -> Statistics:
        return await self._manifest.statistics(run_id)

    def progress(self) -> Progress:
        """What is known of the latest run right now; never waits."""
        return self._reporter.progress()

    def stop(self) -> None:
        """Let what is under way come to a stand; ``run`` and ``drive`` then return within seconds."""
        self._stop.set()
        self._changes.notify()

    async def _stop_when_full(self, run: Run) -> None:
        while True:
            changed = self._changes.mark()
            spooled = (await self._manifest.statistics(run.id)).spooled_bytes
            if not quota.may_open_shard(spooled, run.limits.shard_bytes, self._options.spool_bytes):
                self.stop()
            await changed.wait()

    async def _check_account(self) -> None:
        key, state = self._service.key, self._spool.root
        await check_account(self._manifest, self._remote, self._place, key, state)

    async def _open(self, run_id: str, model: str, task: Task, join: bool, *, parts: bool = False) -> Run:
        run = describe(run_id, model, task, join, parts, self._service, self._options)
        opened = await self._manifest.open_run(run)
        if opened.token == run.token:
            self._begun.add(run.token)
        await anyio.to_thread.run_sync(self._spool.run(opened.token).prepare)
        self._changes.notify()
        return opened

    def _context(self, run: Run) -> Context:
        return Context(
            run=run,
            service=self._service,
            options=self._options,
            spool=self._spool.run(run.token),
            manifest=self._manifest,
            remote=self._remote,
            clock=self._clock,
            changes=self._changes,
            resumed=run.token not in self._begun,
        )

    async def _ingest(self, run: Run, inputs: Inputs) -> None:
        if (await self._manifest.cursor(run.id)).done:
            return
        spool = self._spool.run(run.token)
        await Ingest(
            run,
            await open_sources(inputs),
            manifest=self._manifest,
            options=self._options,
            shard_path=spool.shard,
            rejects=spool.rejects,
            keys=spool.keys,
            changes=self._changes,
            meter=self._meter,
            suspect=partial(suspect, self._context(run)),
        ).ingest()

    async def _ingest_until_stopped(self, run: Run, inputs: Inputs) -> None:
        """A stream that ends after a stop was asked for may have been cut by the same signal: it is not the end."""

        async def cut_off(scope: anyio.CancelScope) -> None:
            await self._stop.wait()
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut_off, tasks.cancel_scope)
            await self._ingest(run, inputs)
            tasks.cancel_scope.cancel()

    async def _work(self, ctx: Context, inputs: Inputs, output: Output, *, wait: bool) -> None:
        """Take in and drive side by side, until all is settled (or just submitted), a stop, or an error."""
        driver = Driver(ctx, output, patient=wait)

        def submitted(statistics: Statistics) -> bool:
            return driver.has_looked and _submitted(ctx, statistics)

        try:
            with plain_errors():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._reporter.report, ctx.run.id)
                    tasks.start_soon(self._ingest_until_stopped, ctx.run, inputs)
                    await driver.drive(_settled if wait else submitted, self._stop)
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await publish_rejects(ctx.spool.rejects, output)

    async def _publish(self, ctx: Context, output: Output) -> None:
        statistics = await self._manifest.statistics(ctx.run.id)
        if not _settled(statistics):
            return
        await last_sweep(ctx, self._stop)
        await self._reporter.refresh(ctx.run.id)
        stuck = await self._manifest.jobs(ctx.run.id, {State.QUARANTINED})
        if stuck:
            extras = await self._manifest.extras(ctx.run.id)
            reasons = "; ".join(f"shard {job.shard}: {plight(job, extras)}" for job in stuck[:5])
            raise IncompleteRun(
                f"{len(stuck)} shards need a decision, by `packtrain resolve {self._spool.root} --shard "
                f"{stuck[0].shard} --retry` (or --drop, or --adopt NAME); all others are answered. {reasons}",
                quarantined=len(stuck),
            )
        await merge(ctx, output)


def _settled(statistics: Statistics) -> bool:
    return statistics.cursor.done and statistics.count(*SETTLED) == statistics.shards


def _submitted(ctx: Context, statistics: Statistics) -> bool:
    """Nothing more moves until jobs end: all is submitted, or what is left waits for room here or at the service."""
    limits = ctx.run.limits
    if statistics.count(*COLLECT, *DOUBT, State.CREATE_INTENT, State.UPLOADING, State.FINALIZING):
        return False
    jobs_full = not quota.jobs_that_fit(statistics.count(*LIVE), limits)
    store_full = not quota.uploads_that_fit(statistics.stored_bytes, limits)
    spool_full = not quota.may_open_shard(statistics.spooled_bytes, limits.shard_bytes, ctx.options.spool_bytes)
    uploaded = jobs_full or not statistics.count(State.UPLOADED)
    sealed = store_full or not statistics.count(State.SEALED)
    return uploaded and sealed and (statistics.cursor.done or spool_full or jobs_full or store_full)


def _never(_: Statistics) -> bool:
    return False
