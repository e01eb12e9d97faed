"""Clients: run, submit, drive, read, stop; and the parts that they are put together of."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from ._errors import DecisionRefused, InputError, PacktrainError, Stopped
from ._exits import plain_errors
from ._flow.decisions import resolve, retry_cancelled, take_retry
from ._flow.driver import complete, drive_all
from ._flow.further import chain, check_output, combine, further_run, output_of
from ._flow.ingest import take_in
from ._flow.publisher import conclude, prepare_output, release_unused, reopen
from ._flow.recovery import check_account
from ._flow.reporting import progress, refresh
from ._flow.results import Results
from ._flow.run import MAIN, ClientContext, Meter, compare_inputs, describe, find_ingested
from ._flow.shares import Shares
from ._io.inputs import named_files
from ._io.output import output_at, own_files
from ._io.threads import finish, load
from ._manifest.sqlite import open_sqlite
from ._providers import open_provider
from ._providers.base import check_capabilities
from ._providers.service import Local, Service
from ._text import path_text

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from ._io.clock import Clock
    from ._io.inputs import Inputs
    from ._io.spool import Spool
    from ._manifest.base import Manifest
    from ._model import Decision, Limits, Result, Run, ShardRow, Statistics, Task
    from ._options import Options, Policy
    from ._providers.base import Provider
    from ._snapshots import Progress, Summary

#: Polling and waiting for a service in this very process, in seconds.
_LOCAL_POLL, _LOCAL_SETTLE = (0.1, 1.0), 1.0


@asynccontextmanager
async def open_context(
    spool: Spool,
    path: Path,
    service: Service | Local,
    options: Options,
    *,
    policy: Policy,
    clock: Clock,
    provider: Provider | None = None,
    manifest: Manifest | None = None,
) -> AsyncIterator[ClientContext]:
    """State directory, transport and service put together, with a manifest in ``path``."""
    meter = Meter()
    async with AsyncExitStack() as stack:
        if manifest is None:
            manifest = await stack.enter_async_context(open_sqlite(path, clock=clock.now))
        await spool.clear()
        if isinstance(service, Local):
            directory = service.directory or spool.service
            place = path_text(str(await anyio.Path(directory).resolve()))
            if service.directory is None:
                stack.push_async_callback(lambda: finish(_discard_local(manifest, spool)))
            service = await stack.enter_async_context(_local(directory, service.limits))
        else:
            place = service.origin
        if provider is None:
            connections = options.uploads + options.downloads + 4
            provider = await stack.enter_async_context(
                open_provider(service, clock, policy, connections=connections, sent=meter.sent)
            )
        check_capabilities(provider.capabilities)
        yield ClientContext(
            spool=spool,
            manifest=manifest,
            provider=provider,
            clock=clock,
            service=service,
            options=options,
            shares=Shares(options),
            policy=policy,
            meter=meter,
            place=place,
        )


@asynccontextmanager
async def _local(directory: Path, limits: Limits) -> AsyncIterator[Service]:
    await load("packtrain.server.service")
    from .server import serving

    async with serving(directory) as origin:
        yield Service(origin=origin, limits=limits, poll=_LOCAL_POLL, settle=_LOCAL_SETTLE)


async def _discard_local(manifest: Manifest, spool: Spool) -> None:
    """Remove the local service's own copy of requests and answers, once all of them are published."""
    with suppress(PacktrainError):
        runs = [await manifest.statistics(run.id) for run in await manifest.runs()]
        if runs and all(run.merged and not run.duplicates_live for run in runs):
            await spool.discard_service()


