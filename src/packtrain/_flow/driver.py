"""The driver: decide the next step of each shard, perform it, record it, until the goal is reached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from .._errors import OutputBlocked, PacktrainError
from .._exits import plain_errors
from .._io.clock import time_limit, wait
from .._io.threads import finish
from .._model import ShardRow, State, Statistics
from .._rules import quota
from .._rules.completion import never, settled, submitted
from .._rules.lifecycle import COLLECT, LIVE
from . import uploader
from .collector import collect, tidy
from .decisions import take_requests, take_retry
from .duplicates import cancel_left
from .ingest import take_in
from .outage import Outage
from .publisher import publish, publish_rejects, reopen
from .reconciler import Watcher
from .reporting import refresh_latest, report
from .shares import Slots
from .submitter import Creator

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .._io.inputs import Inputs
    from .._io.output import Output
    from .run import ClientContext, RunContext

Goal = Callable[[Statistics], bool]


@dataclass
class Lane:
    """``take`` claims up to a number of jobs, ``work`` brings one of them a step further, and says when it is due."""

    slots: Slots
    take: Callable[[int], Awaitable[list[ShardRow]]]
    work: Callable[[ShardRow], Awaitable[ShardRow]]
    outage: Outage
    busy: int = 0

    async def claim(self) -> list[ShardRow]:
        async with self.slots.turn() as room:
            rows = await self.take(room) if room else []
            self.slots.take(len(rows))
        self.busy += len(rows)
        return rows

    def release(self) -> None:
        self.busy -= 1
        self.slots.give()


class Driver:
    """Drives one run."""

    def __init__(self, ctx: RunContext, output: Output | None = None, *, patient: bool = True) -> None:
        self._ctx = ctx
        patience = ctx.options.patience if patient else min(ctx.options.patience, ctx.policy.brief_outage)
        outage = partial(Outage, ctx.clock, patience, run=ctx.run.id)
        #: Ended by a pass over the list too: a quota that our own live jobs fill is no outage.
        self._create_outage = outage()
        self._watcher = Watcher(ctx)
        self._creator = Creator(ctx)
        self._lanes = (
            Lane(ctx.shares.downloads, self._ended, lambda row: collect(ctx, row, output), outage()),
            Lane(ctx.shares.uploads, self._sealed, lambda row: uploader.send(ctx, row), outage()),
            Lane(Slots(1), self._uploaded, self._creator.create, self._create_outage),
        )
        self.list_outage = outage()
        self._requests = anyio.Lock()
        self._published = output is not None
        self._stopping = False
        #: The jobs that were there at the start have been looked at.
        self.has_looked = False

    async def drive(self, goal: Goal, stop: anyio.Event) -> None:
        """Until the goal is reached or a stop is asked for; then what is under way may finish, for a while.

        Raises the error that no second try can fix: ApiError, ManifestError, IntegrityError, IncompleteRun, or
        TransportError after a long outage.
        """
        async with anyio.create_task_group() as tasks:
            for lane in self._lanes:
                tasks.start_soon(self._run_lane, lane, tasks)
            tasks.start_soon(self._watch)
            tasks.start_soon(self._look_for_requests)
            await self._until(goal, stop)
            self._stopping = True
            async with time_limit(self._ctx.clock, self._ctx.policy.drain):
                await self._drain()
            tasks.cancel_scope.cancel()

    async def _until(self, goal: Goal, stop: anyio.Event) -> None:
        while not stop.is_set():
            changed = self._ctx.changes.mark()
            if goal(await self._statistics()) and await self._is_final(goal):
                return
            await changed.wait()

    async def _is_final(self, goal: Goal) -> bool:
        """The goal is reached with all requests taken, and no request is taken any more."""
        async with self._requests:
            await take_requests(self._ctx, published=self._published)
            self._stopping = goal(await self._statistics())
            return self._stopping

    async def _look_for_requests(self) -> None:
        while True:
            async with self._requests:
                if self._stopping:
                    return
                await take_requests(self._ctx, published=self._published)
            await self._ctx.clock.sleep(self._ctx.policy.requests_every)

    async def _drain(self) -> None:
        while any(lane.busy for lane in self._lanes):
            await self._ctx.changes.mark().wait()

    async def _run_lane(self, lane: Lane, tasks: TaskGroup) -> None:
        while not self._stopping:
            await anyio.lowlevel.checkpoint_if_cancelled()
            changed = self._ctx.changes.mark()
            with anyio.CancelScope(shield=True):  # only who works on a job gives it back, even when cancelled
                rows = await lane.claim()
            for row in rows:
                tasks.start_soon(self._work, lane, row)
            if not rows:
                await wait(self._ctx.clock, changed, self._ctx.policy.idle_look)

    async def _work(self, lane: Lane, row: ShardRow) -> None:
        due = None
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            after = await lane.work(row)
            due = after.due
            if after.state is not row.state:
                lane.outage.end()
        except PacktrainError as error:
            due = self._ctx.clock.now() + lane.outage.setback(error)
        finally:
            lane.release()
            with anyio.CancelScope(shield=True):
                await self._ctx.release(row, due)
            self._ctx.changes.notify()

    async def _watch(self) -> None:
        while True:
            changed = self._ctx.changes.mark()
            try:
                delay = await self._look()
                if not self.has_looked:
                    self.has_looked = True
                    self._ctx.changes.notify()
            except PacktrainError as error:
                delay = self.list_outage.setback(error)
            if delay > self._ctx.policy.idle_look:
                await wait(self._ctx.clock, changed, delay)
            else:
                await self._ctx.clock.sleep(delay)

    async def _look(self) -> float:
        """A complete pass is a success, even if one of the jobs could not be read."""
        passes = self._watcher.passes
        try:
            return await self._watcher.look()
        finally:
            if self._watcher.passes > passes:
                self.list_outage.end()
                self._create_outage.end()

    # What each lane takes

    async def _sealed(self, room: int) -> list[ShardRow]:
        """Uploads under way first; new ones while the service's store has room."""
        rows = await self._claim({State.UPLOADING, State.FINALIZING}, room)
        stored = (await self._statistics()).stored_bytes
        fit = min(room - len(rows), quota.uploads_that_fit(stored, self._ctx.run.limits))
        return rows + [await uploader.intend(self._ctx, row) for row in await self._claim({State.SEALED}, fit)]

    async def _uploaded(self, room: int) -> list[ShardRow]:
        """Interrupted creates first, which become questions; new ones while jobs fit."""
        if rows := await self._claim({State.CREATE_INTENT}, room):
            return rows
        if self._ctx.clock.monotonic() < self._creator.ready_at:
            return []
        live = (await self._statistics()).count(*LIVE)
        return await self._claim({State.UPLOADED}, min(room, quota.jobs_that_fit(live, self._ctx.run.limits)))

    async def _ended(self, room: int) -> list[ShardRow]:
        return await self._claim(COLLECT, room)

    async def _claim(self, states: set[State] | frozenset[State], limit: int) -> list[ShardRow]:
        if limit <= 0:
            return []
        return await self._ctx.manifest.claim(self._ctx.run.id, states, limit=limit)

    async def _statistics(self) -> Statistics:
        return await self._ctx.manifest.statistics(self._ctx.run.id)


