"""A file at the service becomes a job: one POST, from one place, never repeated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._errors import ApiError, PacktrainError, TransportError
from .._model import ShardRow, State
from .._options import FILE_MARGIN
from .._rules import naming
from .._rules.lifecycle import CreateAmbiguous, CreateDeferred, CreateIntended, CreateRejected, FileUnusable, JobAdopted
from .._rules.retry import is_transient, wait_after
from .._rules.submission import Outcome, classify
from .reconciler import Lookback, refuse_unknown
from .run import log

if TYPE_CHECKING:
    from .run import RunContext


class Creator:
    """Creates the jobs of one run, one after the other."""

    def __init__(self, ctx: RunContext) -> None:
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

    async def create(self, row: ShardRow) -> ShardRow:
        """From UPLOADED to SUBMITTED, or to where the answer leads, or as it is with a later ``due``.

        Raises ApiError when no create can succeed, and for a 429: who drives the run waits, and knows when to end it.
        Raises ManifestError before the first create when the service has jobs that the manifest has forgotten.
        """
        if row.state is State.CREATE_INTENT:
            return await self._doubt(row, "the program stopped between the intent and the answer")
        if not self._trusted:
            await refuse_unknown(self._ctx)
            self._trusted = True
        if await self._expires_soon(row):
            return await self._spoil(row, "the input file is about to expire, or has")
        if not self._proven:
            self._proven = (await self._ctx.manifest.statistics(row.run)).jobs_created > 0
        sent_before = row.intent_at is not None or row.attempt > 1 or self._ctx.run.recovered
        if sent_before and (instead := await self._lookback.look(row)):
            return instead
        shard = await self._ctx.manifest.shard(row)
        tag, before = naming.job_tag(self._ctx.run.token, shard, row.attempt), row.intent_at
        row = await self._ctx.record(row, CreateIntended(tag=tag, intent_at=self._ctx.clock.now()))
        return await self._post(row, tag, before)

    async def _post(self, row: ShardRow, tag: str, before: float | None) -> ShardRow:
        """``before`` is when the last create was intended that may have been accepted."""
        ctx, file = self._ctx, row.file or ""
        try:
            job = await ctx.provider.create(model=ctx.run.model, task=ctx.run.task, tag=tag, file=file)
        except PacktrainError as error:
            return await self._failed(row, error, before)
        self._throttled, self._proven = 0, True
        row = await ctx.record(row, JobAdopted(job=job.name, submitted_at=job.created_at or ctx.service_now()))
        if job.display_name not in ("", tag):
            raise ApiError(
                f"shard {row.shard}: the service renamed our job to {job.display_name[:120]!r}. Jobs could not be "
                "found again by name, so no more are created; please report this.",
                status=200,
            )
        return row

    async def _failed(self, row: ShardRow, error: PacktrainError, before: float | None) -> ShardRow:
        match classify(error, proven=self._proven):
            case Outcome.AMBIGUOUS:
                return await self._doubt(row, str(error))
            case Outcome.THROTTLED:
                # A service that is overrun may have accepted it: before it goes out again, the list must speak.
                await self._withdraw(row, error, row.intent_at)
                raise error if is_transient(error) else TransportError(str(error))
            case Outcome.FILE_GONE:
                return await self._spoil(row, str(error))
            case Outcome.REFUSED:
                return await self._ctx.record(row, CreateRejected(reason=str(error)))
            case Outcome.SUSPECT if not self._unproven:
                # Perhaps it is this shard alone: another one is tried before the run is given up.
                self._unproven += 1
                return await self._withdraw(row, error, before, pause=False)
            case Outcome.NOT_SENT | Outcome.BARRED | Outcome.SUSPECT:
                await self._withdraw(row, error, before)
                raise error

    async def _withdraw(
        self, row: ShardRow, error: PacktrainError, maybe: float | None, *, pause: bool = True
    ) -> ShardRow:
        """``maybe`` is when the last create was intended that may have been accepted all the same."""
        seconds = wait_after(error, self._throttled, self._ctx.clock.jitter())
        if pause:
            self._throttled, self.ready_at = self._throttled + 1, self._ctx.clock.monotonic() + seconds
        due = self._ctx.clock.now() + seconds
        return await self._ctx.record(row, CreateDeferred(due=due, reason=str(error), intent_at=maybe))

    async def _doubt(self, row: ShardRow, reason: str) -> ShardRow:
        now = self._ctx.clock.now()
        log.warning(
            "shard %d: whether its job was created is not known (%s); the service's list of jobs is watched for it; "
            "if it stays out of the list the shard goes on at about %s at the earliest",
            row.shard,
            reason,
            time.strftime("%H:%M:%S", time.localtime(now + self._ctx.service.settle)),
            extra={"action": "Doubt", "run": row.run},
        )
        return await self._ctx.record(row, CreateAmbiguous(ambiguous_at=now, reason=reason))

    async def _spoil(self, row: ShardRow, reason: str) -> ShardRow:
        file = row.file
        row = await self._ctx.record(row, FileUnusable(reason=reason))
        if file:
            await self._ctx.provider.delete_file(file)
        return row

    async def _expires_soon(self, row: ShardRow) -> bool:
        """By the service's clock; our own may be days off, and an attempt is lost by a false alarm."""
        if row.file_expires_at is None:
            return False
        if self._ctx.provider.now() is None and await self._ctx.provider.find_file(row.file or "") is None:
            return True
        now = self._ctx.provider.now()
        return now is not None and row.file_expires_at - now < FILE_MARGIN
