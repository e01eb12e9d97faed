"""The driver: for each shard, decide what comes next, perform it, record it, until nothing is left to do.

Shards wait in lanes. A lane claims as many as it has room for and works on them side by side; between two steps a
shard exists only in the manifest, so that starting and resuming are the same thing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from .._errors import PacktrainError, ProtocolError
from .._model import Job, State, Statistics
from .._options import DRAIN_SECONDS
from .._rules import quota
from .._rules.lifecycle import COLLECT, LIVE
from .._rules.retrying import is_transient, wait_after
from . import upload
from .collect import collect
from .context import log
from .create import Creator
from .reconcile import Watcher
from .signals import wait

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .context import Context
    from .output import Output

#: A lane with nothing to do looks again after this long, for jobs whose time has come.
_IDLE_SECONDS = 1.0
#: Failures of the network are waited out for this long without a single success.
_OUTAGE_SECONDS = 1800.0
#: The same where nobody is to wait.
_BRIEF_OUTAGE_SECONDS = 120.0

Goal = Callable[[Statistics], bool]


@dataclass
class Lane:
    """``take`` claims up to a number of jobs, ``work`` brings one of them a step further, and says when it is due."""

    slots: int
    take: Callable[[int], Awaitable[list[Job]]]
    work: Callable[[Job], Awaitable[Job]]
    busy: int = 0


class Driver:
    """Drives one run."""

    def __init__(self, ctx: Context, output: Output | None = None, *, patient: bool = True) -> None:
        self._ctx = ctx
        self._outage = _OUTAGE_SECONDS if patient else _BRIEF_OUTAGE_SECONDS
        self._watcher = Watcher(ctx)
        self._creator = Creator(ctx)
        self._lanes = (
            Lane(ctx.options.downloads, self._ended, lambda job: collect(ctx, job, output)),
            Lane(ctx.options.uploads, self._sealed, lambda job: upload.send(ctx, job)),
            Lane(1, self._uploaded, self._creator.create),
        )
        self._stopping = False
        #: The jobs that were there at the start have been looked at.
        self.has_looked = False
        self._failures = 0
        #: Since when all has failed, by the monotonic clock. Time in which there was nothing to do is no outage.
        self._failing_since: float | None = None

    async def drive(self, goal: Goal, stop: anyio.Event) -> None:
        """Until the goal is reached or a stop is asked for; then what is under way may finish, for a while.

        Raises the error that no second try can heal: ApiError, ManifestError, IntegrityError, IncompleteRun, or
        TransportError after a long outage.
        """
        async with anyio.create_task_group() as tasks:
            for lane in self._lanes:
                tasks.start_soon(self._run_lane, lane, tasks)
            tasks.start_soon(self._watch)
            await self._until(goal, stop)
            self._stopping = True
            with anyio.move_on_after(DRAIN_SECONDS):
                await self._drain()
            tasks.cancel_scope.cancel()

    async def _until(self, goal: Goal, stop: anyio.Event) -> None:
        while not stop.is_set():
            changed = self._ctx.changes.mark()
            if goal(await self._ctx.manifest.statistics(self._ctx.run.id)):
                return
            await changed.wait()

    async def _drain(self) -> None:
        while any(lane.busy for lane in self._lanes):
            await self._ctx.changes.mark().wait()

    async def _run_lane(self, lane: Lane, tasks: TaskGroup) -> None:
        while not self._stopping:
            await anyio.lowlevel.checkpoint_if_cancelled()
            changed = self._ctx.changes.mark()
            room = lane.slots - lane.busy
            with anyio.CancelScope(shield=True):  # only who works on a job gives it back, even when cancelled
                jobs = await lane.take(room) if room else []
            for job in jobs:
                lane.busy += 1
                tasks.start_soon(self._work, lane, job)
            if not jobs:
                await wait(changed, _IDLE_SECONDS)

    async def _work(self, lane: Lane, job: Job) -> None:
        not_before = None
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            after = await lane.work(job)
            not_before = after.not_before
            if after.state is not job.state:
                self._succeeded()
        except PacktrainError as error:
            not_before = self._ctx.clock.now() + self._setback(error)
        finally:
            lane.busy -= 1
            with anyio.CancelScope(shield=True):
                await self._ctx.manifest.release(job, not_before=not_before)
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
                delay = self._setback(error)
            await wait(changed, delay) if delay > _IDLE_SECONDS else await self._ctx.clock.sleep(delay)

    async def _look(self) -> float:
        """A complete pass is a success, even if one of the jobs could not be read."""
        passes = self._watcher.passes
        try:
            return await self._watcher.look()
        finally:
            if self._watcher.passes > passes:
                self._succeeded()

    def _succeeded(self) -> None:
        self._failures, self._failing_since = 0, None

    def _setback(self, error: PacktrainError) -> float:
        """Seconds to wait before another try; raises the error when there is no point in one."""
        now = self._ctx.clock.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        lasting = now - self._failing_since > self._outage
        if lasting or not (is_transient(error) or isinstance(error, ProtocolError)):
            raise error
        delay = wait_after(error, self._failures, self._ctx.clock.jitter())
        self._failures += 1
        log.warning(
            "%s; trying again in %.0f s", error, max(1.0, delay), extra={"action": "Setback", "run": self._ctx.run.id}
        )
        return delay

    # What each lane takes

    async def _sealed(self, room: int) -> list[Job]:
        """Uploads under way first; new ones while the service's store has room."""
        jobs = await self._claim({State.UPLOADING, State.FINALIZING}, room)
        stored = (await self._statistics()).stored_bytes
        fit = min(room - len(jobs), quota.uploads_that_fit(stored, self._ctx.run.limits))
        return jobs + [await upload.intend(self._ctx, job) for job in await self._claim({State.SEALED}, fit)]

    async def _uploaded(self, room: int) -> list[Job]:
        """Interrupted creates first, which become questions; new ones while jobs fit."""
        if jobs := await self._claim({State.CREATE_INTENT}, room):
            return jobs
        if self._ctx.clock.monotonic() < self._creator.ready_at:
            return []
        live = (await self._statistics()).count(*LIVE)
        return await self._claim({State.UPLOADED}, min(room, quota.jobs_that_fit(live, self._ctx.run.limits)))

    async def _ended(self, room: int) -> list[Job]:
        return await self._claim(COLLECT, room)

    async def _claim(self, states: set[State] | frozenset[State], limit: int) -> list[Job]:
        if limit <= 0:
            return []
        return await self._ctx.manifest.claim(self._ctx.run.id, states, now=self._ctx.clock.now(), limit=limit)

    async def _statistics(self) -> Statistics:
        return await self._ctx.manifest.statistics(self._ctx.run.id)
