"""Before a create is sent again: whether an earlier one of the shard made a job after all.

A 429 is taken for a no, and yet a service may have accepted what it answered so. One pass over the list that shows a
job which we know, and none of this shard, settles it. Without one the create waits until ``polling.Search`` says that
there is no job, as for one without an answer; the other shards go on, and the first job of theirs is what we know.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import msgspec

from .._errors import PacktrainError
from .._options import LONGEST_WAIT
from .._rules import naming, polling
from .._rules.lifecycle import Quarantined
from .._rules.polling import Search, Sight
from .context import log
from .extras import adopt_job, find_own
from .listing import known_jobs, list_jobs

if TYPE_CHECKING:
    from .._model import Job
    from .context import Context
    from .listing import Listing

#: The shard, its generation, and when the create was intended that is in question.
Question = tuple[int, int, float]


class Lookback:
    """Looks for what earlier creates of one run have made."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._searches: dict[Question, Search] = {}

    async def look(self, job: Job) -> Job | None:
        """None when a create may be sent. Otherwise the job as it stands now: adopted, a person's business, or due
        later, at its ``not_before``. Raises what breaks the pass off."""
        await self._revoke_last(job)
        known = await known_jobs(self._ctx)
        try:
            listing = await list_jobs(self._ctx.remote, self._ctx.run.token)
        except PacktrainError:
            self._count(job, Sight.VOID)
            raise
        if found := await find_own(self._ctx, job, listing):
            return await adopt_job(self._ctx, job, found)
        if job.intent_at is None:
            return None
        return await self._judge(job, self._count(job, await self._worth(listing, known, job.intent_at)))

    async def _revoke_last(self, job: Job) -> None:
        """The file of the attempt before, so that no create of it is accepted any more."""
        if job.attempt > 1:
            await self._ctx.remote.delete_file(
                naming.file_name(self._ctx.run.token, job.shard, job.generation, job.attempt - 1)
            )

    async def _worth(self, listing: Listing, known: dict[str, float], since: float) -> Sight:
        """Jobs that were given up are known as well, but the list need not show them."""
        shown = frozenset(listing.batches)
        extras = {extra.batch for extra in await self._ctx.manifest.extras(self._ctx.run.id)}
        return polling.sight(shown, dict.fromkeys(extras & shown, 0.0) | known, since)

    def _count(self, job: Job, worth: Sight) -> Search:
        question, now = _question(job), self._ctx.clock.monotonic()
        search = (self._searches.get(question) or Search(now)).after(now, worth)
        self._searches[question] = search
        return search

    async def _judge(self, job: Job, search: Search) -> Job | None:
        settle = self._ctx.service.settle
        if search.last is Sight.CONTROLLED or search.absent(settle):
            del self._searches[_question(job)]
            return None
        if search.hopeless():
            reason = f"whether attempt {job.attempt} made a job can't be told: the list of jobs shows none that we know"
            return await self._ctx.record(job, Quarantined(reason=reason))
        seconds = search.next_look(settle, self._ctx.clock.jitter()) - self._ctx.clock.monotonic()
        self._tell(job, search, seconds)
        return msgspec.structs.replace(job, not_before=self._ctx.clock.now() + min(seconds, LONGEST_WAIT))

    def _tell(self, job: Job, search: Search, seconds: float) -> None:
        """The first look in so many words, for it may begin a long silence."""
        told = "shard %d: an earlier create may have made a job, and the list can't tell yet; looking again in %.0f s"
        level = logging.INFO
        if search.looked == search.since:
            level, told = logging.WARNING, f"{told}; the next create goes out {self._until(search)}"
        log.log(level, told, job.shard, seconds, extra={"action": "LookBack", "run": job.run})

    def _until(self, search: Search) -> str:
        sooner = "once the list shows a job that we know"
        earliest = search.earliest(self._ctx.service.settle)
        if earliest is None:
            return sooner
        at = self._ctx.clock.now() + earliest - self._ctx.clock.monotonic()
        return f"at about {time.strftime('%H:%M:%S', time.localtime(at))}, or sooner, {sooner}"


def _question(job: Job) -> Question:
    return job.shard, job.generation, job.intent_at or 0.0
