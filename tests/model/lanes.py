"""What a driver does with its shards, as tasks in virtual time: its loops, without an event loop below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtrain._errors import PacktrainError, ProtocolError
from packtrain._flow.create import Creator
from packtrain._flow.reconcile import Watcher
from packtrain._flow.upload import intend
from packtrain._model import Job, State, Tally
from packtrain._options import LONGEST_WAIT
from packtrain._rules.lifecycle import COLLECT, CREATE, UPLOAD, Closed, FileReady, FinalizeIntended, Landed
from packtrain._rules.retrying import is_transient, wait_after

from .virtual import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from packtrain._flow.context import Context

    from .service import VirtualService
    from .virtual import Ledger

#: Uploads and downloads, which are taken as done.
CARRY = UPLOAD | COLLECT


class Lanes:
    """What the driver does in its lanes, one task each; uploads and downloads are taken as done."""

    def __init__(self, ctx: Context, ledger: Ledger, service: VirtualService) -> None:
        self._ctx = ctx
        self._ledger = ledger
        self._service = service
        self._failures = 0

    async def create(self) -> None:
        creator = Creator(self._ctx)
        while not self._ledger.settled:
            jobs = await self._claim({State.CREATE_INTENT})
            if not jobs and self._ctx.clock.monotonic() >= creator.ready_at:
                jobs = await self._claim({State.UPLOADED})
            for job in jobs:
                await self._work(job, creator.create)
            if not jobs:
                await pause(-max(self._until_due(CREATE), creator.ready_at - self._ctx.clock.monotonic()))

    async def watch(self) -> None:
        watcher = Watcher(self._ctx)
        while not self._ledger.settled:
            try:
                delay = await watcher.look()
            except PacktrainError as error:
                delay = self._setback(error)
            await pause(-delay if delay > 1 else delay)

    async def carry(self) -> None:
        """Up and down."""
        while not self._ledger.settled:
            jobs = await self._claim(CARRY)
            for job in jobs:
                await self._work(job, self._upload if job.state in UPLOAD else self._collect)
            if not jobs:
                await pause(-self._until_due(CARRY))

    async def _upload(self, job: Job) -> Job:
        if job.state is State.SEALED:
            job = await intend(self._ctx, job)
        if job.state is State.UPLOADING and job.upload and job.file:
            job = await self._ctx.record(job, FinalizeIntended(upload=job.upload))
        if job.state is State.FINALIZING and job.file:
            job = await self._ctx.record(job, FileReady(file_expires_at=self._service.put(job.file)))
        return job

    async def _collect(self, job: Job) -> Job:
        if job.state is State.ENDED:
            job = await self._ctx.record(job, Landed(tally=Tally()))
        if job.file:
            await self._ctx.remote.delete_file(job.file)
        return await self._ctx.record(job, Closed())

    async def _work(self, job: Job, work: Callable[[Job], Coroutine[float, None, Job]]) -> None:
        not_before = None
        try:
            not_before = (await work(job)).not_before
            self._failures = 0
        except PacktrainError as error:
            not_before = self._ctx.clock.now() + self._setback(error)
        await self._ctx.manifest.release(job, not_before=not_before)
        self._ctx.changes.notify()

    async def _claim(self, states: set[State] | frozenset[State]) -> list[Job]:
        return await self._ctx.manifest.claim(self._ctx.run.id, states, now=self._ctx.clock.now(), limit=1)

    def _until_due(self, states: frozenset[State]) -> float:
        """Seconds until a job of these states is due; whatever changes before wakes the lane."""
        waits = [job.not_before - self._ctx.clock.now() for job in self._ledger.jobs.values() if job.state in states]
        return max(1.0, min((wait for wait in waits if wait <= LONGEST_WAIT), default=600.0))

    def _setback(self, error: PacktrainError) -> float:
        if not (is_transient(error) or isinstance(error, ProtocolError)):
            raise error
        self._failures += 1
        return wait_after(error, self._failures, self._ctx.clock.jitter())
