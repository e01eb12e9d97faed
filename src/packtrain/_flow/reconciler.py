"""Reconciliation of shards with the list of jobs at the service."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import msgspec

from .._errors import ApiError, PacktrainError, ProtocolError, Restored, TransportError
from .._model import DuplicateState, JobState, RemoteJob, ShardRow, State
from .._options import ATTEMPTS, LONGEST_JOB, LONGEST_WAIT
from .._rules import naming, submission
from .._rules.lifecycle import (
    AMBIGUOUS,
    WATCHED,
    AttemptAbandoned,
    Event,
    JobEnded,
    Quarantined,
    Revoked,
    RevokeIntended,
)
from .._rules.submission import Search, Sight, suspicion, unknown
from .._validation import counted
from .duplicates import adopt_job, cancelling, find_own, sweep
from .job_list import Listing, known_jobs, list_jobs, look_through
from .run import log

if TYPE_CHECKING:
    from .._model import Shard, ShardRow
    from .._rules.lifecycle import Event
    from .job_list import Listing
    from .run import RunContext


async def suspect(ctx: RunContext, shard: Shard) -> list[Event]:
    """What is known of a shard that was just sealed: it is in doubt, if the run was recovered.

    The doubt is about the latest attempt whose input file stands at the service: it is the file to be revoked.
    """
    if not ctx.run.recovered:
        return []
    attempt = ATTEMPTS
    while attempt > 1 and not await ctx.provider.find_file(_file(ctx, shard, attempt)):
        attempt -= 1
    return [suspicion(ctx.run.token, shard, attempt, ctx.clock.now())]


async def next_generation(ctx: RunContext, row: ShardRow) -> naming.Tag | None:
    """The tag of a job of the shard's next generation, which a recovered manifest does not know of yet."""
    if not ctx.run.recovered:
        return None
    place = (row.shard, row.generation + 1)
    for duplicate in await ctx.manifest.duplicate_jobs(ctx.run.id):
        if (duplicate.shard, duplicate.generation) == place and duplicate.state is DuplicateState.SEEN:
            job = await ctx.provider.find_job(duplicate.job)
            return naming.read_tag(ctx.run.token, job.display_name) if job else None
    return None


async def refuse_unknown(ctx: RunContext) -> None:
    """One pass over the list: raises Restored when it shows jobs whose creates the manifest never intended.

    A directory that was put back in place, its files written over, has inode and witness of then, and shows no trace.
    """
    if ctx.run.recovered:
        return
    listing = await look_through(ctx.provider, ctx.run.token)
    found = unknown(ctx.run.token, listing.jobs.values(), await ctx.manifest.rows(ctx.run.id))
    if found:
        rows = counted(len(found), "job")
        raise Restored(
            f"{ctx.files.manifest}: the service has {rows} of this run that this manifest does not know of "
            f"({found[0].name} is {found[0].display_name}), so it was put back from an older copy, and would have jobs "
            "created, and paid for, again",
            state=ctx.spool.root,
        )


def _file(ctx: RunContext, shard: Shard, attempt: int) -> str:
    return naming.file_name(ctx.run.token, shard.index, shard.generation, attempt)


#: The shard, its generation, and when the create was intended that is in question.
Question = tuple[int, int, float]


