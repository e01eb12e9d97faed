"""What the service's list of jobs says about ours: how far they are, and whether one in doubt was made.

One pass over the list serves all jobs of a run. A pass that breaks off says nothing, nor does one that shows none of
the jobs that we know; absence is believed only after ``polling.Search`` says so. Then the attempt's input file is
revoked, so that a create still on its way is refused, and one more look decides. Now and then a pass also looks for
jobs too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import ApiError, PacktrainError, ProtocolError, TransportError
from .._model import BatchState, Job, RemoteBatch, State
from .._options import JOB_PATIENCE
from .._rules import polling
from .._rules.lifecycle import (
    DOUBT,
    WATCH,
    AttemptAbandoned,
    Event,
    Fenced,
    FenceIntended,
    JobEnded,
    Quarantined,
)
from .._rules.polling import Search, Sight
from .context import log
from .extras import adopt_job, cancelling, find_own, sweep
from .listing import Listing, known_jobs, look_through

if TYPE_CHECKING:
    from .context import Context

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

    def __init__(self, ctx: Context) -> None:
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
        watched = counts.count(*WATCH) > 0
        doubtful = await manifest.jobs(run, DOUBT) if counts.count(*DOUBT) else []
        extras = await cancelling(self._ctx)
        now = self._ctx.clock.monotonic()
        due = [job for job in doubtful if self._due.get(_place(job), 0.0) <= now]
        sweeping = self._sweep_at <= now and await self._lives(watched or bool(doubtful))
        if due or sweeping or ((watched or extras) and self._look_at <= now):
            await self._examine(due, whole=sweeping or bool(extras))
        waits = [self._due.get(_place(job), 0.0) for job in doubtful]
        waits += [self._look_at] if watched or extras else []
        waits += [self._sweep_at] if watched or doubtful else []
        return max(_SHORTEST, min(waits, default=now + self._ctx.service.poll[0]) - now)

    async def _lives(self, known: bool) -> bool:
        """A job of ours lives, or did when this program was not looking."""
        if known or self._sweep_at:
            return known
        created = any(job.tag for job in await self._ctx.manifest.jobs(self._ctx.run.id))
        if not created:
            self._sweep_at = self._ctx.clock.monotonic() + _SWEEP_SECONDS
        return created

    async def _examine(self, doubtful: list[Job], *, whole: bool) -> None:
        watched = await self._ctx.manifest.jobs(self._ctx.run.id, WATCH)
        known = await known_jobs(self._ctx) if doubtful else {}
        listing = await self._pass(watched, doubtful, whole=whole)
        errors: list[PacktrainError] = []
        changed = [await self._progress(job, listing, errors) for job in watched]
        changed += [await self._search(job, listing, known) for job in doubtful]
        self._quiet = 0 if any(changed) else self._quiet + 1
        delay = polling.next_delay(self._quiet, self._ctx.service.poll, self._ctx.clock.jitter())
        self._look_at = self._ctx.clock.monotonic() + delay
        if whole:
            await sweep(self._ctx, listing.batches.values())
            self._sweep_at = self._ctx.clock.monotonic() + _SWEEP_SECONDS
        if errors:
            raise errors[0]
        if doubtful:
            listing.refuse_hidden()

    async def _pass(self, watched: list[Job], doubtful: list[Job], *, whole: bool) -> Listing:
        """A pass over the list: to its end, or until it has shown the jobs that are watched."""
        names = {job.batch for job in watched if job.batch}
        try:
            until = () if doubtful or whole else names
            listing = await look_through(self._ctx.remote, self._ctx.run.token, until=until)
        except PacktrainError:
            for job in doubtful:
                await self._count(job, Sight.VOID)
            raise
        self.passes += 1
        return listing

    # Jobs that exist

    async def _progress(self, job: Job, listing: Listing, errors: list[PacktrainError]) -> bool:
        """Record what became of a job; True when that is something new. One that can't be looked at adds its error,
        and the others go on."""
        try:
            event = self._verdict(job, await self._seen(job, listing))
        except (ApiError, ProtocolError, TransportError) as error:
            errors.append(error)
            event = self._overdue(job, f"can't be looked at ({error})")
        if event is None:
            return False
        await self._ctx.record(job, event)
        return True

    async def _seen(self, job: Job, listing: Listing) -> RemoteBatch | None:
        """The list alone is believed when it shows results, or a job at work."""
        batch = listing.batches.get(job.batch or "")
        if batch is not None and not _fruitless(batch):
            return batch
        return await self._ctx.remote.find_batch(job.batch or "") or batch

    def _verdict(self, job: Job, batch: RemoteBatch | None) -> Event | None:
        if batch is None:
            if self._confirmed(job, "lost", looks=_LOST_LOOKS, seconds=_LOST_SECONDS):
                return Quarantined(reason=f"{job.batch} is neither in the list nor found by name; it was paid for")
            return None
        if _fruitless(batch):
            return self._fruitless_end(job, batch)
        self._ctx.oddities.forget(job.batch or "")
        if batch.state.terminal:
            return JobEnded(result=batch.result_file)
        return self._overdue(job, batch.state, batch.created_at or 0.0)

    def _overdue(self, job: Job, what: str, made: float = 0.0) -> Event | None:
        """By the service's clock alone: ours, set forward, would hand all that is at work to a person."""
        since = max(made, job.submitted_at or 0.0)
        if not since or self._ctx.service_now() - since <= JOB_PATIENCE:
            return None
        reason = f"{job.batch}: {what} for more than {JOB_PATIENCE / 3600:.0f} hours"
        if self._ctx.remote.now() is not None:
            return Quarantined(reason=reason)
        log.warning("%s, by this machine's clock", reason, extra={"action": "Overdue", "run": job.run})
        return None

    def _fruitless_end(self, job: Job, batch: RemoteBatch) -> Event | None:
        if batch.state is BatchState.SUCCEEDED:
            if self._confirmed(job, "empty", looks=_EMPTY_LOOKS, seconds=_EMPTY_SECONDS):
                return Quarantined(reason=f"{job.batch} succeeded, but shows no results file")
            return None
        seconds = self._ctx.service.settle * _ENDED_PART
        if self._confirmed(job, batch.state, looks=_ENDED_LOOKS, seconds=seconds):
            return JobEnded(result=None, reason=f"the job {batch.state}: {batch.reason or 'no reason given'}")
        return None

    def _confirmed(self, job: Job, what: str, *, looks: int, seconds: float) -> bool:
        now = self._ctx.clock.monotonic()
        return self._ctx.oddities.confirmed(job.batch or "", what, now, looks=looks, seconds=seconds)

    # Jobs in doubt

    async def _search(self, job: Job, listing: Listing, known: dict[str, float]) -> bool:
        """Whether the pass has brought the job in doubt a step further."""
        if job.state is State.FENCE_INTENT:
            return await self._fence(job)
        if matches := await find_own(self._ctx, job, listing):
            await adopt_job(self._ctx, job, matches)
            self._forget(job)
            return True
        since = job.doubtful_at or self._ctx.clock.now()
        worth = polling.sight(frozenset(listing.batches), known, since)
        return await self._count(job, Sight.VOID if listing.hidden else worth)

    async def _count(self, job: Job, worth: Sight) -> bool:
        """One more look that did not show the job."""
        if job.state is State.FENCE_INTENT:
            return False
        search = self._searched(job).after(self._ctx.clock.monotonic(), worth)
        if search.absent(self._patience(job)):
            self._forget(job)
            await self._conclude(job)
            return True
        if search.hopeless():
            reason = (
                f"whether attempt {job.attempt} made a job can't be told: the list of jobs has said nothing for a day"
            )
            await self._ctx.record(job, Quarantined(reason=reason))
            return True
        self._searches[_place(job)] = search
        self._due[_place(job)] = search.next_look(self._patience(job), self._ctx.clock.jitter())
        return False

    def _searched(self, job: Job) -> Search:
        """It begins anew with each process: only a clock that never jumps can say how long was waited."""
        return self._searches.get(_place(job)) or Search(self._ctx.clock.monotonic())

    def _forget(self, job: Job) -> None:
        self._searches.pop(_place(job), None)
        self._due.pop(_place(job), None)

    def _patience(self, job: Job) -> float:
        settle = self._ctx.service.settle
        return settle / 3 if job.state is State.FENCED else settle

    async def _conclude(self, job: Job) -> None:
        """No job of this attempt has shown up."""
        reason = f"the create of attempt {job.attempt} left no job in the list"
        if job.state is State.FENCED:
            await self._ctx.record(job, AttemptAbandoned(reason=reason))
            return
        match self._ctx.options.on_ambiguous:
            case "settle":
                await self._ctx.record(job, AttemptAbandoned(reason=reason))
                await self._ctx.remote.delete_file(job.file or "")
            case "quarantine":
                await self._ctx.record(job, Quarantined(reason=f"{reason}; nobody can say whether one was made"))
            case "fence":
                await self._fence(await self._ctx.record(job, FenceIntended()))

    async def _fence(self, job: Job) -> bool:
        """Revoke the input file, so that a create which is still on its way is refused."""
        assert job.file is not None
        self._due[_place(job)] = self._ctx.clock.monotonic() + self._ctx.service.settle / 10
        await self._ctx.remote.delete_file(job.file)
        if await self._ctx.remote.find_file(job.file):
            return False
        await self._ctx.record(job, Fenced(doubtful_at=self._ctx.clock.now()))
        self._forget(job)
        return True


def _fruitless(batch: RemoteBatch) -> bool:
    """Whether it is said to have ended without results."""
    return batch.state.terminal and not batch.result_file


def _place(job: Job) -> Place:
    """What has been seen counts for one stay in one state: another driver may have gone on meanwhile."""
    return job.shard, job.generation, job.attempt, job.state