class Client:
    """Runs on one state directory. Made by ``open_client``.

    ``run`` does a whole backfill. Its parts serve programs that never end: ``submit`` takes input in,
    ``drive`` moves what was taken in, ``results`` gives the answers as they land. Of ``run``, ``retry`` and ``drive``
    one at a time may be at work on a run; a second one raises RuntimeError.
    """

    def __init__(self, client: ClientContext) -> None:
        self._context = client
        self._manifest = client.manifest
        #: The runs that are driven right now; None for all of them.
        self._driven: set[str | None] = set()

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

        A run that came in by ``submit`` is published the same way, to a file, once no ``drive`` is at work: with its
        ``run_id``, ``model``, ``task`` and ``join``. Its input is not read again, so that ``inputs`` may be ``()``.

        Raises InputError for input that cannot be used, ApiError when the service refuses for good, ManifestError for
        a state of another run or one that was put back, and for a key or a service that does not show what was made
        before, DecisionNeeded when a person must decide, TransportError after a long outage.
        """
        with self._driving(run_id):
            began, output = time.monotonic(), await output_at(out)
            run = describe(run_id, model, task, join, output.parts, self._context.service, self._context.options)
            await check_account(self._context)
            ctx = await self._context.begin(run)
            own = await own_files(self._context.spool, output)
            await compare_inputs(self._manifest, ctx.run, inputs, own)
            try:
                if not await self._manifest.published(run_id):
                    await prepare_output(ctx, output, inputs, own)
                await complete(ctx, output, inputs, wait=wait)
            finally:
                await finish(release_unused(ctx, output))
            await refresh(self._context, run_id)
            return await conclude(self._manifest, ctx.files, ctx.run, output, began)

    async def retry(self, out: str | os.PathLike[str], *, run_id: str = MAIN, everything: bool = False) -> Summary:
        """The failed lines of a complete run asked once more, and ``out`` published again with their answers.

        Those are asked whose failure may pass; with ``everything`` all of them. Until its end ``out`` stays as it is.
        A retry, or a run, that was cut short is brought to its end first of all, and nothing is asked beyond that.
        Shards that wait for a decision since their jobs were cancelled get one more attempt.
        Waiting requests for a retry of a complete run are met by this one; it asks all lines if one of them says so.

        Raises as ``run`` does, and OutputChanged when ``out`` is no longer what was published.
        """
        with self._driving(run_id):
            await check_account(self._context)
            began, output = time.monotonic(), await output_at(out)
            ctx = await self._context.resume(await find_ingested(self._manifest, run_id, output))
            if await self._manifest.published(run_id):
                await check_output(self._manifest, ctx.run, output)
                if len(await chain(self._manifest, ctx.run)) > 1:
                    raise InputError(
                        f"run {run_id!r} was added to, so its lines can't be asked again; give them as fixed"
                    )
                while request := await take_retry(ctx):
                    everything = everything or request.everything
                await reopen(ctx, output, everything=everything)
            await retry_cancelled(ctx)
            await complete(ctx, output)
            await refresh(self._context, run_id)
            return await conclude(self._manifest, ctx.files, ctx.run, output, began)

    async def extend(
        self, inputs: Inputs, *, into: str | os.PathLike[str], run_id: str = MAIN, wait: bool = True
    ) -> Summary:
        """Fixed lines of a complete run asked, and ``into`` published again with their answers behind the others.

        Lines whose keys have answers are skipped. A failed or rejected line whose key is given again leaves its list.
        The same call again goes on, or does nothing. The summary is that of all inputs together.

        Raises as ``run`` does, and OutputChanged when ``into`` is no longer what was published.
        """
        with self._driving(run_id):
            began, output = time.monotonic(), await output_at(into)
            if output.parts:
                raise InputError(f"{output.path}: nothing can be added to a directory of parts")
            await check_account(self._context)
            main = await self._context.resume(await find_ingested(self._manifest, run_id, output))
            if not await self._manifest.published(run_id):
                await complete(main, output, wait=wait)
            if not await self._manifest.published(run_id):
                return await conclude(self._manifest, main.files, main.run, output, began)
            await check_output(self._manifest, main.run, output)
            own = await own_files(self._context.spool, output)
            ctx = await self._context.begin(await further_run(self._manifest, main.run, inputs, own))
            inner = output_of(self._context.spool, ctx.run)
            await compare_inputs(self._manifest, ctx.run, inputs, own)
            if not await self._manifest.published(ctx.run.id):
                await output.prepare(await named_files(inputs, own))
                await prepare_output(ctx, inner, inputs, own)
            await complete(ctx, inner, inputs, wait=wait)
            await refresh(self._context, ctx.run.id)
            if not await self._manifest.published(ctx.run.id):
                return await conclude(self._manifest, ctx.files, ctx.run, inner, began)
            await inner.release(ctx.run.token)
            await combine(main, output)
            return await conclude(self._manifest, main.files, main.run, output, began)

    async def submit(
        self, inputs: Inputs, *, model: str, task: Task = "generate", run_id: str = MAIN, join: bool = False
    ) -> Run:
        """Take the input in, to its end: validated, cut into shards, sealed. ``drive`` sends them meanwhile,
        ``results`` gives the answers, and ``run`` publishes them.

        Raises as ``run`` does, Stopped when it was stopped before the end, and RuntimeError while another call takes it
        in.
        """
        run = describe(run_id, model, task, join, False, self._context.service, self._context.options)
        ctx = await self._context.begin(run)
        await compare_inputs(self._manifest, ctx.run, inputs, await own_files(self._context.spool))
        with plain_errors():
            await take_in(ctx, inputs)
        if not (await self._manifest.cursor(run_id)).done:
            raise Stopped(f"run {run_id!r}: stopped before the end of the input", run=run_id)
        return ctx.run

    async def drive(self) -> None:
        """Move the shards of all runs, also of those still to be submitted, until cancelled or stopped.

        Raises as ``run`` does.
        """
        with self._driving(), plain_errors():
            await check_account(self._context)
            await drive_all(self._context)

    async def resolve(self, shard: int, decision: Decision, *, job: str | None = None, run_id: str = MAIN) -> ShardRow:
        """Record a person's decision about a quarantined shard; ``run`` or ``drive`` acts on it from then on.

        ``adopt``: ``job`` names the shard's job; it is looked up at the service, and must be of the same content.
        ``retry``: one more attempt is made. ``drop``: all lines of the shard fail with the reason. With these two
        any job that the shard had is given up and cancelled. Returns the shard's row.

        Raises DecisionRefused for a shard that is not quarantined and for a job that cannot be the shard's.
        """
        run = await self._manifest.find_run(run_id)
        if run is None:
            known = ", ".join(run.id for run in await self._manifest.runs()) or "none"
            raise DecisionRefused(f"there is no run {run_id!r} here; runs are: {known}", shard=shard)
        row = await resolve(self._context.context(run), shard, decision, job)
        await refresh(self._context, run_id)
        return row

    async def results(self, run: Run, *, out: str | os.PathLike[str] | None = None) -> AsyncIterator[Result]:
        """The answers of a run, shard by shard as they land, until all have; failed lines come with their error.

        Those of a run that is published are read from its output ``out``, by default STATE without its ``.packtrain``.
        Raises OutputUnknown when nothing is there, OutputChanged when it is not what was published, Stopped after
        ``stop`` when not all have landed.
        """
        async for result in Results(self._context.context(run), out, self._context.stopped).read():
            yield result

    async def statistics(self, run_id: str = MAIN) -> Statistics:
        """Lines, shards, jobs and bytes of a run, as recorded at this moment.

        Raises UnknownRun when there is none of this name.
        """
        return await self._manifest.statistics(run_id)

    def progress(self) -> Progress:
        """What is known of the latest run right now; never waits."""
        return progress(self._context.meter)

    def stop(self) -> None:
        """Stop permanently after calls in flight have finished; ``run`` and ``drive`` then return within seconds.

        This client does nothing more from then on. Open a new one on the same state directory to go on.
        """
        self._context.stop()

    @contextmanager
    def _driving(self, run_id: str | None = None) -> Iterator[None]:
        """A run, or all runs, driven once at a time: one driver would find its rows changed by another."""
        if {run_id, None} & self._driven or (run_id is None and self._driven):
            raise RuntimeError(
                "this client drives already, by run, retry or drive; meanwhile there are submit and results"
            )
        self._driven.add(run_id)
        try:
            yield
        finally:
            self._driven.remove(run_id)