async def complete(ctx: RunContext, output: Output, inputs: Inputs = (), *, wait: bool = True) -> None:
    """Bring a run to its end, and publish it, or as far as a stop lets it come; without ``wait``, until all that can be
    submitted is. Then ask failed lines again as often as people have requested it."""
    await _complete(ctx, output, inputs, wait=wait)
    while await ctx.manifest.published(ctx.run.id) and not ctx.stopped.is_set():
        retry = await take_retry(ctx)
        if retry is None or not await reopen(ctx, output, everything=retry.everything):
            return
        await _complete(ctx, output, (), wait=wait)


async def _complete(ctx: RunContext, output: Output, inputs: Inputs, *, wait: bool) -> None:
    if await ctx.manifest.published(ctx.run.id):
        await cancel_left(ctx, ctx.stopped)
        return
    try:
        with plain_errors():
            await _work(ctx, output, inputs, wait)
    finally:
        with suppress(OutputBlocked):  # raised when the answers are published
            await finish(publish_rejects(ctx, output))
    if await publish(ctx, output):
        await tidy(ctx)


async def _work(ctx: RunContext, output: Output, inputs: Inputs, wait: bool) -> None:
    driver = Driver(ctx, output, patient=wait)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(report, ctx, ctx.run.id)
        tasks.start_soon(partial(take_in, ctx, inputs, output, listed=output.list_path("rejected")))
        await driver.drive(settled if wait else _submission(driver, ctx), ctx.stopped)
        tasks.cancel_scope.cancel()


def _submission(driver: Driver, ctx: RunContext) -> Goal:
    def reached(statistics: Statistics) -> bool:
        return driver.has_looked and submitted(statistics, ctx.run.limits, ctx.options.spool_bytes)

    return reached


async def drive_all(client: ClientContext) -> None:
    """Drive the runs that there are, and those that come, until a stop is asked for."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(report, client)
        await _drive_all(client)
        tasks.cancel_scope.cancel()
    await refresh_latest(client)


async def _drive_all(client: ClientContext) -> None:
    driven: set[str] = set()
    async with anyio.create_task_group() as tasks:
        while not client.stopped.is_set():
            changed = client.changes.mark()
            for run in await client.manifest.runs():
                if run.id not in driven:
                    driven.add(run.id)
                    tasks.start_soon(Driver(client.context(run)).drive, never, client.stopped)
            await changed.wait()