class Lookback:
    """Looks for what earlier creates of one run have made."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._searches: dict[Question, Search] = {}

    async def look(self, row: ShardRow) -> ShardRow | None:
        """None when a create may be sent. Otherwise the job as it stands now: adopted, a person's business, or due
        later, at its ``due``. Raises what breaks the pass off."""
        await self._revoke_last(row)
        known = await known_jobs(self._ctx)
        try:
            listing = await list_jobs(self._ctx.provider, self._ctx.run.token)
        except PacktrainError:
            self._count(row, Sight.VOID)
            raise
        if found := await find_own(self._ctx, row, listing):
            return await adopt_job(self._ctx, row, found)
        if row.intent_at is None:
            return None
        return await self._judge(row, self._count(row, await self._worth(listing, known, row.intent_at)))

    async def _revoke_last(self, row: ShardRow) -> None:
        """The file of the attempt before, so that no create of it is accepted any more."""
        if row.attempt > 1:
            await self._ctx.provider.delete_file(
                naming.file_name(self._ctx.run.token, row.shard, row.generation, row.attempt - 1)
            )

    async def _worth(self, listing: Listing, known: dict[str, float], since: float) -> Sight:
        """Jobs that were given up are known as well, but the list need not show them."""
        shown = frozenset(listing.jobs)
        duplicate_jobs = {duplicate.job for duplicate in await self._ctx.manifest.duplicate_jobs(self._ctx.run.id)}
        return submission.sight(shown, dict.fromkeys(duplicate_jobs & shown, 0.0) | known, since)

    def _count(self, row: ShardRow, worth: Sight) -> Search:
        question, now = _question(row), self._ctx.clock.monotonic()
        search = (self._searches.get(question) or Search(now)).after(now, worth)
        self._searches[question] = search
        return search

    async def _judge(self, row: ShardRow, search: Search) -> ShardRow | None:
        settle = self._ctx.service.settle
        if search.last is Sight.CONTROLLED or search.absent(settle):
            del self._searches[_question(row)]
            return None
        if search.hopeless():
            reason = f"whether attempt {row.attempt} made a job can't be told: the list of jobs shows none that we know"
            return await self._ctx.record(row, Quarantined(reason=reason))
        seconds = search.next_look(settle, self._ctx.clock.jitter()) - self._ctx.clock.monotonic()
        self._tell(row, search, seconds)
        return msgspec.structs.replace(row, due=self._ctx.clock.now() + min(seconds, LONGEST_WAIT))

    def _tell(self, row: ShardRow, search: Search, seconds: float) -> None:
        """The first look in so many words, for it may begin a long silence."""
        told = "shard %d: an earlier create may have made a job, and the list can't tell yet; looking again in %.0f s"
        level = logging.INFO
        if search.looked == search.since:
            level, told = logging.WARNING, f"{told}; the next create goes out {self._until(search)}"
        log.log(level, told, row.shard, seconds, extra={"action": "LookBack", "run": row.run})

    def _until(self, search: Search) -> str:
        sooner = "once the list shows a job that we know"
        earliest = search.earliest(self._ctx.service.settle)
        if earliest is None:
            return sooner
        at = self._ctx.clock.now() + earliest - self._ctx.clock.monotonic()
        return f"at about {time.strftime('%H:%M:%S', time.localtime(at))}, or sooner, {sooner}"


def _question(row: ShardRow) -> Question:
    return row.shard, row.generation, row.intent_at or 0.0


Place = tuple[int, int, int, State]

#: Seconds between two looks, whatever is due.
_SHORTEST = 0.05
#: A job that the list and a look-up by name both miss: so many times, over so long, before a person must look.
_LOST_LOOKS, _LOST_SECONDS = 3, 900.0
#: How long a job may have succeeded before its results file shows.
_EMPTY_LOOKS, _EMPTY_SECONDS = 2, 600.0
#: An end without results makes the lines be asked, and paid for, again. It takes two looks this part of the settling
#: time apart, a minute by default.
_ENDED_LOOKS, _ENDED_PART = 2, 1 / 15
#: Between two looks for jobs too many, while a job lives.
_SWEEP_SECONDS = 600.0


class Watcher:
    """Looks at the jobs of one run from time to time, and records what became of them."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._searches: dict[Place, Search] = {}
        #: When to look again for a job in doubt; at once where nothing stands here.
        self._due: dict[Place, float] = {}
        self._quiet = 0
        self._look_at = 0.0
        self._sweep_at = 0.0
        #: Complete answers from the list so far.
        self.passes = 0

    async def look(self) -> float:
        """Look if it is time; returns the seconds until the next look."""
        manifest, run = self._ctx.manifest, self._ctx.run.id
        counts = await manifest.statistics(run)
        watched = counts.count(*WATCHED) > 0
        doubtful = await manifest.rows(run, AMBIGUOUS) if counts.count(*AMBIGUOUS) else []
        duplicate_jobs = await cancelling(self._ctx)
        now = self._ctx.clock.monotonic()
        due = [row for row in doubtful if self._due.get(_place(row), 0.0) <= now]
        sweeping = self._sweep_at <= now and await self._lives(watched or bool(doubtful))
        if due or sweeping or ((watched or duplicate_jobs) and self._look_at <= now):
            await self._examine(due, whole=sweeping or bool(duplicate_jobs))
        waits = [self._due.get(_place(row), 0.0) for row in doubtful]
        waits += [self._look_at] if watched or duplicate_jobs else []
        waits += [self._sweep_at] if watched or doubtful else []
        return max(_SHORTEST, min(waits, default=now + self._ctx.service.poll[0]) - now)

    async def _lives(self, known: bool) -> bool:
        """A job of ours lives, or did when this program was not looking."""
        if known or self._sweep_at:
            return known
        created = any(row.tag for row in await self._ctx.manifest.rows(self._ctx.run.id))
        if not created:
            self._sweep_at = self._ctx.clock.monotonic() + _SWEEP_SECONDS
        return created

    async def _examine(self, doubtful: list[ShardRow], *, whole: bool) -> None:
        watched = await self._ctx.manifest.rows(self._ctx.run.id, WATCHED)
        known = await known_jobs(self._ctx) if doubtful else {}
        listing = await self._pass(watched, doubtful, whole=whole)
        errors: list[PacktrainError] = []
        changed = [await self._progress(row, listing, errors) for row in watched]
        changed += [await self._search(row, listing, known) for row in doubtful]
        self._quiet = 0 if any(changed) else self._quiet + 1
        delay = submission.next_delay(self._quiet, self._ctx.service.poll, self._ctx.clock.jitter())
        self._look_at = self._ctx.clock.monotonic() + delay
        if whole:
            await sweep(self._ctx, listing.jobs.values())
            self._sweep_at = self._ctx.clock.monotonic() + _SWEEP_SECONDS
        if errors:
            raise errors[0]
        if doubtful:
            listing.refuse_hidden()

    async def _pass(self, watched: list[ShardRow], doubtful: list[ShardRow], *, whole: bool) -> Listing:
        """A pass over the list: to its end, or until it has shown the jobs that are watched."""
        names = {row.job for row in watched if row.job}
        try:
            until = () if doubtful or whole else names
            listing = await look_through(self._ctx.provider, self._ctx.run.token, until=until)
        except PacktrainError:
            for row in doubtful:
                await self._count(row, Sight.VOID)
            raise
        self.passes += 1
        return listing

    # Jobs that exist

    async def _progress(self, row: ShardRow, listing: Listing, errors: list[PacktrainError]) -> bool:
        """Record what became of a job; True when that is something new. One that can't be looked at adds its error,
        and the others go on."""
        try:
            event = self._verdict(row, await self._seen(row, listing))
        except (ApiError, ProtocolError, TransportError) as error:
            errors.append(error)
            event = self._overdue(row, f"can't be looked at ({error})")
        if event is None:
            return False
        await self._ctx.record(row, event)
        return True

    async def _seen(self, row: ShardRow, listing: Listing) -> RemoteJob | None:
        """The list alone is believed when it shows results, or a job at work."""
        job = listing.jobs.get(row.job or "")
        if job is not None and not _fruitless(job):
            return job
        return await self._ctx.provider.find_job(row.job or "") or job

    def _verdict(self, row: ShardRow, job: RemoteJob | None) -> Event | None:
        if job is None:
            if self._confirmed(row, "lost", looks=_LOST_LOOKS, seconds=_LOST_SECONDS):
                return Quarantined(reason=f"{row.job} is neither in the list nor found by name; it was paid for")
            return None
        if _fruitless(job):
            return self._fruitless_end(row, job)
        self._ctx.sightings.forget(row.job or "")
        if job.state.terminal:
            return JobEnded(result=job.result_file)
        return self._overdue(row, job.state, job.created_at or 0.0)

    def _overdue(self, row: ShardRow, what: str, made: float = 0.0) -> Event | None:
        """By the service's clock alone: ours, set forward, would hand all that is at work to a person."""
        since = max(made, row.submitted_at or 0.0)
        if not since or self._ctx.service_now() - since <= LONGEST_JOB:
            return None
        reason = f"{row.job}: {what} for more than {LONGEST_JOB / 3600:.0f} hours"
        if self._ctx.provider.now() is not None:
            return Quarantined(reason=reason)
        log.warning("%s, by this machine's clock", reason, extra={"action": "Overdue", "run": row.run})
        return None

    def _fruitless_end(self, row: ShardRow, job: RemoteJob) -> Event | None:
        if job.state is JobState.SUCCEEDED:
            if self._confirmed(row, "empty", looks=_EMPTY_LOOKS, seconds=_EMPTY_SECONDS):
                return Quarantined(reason=f"{row.job} succeeded, but shows no results file")
            return None
        seconds = self._ctx.service.settle * _ENDED_PART
        if self._confirmed(row, job.state, looks=_ENDED_LOOKS, seconds=seconds):
            return JobEnded(result=None, reason=f"the job {job.state}: {job.reason or 'no reason given'}")
        return None

    def _confirmed(self, row: ShardRow, what: str, *, looks: int, seconds: float) -> bool:
        now = self._ctx.clock.monotonic()
        return self._ctx.sightings.confirmed(row.job or "", what, now, looks=looks, seconds=seconds)

    # Jobs in doubt

    async def _search(self, row: ShardRow, listing: Listing, known: dict[str, float]) -> bool:
        """Whether the pass has brought the job in doubt a step further."""
        if row.state is State.REVOKE_INTENT:
            return await self._fence(row)
        if matches := await find_own(self._ctx, row, listing):
            await adopt_job(self._ctx, row, matches)
            self._forget(row)
            return True
        since = row.ambiguous_at or self._ctx.clock.now()
        worth = submission.sight(frozenset(listing.jobs), known, since)
        return await self._count(row, Sight.VOID if listing.hidden else worth)

    async def _count(self, row: ShardRow, worth: Sight) -> bool:
        """One more look that did not show the job."""
        if row.state is State.REVOKE_INTENT:
            return False
        search = self._searched(row).after(self._ctx.clock.monotonic(), worth)
        if search.absent(self._patience(row)):
            self._forget(row)
            await self._conclude(row)
            return True
        if search.hopeless():
            reason = (
                f"whether attempt {row.attempt} made a job can't be told: the list of jobs has said nothing for a day"
            )
            await self._ctx.record(row, Quarantined(reason=reason))
            return True
        self._searches[_place(row)] = search
        self._due[_place(row)] = search.next_look(self._patience(row), self._ctx.clock.jitter())
        return False

    def _searched(self, row: ShardRow) -> Search:
        """It begins anew with each process: only a clock that never jumps can say how long was waited."""
        return self._searches.get(_place(row)) or Search(self._ctx.clock.monotonic())

    def _forget(self, row: ShardRow) -> None:
        self._searches.pop(_place(row), None)
        self._due.pop(_place(row), None)

    def _patience(self, row: ShardRow) -> float:
        settle = self._ctx.service.settle
        return settle / 3 if row.state is State.REVOKED else settle

    async def _conclude(self, row: ShardRow) -> None:
        """No job of this attempt has shown up."""
        reason = f"the create of attempt {row.attempt} left no job in the list"
        if row.state is State.REVOKED:
            await self._ctx.record(row, AttemptAbandoned(reason=reason))
            return
        match self._ctx.options.on_ambiguous:
            case "wait":
                await self._ctx.record(row, AttemptAbandoned(reason=reason))
                await self._ctx.provider.delete_file(row.file or "")
            case "quarantine":
                await self._ctx.record(row, Quarantined(reason=f"{reason}; nobody can say whether one was made"))
            case "revoke":
                await self._fence(await self._ctx.record(row, RevokeIntended()))

    async def _fence(self, row: ShardRow) -> bool:
        """Revoke the input file, so that a create which is still on its way is refused."""
        assert row.file is not None
        self._due[_place(row)] = self._ctx.clock.monotonic() + self._ctx.service.settle / 10
        await self._ctx.provider.delete_file(row.file)
        if await self._ctx.provider.find_file(row.file):
            return False
        await self._ctx.record(row, Revoked(ambiguous_at=self._ctx.clock.now()))
        self._forget(row)
        return True


def _fruitless(job: RemoteJob) -> bool:
    """Whether it is said to have ended without results."""
    return job.state.terminal and not job.result_file


def _place(row: ShardRow) -> Place:
    """What has been seen counts for one stay in one state: another driver may have gone on meanwhile."""
    return row.shard, row.generation, row.attempt, row.state
