"""A file at the service becomes a job: one POST, from one place, never repeated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._errors import ApiError, PacktrainError, TransportError
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
from .._rules.retrying import is_transient, wait_after
from .context import log
from .forgotten import refuse_unknown
from .lookback import Lookback

if TYPE_CHECKING:
    from .context import Context


class Creator:
    """Creates the jobs of one run, one after the other."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._lookback = Lookback(ctx)
        #: No create of the run before this point in time, by the monotonic clock.
        self.ready_at = 0.0
        #: Creates in a row that were put off; each slows down all creates of the run.
        self._throttled = 0
        #: Whether a create was accepted; until then a refusal may be about the run rather than about one shard.
        self._proven = False
        self._unproven = 0
        #: Whether the manifest is known to be none that was put back.
        self._trusted = not ctx.resumed

    async def create(self, job: Job) -> Job:
        """From UPLOADED to SUBMITTED, or to where the answer leads, or as it is with a later ``not_before``.

        Raises ApiError when no create can succeed, and for a 429: who drives the run waits, and knows when to end it.
        Raises ManifestError before the first create when the service has jobs that the manifest has forgotten.
        """
        if job.state is State.CREATE_INTENT:
            return await self._doubt(job, "the program stopped between the intent and the answer")
        if not self._trusted:
            await refuse_unknown(self._ctx)
            self._trusted = True
        if await self._expires_soon(job):
            return await self._spoil(job, "the input file is about to expire, or has")
        if not self._proven:
            self._proven = (await self._ctx.manifest.statistics(job.run)).jobs_created > 0
        sent_before = job.intent_at is not None or job.attempt > 1 or self._ctx.run.recovered
        if sent_before and (instead := await self._lookback.look(job)):
            return instead
        shard = await self._ctx.manifest.shard(job)
        tag, before = naming.job_tag(self._ctx.run.token, shard, job.attempt), job.intent_at
        job = await self._ctx.record(job, CreateIntended(tag=tag, intent_at=self._ctx.clock.now()))
        return await self._post(job, tag, before)

    async def _post(self, job: Job, tag: str, before: float | None) -> Job:
        """``before`` is when the last create was intended that may have been accepted."""
        ctx, file = self._ctx, job.file or ""
        try:
            batch = await ctx.remote.create(model=ctx.run.model, task=ctx.run.task, tag=tag, file=file)
        except PacktrainError as error:
            return await self._failed(job, error, before)
        self._throttled, self._proven = 0, True
        job = await ctx.record(job, JobKnown(batch=batch.name, submitted_at=batch.created_at or ctx.service_now()))
        if batch.display_name not in ("", tag):
            raise ApiError(
                f"shard {job.shard}: the service renamed our job to {batch.display_name[:120]!r}. Jobs could not be "
                "found again by name, so no more are created; please report this.",
                status=200,
            )
        return job

    async def _failed(self, job: Job, error: PacktrainError, before: float | None) -> Job:
        match classify(error, file=job.file or "", proven=self._proven):
            case Outcome.AMBIGUOUS:
                return await self._doubt(job, str(error))
            case Outcome.THROTTLED:
                # A service that is overrun may have accepted it: before it goes out again, the list must speak.
                await self._withdraw(job, error, job.intent_at)
                raise error if is_transient(error) else TransportError(str(error))
            case Outcome.FILE_GONE:
                return await self._spoil(job, str(error))
            case Outcome.REFUSED:
                return await self._ctx.record(job, CreateRefused(reason=str(error)))
            case Outcome.SUSPECT if not self._unproven:
                # Perhaps it is this shard alone: another one is tried before the run is given up.
                self._unproven += 1
                return await self._withdraw(job, error, before, pause=False)
            case Outcome.NOT_SENT | Outcome.BARRED | Outcome.SUSPECT:
                await self._withdraw(job, error, before)
                raise error

    async def _withdraw(self, job: Job, error: PacktrainError, maybe: float | None, *, pause: bool = True) -> Job:
        """``maybe`` is when the last create was intended that may have been accepted all the same."""
        seconds = wait_after(error, self._throttled, self._ctx.clock.jitter())
        if pause:
            self._throttled, self.ready_at = self._throttled + 1, self._ctx.clock.monotonic() + seconds
        not_before = self._ctx.clock.now() + seconds
        return await self._ctx.record(job, CreateWithdrawn(not_before=not_before, reason=str(error), intent_at=maybe))

    async def _doubt(self, job: Job, reason: str) -> Job:
        now = self._ctx.clock.now()
        log.warning(
            "shard %d: whether its job was created is not known (%s); the service's list of jobs is watched for it; "
            "if it stays out of the list the shard goes on at about %s at the earliest",
            job.shard,
            reason,
            time.strftime("%H:%M:%S", time.localtime(now + self._ctx.service.settle)),
            extra={"action": "Doubt", "run": job.run},
        )
        return await self._ctx.record(job, CreateDoubtful(doubtful_at=now, reason=reason))

    async def _spoil(self, job: Job, reason: str) -> Job:
        file = job.file
        job = await self._ctx.record(job, FileSpoiled(reason=reason))
        if file:
            await self._ctx.remote.delete_file(file)
        return job

    async def _expires_soon(self, job: Job) -> bool:
        """By the service's clock; our own may be days off, and an attempt is lost by a false alarm."""
        if job.file_expires_at is None:
            return False
        if self._ctx.remote.now() is None and await self._ctx.remote.find_file(job.file or "") is None:
            return True
        now = self._ctx.remote.now()
        return now is not None and job.file_expires_at - now < FILE_MARGIN
