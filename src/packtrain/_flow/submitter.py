"""Creation of jobs: one POST, from one place, never repeated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .._errors import ApiError, IntegrityError, PacktrainError, TransportError
from .._model import ShardRow, State
from .._rules import naming, submission
from .._rules.lifecycle import (
    CreateAmbiguous,
    CreateDeferred,
    CreateIntended,
    CreateRejected,
    FileUnusable,
    JobAdopted,
    Quarantined,
)
from .._rules.retry import is_transient, wait_after
from .._rules.submission import Outcome
from .reconciler import Lookback, moment, refuse_unknown
from .run import log
from .uploader import open_requests

if TYPE_CHECKING:
    from .._io.request_file import ShardReader
    from .run import RunContext


class Creator:
    """Creates the jobs of one run, one after the other."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._lookback = Lookback(ctx)
        #: No create of the run before this point in time, by the monotonic clock.
        self.ready_at = 0.0
        #: Creates in a row that were deferred; each slows down all creates of the run.
        self._throttled = 0
        #: Whether a create was accepted; until then a refusal may concern the run rather than one shard.
        self._proven = False
        self._unproven = 0
        #: Whether the manifest is known not to be an older copy.
        self._trusted = not ctx.resumed

    async def create(self, row: ShardRow) -> ShardRow:
        """From UPLOADED to SUBMITTED, or to where the answer leads, or unchanged with a later ``due``.

        Raises ApiError when no create can succeed, and for a 429: the driver waits, and decides when to give up.
        Raises Restored before the first create when the service has jobs that the manifest has forgotten.
        """
        if row.state is State.CREATE_INTENT:
            return await self._ambiguous(row, "the program stopped between the intent and the answer")
        if not self._trusted:
            await refuse_unknown(self._ctx)
            self._trusted = True
        if await self._expires_soon(row):
            return await self._discard_file(row, "the input file is about to expire, or has")
        if not self._proven:
            self._proven = (await self._ctx.manifest.statistics(row.run)).jobs_created > 0
        sent_before = row.tag is not None or row.attempt > 1 or self._ctx.run.recovered
        if sent_before and (instead := await self._lookback.look(row)):
            return instead
        shard = await self._ctx.manifest.shard(row)
        tag, before = naming.job_tag(self._ctx.run.token, shard, row.attempt), row.intent_at
        try:
            requests = await open_requests(self._ctx, shard)
        except IntegrityError as error:
            return await self._ctx.record(row, Quarantined(reason=str(error)))
        try:
            row = await self._ctx.record(row, CreateIntended(tag=tag, intent_at=self._ctx.clock.now()))
            return await self._post(row, tag, before, requests)
        finally:
            if requests is not None:
                requests.close()

    async def _post(self, row: ShardRow, tag: str, before: float | None, requests: ShardReader | None) -> ShardRow:
        """``before`` is when the last create was intended that may have been accepted."""
        ctx, file = self._ctx, row.file or ""
        try:
            job = await ctx.provider.create(
                model=ctx.run.model, task=ctx.run.task, tag=tag, file=file, requests=requests
            )
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
        match submission.classify(error, proven=self._proven):
            case Outcome.AMBIGUOUS:
                return await self._ambiguous(row, str(error))
            case Outcome.THROTTLED:
                # An overloaded service may have accepted it: the list is searched before the next create.
                await self._defer(row, error, row.intent_at)
                raise error if is_transient(error) else TransportError(str(error))
            case Outcome.FILE_GONE:
                return await self._discard_file(row, str(error))
            case Outcome.REFUSED:
                return await self._rejected(row, error)
            case Outcome.SUSPECT if not self._unproven:
                # It may be this shard alone: another one is tried before the run ends.
                self._unproven += 1
                return await self._defer(row, error, row.intent_at, pause=False)
            case Outcome.BARRED | Outcome.SUSPECT:
                await self._defer(row, error, row.intent_at)
                raise error
            case Outcome.NOT_SENT:
                await self._defer(row, error, before)
                raise error

    async def _rejected(self, row: ShardRow, error: PacktrainError) -> ShardRow:
        """Its lines fail with the reason, unless the list shows a job that was made in spite of the refusal."""
        try:
            found = await self._lookback.find(row)
        except PacktrainError:
            await self._defer(row, error, row.intent_at)
            raise
        return found or await self._ctx.record(row, CreateRejected(reason=str(error)))

    async def _defer(
        self, row: ShardRow, error: PacktrainError, maybe: float | None, *, pause: bool = True
    ) -> ShardRow:
        """``maybe`` is when the last create was intended that may have been accepted all the same."""
        seconds = wait_after(error, self._throttled, self._ctx.clock.jitter())
        if pause:
            self._throttled, self.ready_at = self._throttled + 1, self._ctx.clock.monotonic() + seconds
        due = self._ctx.clock.now() + seconds
        return await self._ctx.record(row, CreateDeferred(due=due, reason=str(error), intent_at=maybe))

    async def _ambiguous(self, row: ShardRow, reason: str) -> ShardRow:
        now = self._ctx.clock.now()
        log.warning(
            "shard %d: it is not known whether its job was created (%s); the list of jobs is searched for it; if it "
            "stays absent the shard goes on at about %s at the earliest",
            row.shard,
            reason,
            time.strftime("%H:%M:%S", time.localtime(now + self._ctx.service.settle)),
            extra={"action": "Ambiguous", "run": row.run},
        )
        return await self._ctx.record(row, CreateAmbiguous(ambiguous_at=now, reason=reason))

    async def _discard_file(self, row: ShardRow, reason: str) -> ShardRow:
        """A file that a create has named stays until the list has been searched: a job may read it."""
        file = row.file
        row = await self._ctx.record(row, FileUnusable(reason=reason))
        if file and row.intent_at is None:
            await self._ctx.provider.delete_file(file)
        return row

    async def _expires_soon(self, row: ShardRow) -> bool:
        """Whether the input file is too old for a create, or is gone: a look says so where the clocks do not, and after
        a wait, since a job that never started may have found no file."""
        soon = submission.expires_soon(row, moment(self._ctx), self._ctx.policy)
        waited = row.due and self._ctx.provider.capabilities.upload != "inline"
        if soon is None or (waited and not soon):
            return await self._ctx.provider.find_file(row.file or "") is None
        return soon
