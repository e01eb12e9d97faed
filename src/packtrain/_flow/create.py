"""A file at the service becomes a job: one POST, from one place, never repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ApiError, PacktrainError
from .._model import Job, State
from .._options import FILE_MARGIN
from .._rules import naming
from .._rules.lifecycle import (
    CreateDoubtful,
    CreateIntended,
    CreateRefused,
    CreateWithdrawn,
    FileSpoiled,
    JobKnown,
)
from .._rules.outcome import Outcome, classify
from .._rules.retrying import wait_after
from .extras import adopt, find_own
from .listing import list_jobs

if TYPE_CHECKING:
    from .._model import RemoteBatch
    from .context import Context


class Creator:
    """Creates the jobs of one run, one after the other."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        #: No create of the run before this point in time.
        self.ready_at = 0.0
        #: Creates in a row that were put off; each slows down all creates of the run.
        self._throttled = 0
        #: Whether a create was accepted; until then a refusal may be about the run rather than about one shard.
        self._proven = False
        self._unproven = 0

    async def create(self, job: Job) -> Job:
        """From UPLOADED to SUBMITTED, or to where the answer leads. Raises ApiError when no create can succeed."""
        if job.state is State.CREATE_INTENT:
            return await self._doubt(job, "the program stopped between the intent and the answer")
        if self._expires_soon(job):
            return await self._spoil(job, "the input file is about to expire, or has")
        if not self._proven:
            self._proven = (await self._ctx.manifest.statistics(job.run)).jobs_created > 0
        shard = await self._ctx.manifest.shard(job)
        tag = naming.job_tag(self._ctx.run.token, shard, job.attempt)
        if (job.tag is not None or self._ctx.run.recovered) and (found := await self._look_back(job)):
            return await adopt(self._ctx, job, found)
        job = await self._ctx.record(job, CreateIntended(tag=tag, intent_at=self._ctx.clock.now()))
        return await self._post(job, tag)

    async def _look_back(self, job: Job) -> list[RemoteBatch]:
        """What an earlier create of this shard has made after all, though it was refused, absent or forgotten."""
        if job.attempt > 1:
            await self._ctx.remote.delete_file(
                naming.file_name(self._ctx.run.token, job.shard, job.generation, job.attempt - 1)
            )
        return await find_own(self._ctx, job, await list_jobs(self._ctx.remote, self._ctx.run.token))

    async def _post(self, job: Job, tag: str) -> Job:
        ctx, file = self._ctx, job.file or ""
        try:
            batch = await ctx.remote.create(model=ctx.run.model, task=ctx.run.task, tag=tag, file=file)
        except PacktrainError as error:
            return await self._failed(job, error)
        self._throttled, self._proven = 0, True
        job = await ctx.record(job, JobKnown(batch=batch.name, submitted_at=ctx.clock.now()))
        if batch.display_name not in ("", tag):
            raise ApiError(
                f"shard {job.shard}: the service renamed our job to {batch.display_name[:120]!r}. Jobs could not be "
                "found again by name, so no more are created; please report this.",
                status=200,
            )
        return job

    async def _failed(self, job: Job, error: PacktrainError) -> Job:
        match classify(error, file=job.file or "", proven=self._proven):
            case Outcome.AMBIGUOUS:
                return await self._doubt(job, str(error))
            case Outcome.THROTTLED:
                return await self._withdraw(job, error)
            case Outcome.FILE_GONE:
                return await self._spoil(job, str(error))
            case Outcome.REFUSED:
                return await self._ctx.record(job, CreateRefused(reason=str(error)))
            case Outcome.SUSPECT if not self._unproven:
                # Perhaps it is this shard alone: another one is tried before the run is given up.
                self._unproven += 1
                return await self._withdraw(job, error, pause=False)
            case Outcome.NOT_SENT | Outcome.BARRED | Outcome.SUSPECT:
                await self._withdraw(job, error)
                raise error

    async def _withdraw(self, job: Job, error: PacktrainError, *, pause: bool = True) -> Job:
        not_before = self._ctx.clock.now() + wait_after(error, self._throttled, self._ctx.clock.jitter())
        if pause:
            self._throttled, self.ready_at = self._throttled + 1, not_before
        return await self._ctx.record(job, CreateWithdrawn(not_before=not_before, reason=str(error)))

    async def _doubt(self, job: Job, reason: str) -> Job:
        return await self._ctx.record(job, CreateDoubtful(doubtful_at=self._ctx.clock.now(), reason=reason))

    async def _spoil(self, job: Job, reason: str) -> Job:
        file = job.file
        job = await self._ctx.record(job, FileSpoiled(reason=reason))
        if file:
            await self._ctx.remote.delete_file(file)
        return job

    def _expires_soon(self, job: Job) -> bool:
        expires = job.file_expires_at
        return expires is not None and expires - self._ctx.clock.now() < FILE_MARGIN
