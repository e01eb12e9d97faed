"""What the service's list of jobs says about ours: how far they are, and whether one in doubt was made.

One pass over the list serves all jobs of a run. A pass that breaks off says nothing; absence counts only when a
pass is complete, and is believed only after ``polling.Search`` says so. Then the attempt's input file is revoked,
so that a create still on its way is refused, and one more look decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from .._errors import ProtocolError
from .._model import BatchState, Job, RemoteBatch, State
from .._options import JOB_PATIENCE
from .._rules import naming, polling
from .._rules.lifecycle import (
    DOUBT,
    WATCH,
    AttemptAbandoned,
    Event,
    Fenced,
    FenceIntended,
    JobEnded,
    JobKnown,
    Quarantined,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from .context import Context

_MAX_PAGES = 10_000
#: Seconds between two looks, whatever is due.
_SHORTEST = 0.05
#: A job that the list and a look-up by name both miss: so many times, over so long, before a person must look.
_LOST_LOOKS, _LOST_SECONDS = 3, 900.0
#: How long a job may have succeeded before its results file shows.
_RESULT_SECONDS = 600.0


class Listing(Struct, frozen=True):
    """The jobs of this run that a pass showed."""

    batches: dict[str, RemoteBatch]

    def tagged(self, prefix: str) -> list[RemoteBatch]:
        return [batch for batch in self.batches.values() if batch.display_name.startswith(prefix)]


async def list_jobs(ctx: Context, *, until: Collection[str] = ()) -> Listing:
    """One pass; it ends early when ``until``, names of jobs, have all been seen. Raises on any broken page."""
    prefix, missing = naming.run_prefix(ctx.run.token), set(until)
    batches: dict[str, RemoteBatch] = {}
    tokens: set[str] = set()
    token: str | None = None
    while len(tokens) < _MAX_PAGES:
        page = await ctx.remote.list_page(token)
        batches |= {batch.name: batch for batch in page.batches if batch.display_name.startswith(prefix)}
        missing.difference_update(batch.name for batch in page.batches)
        token = page.next_token
        if token is None or (until and not missing):
            return Listing(batches)
        if token in tokens:
            raise ProtocolError("list of jobs: the service repeats a page for ever; the pass says nothing")
        tokens.add(token)
    raise ProtocolError(f"list of jobs: more than {_MAX_PAGES} pages; the pass says nothing")


async def find_tag(ctx: Context, tag: str) -> RemoteBatch | None:
    """The job with exactly this display name, from a complete pass."""
    matches = (await list_jobs(ctx)).tagged(tag)
    return polling.winner(matches) if matches else None


class Watcher:
    """Looks at the jobs of one run from time to time, and records what became of them."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._searches: dict[tuple[int, int], polling.Search] = {}
        self._oddities: dict[str, tuple[float, int]] = {}
        self._fence_at: dict[tuple[int, int], float] = {}
        self._quiet = 0
        self._look_at = 0.0
        #: Complete answers from the list so far.
        self.passes = 0

    async def look(self) -> float:
        """Look if it is time; returns the seconds until the next look."""
        watched = await self._ctx.manifest.jobs(self._ctx.run.id, WATCH)
        doubtful = await self._ctx.manifest.jobs(self._ctx.run.id, DOUBT)
        now = self._ctx.clock.now()
        due = [job for job in doubtful if self._due(job) <= now]
        if due or (watched and self._look_at <= now):
            await self._examine(watched, due)
        waits = [self._due(job) for job in doubtful] + ([self._look_at] if watched else [])
        return max(_SHORTEST, min(waits, default=now + self._ctx.service.poll[0]) - now)

    async def _examine(self, watched: list[Job], doubtful: list[Job]) -> None:
        names = {job.batch for job in watched if job.batch}
        listing = await list_jobs(self._ctx, until=() if doubtful else names)
        self.passes += 1
        controlled = any(name in listing.batches for name in await self._known())
        changed = [await self._progress(job, listing) for job in watched]
        changed += [await self._search(job, listing, controlled=controlled) for job in doubtful]
        self._quiet = 0 if any(changed) else self._quiet + 1
        delay = polling.next_delay(self._quiet, self._ctx.service.poll, self._ctx.clock.jitter())
        self._look_at = self._ctx.clock.now() + delay

    async def _known(self) -> set[str]:
        return {job.batch for job in await self._ctx.manifest.jobs(self._ctx.run.id) if job.batch}

    # Jobs that exist

    async def _progress(self, job: Job, listing: Listing) -> bool:
        """Record what became of a job; True when that is something new."""
        batch = listing.batches.get(job.batch or "") or await self._ctx.remote.find_batch(job.batch or "")
        event = self._verdict(job, batch)
        if event is None:
            return False
        await self._ctx.record(job, event)
        return True

    def _verdict(self, job: Job, batch: RemoteBatch | None) -> Event | None:
        now = self._ctx.clock.now()
        if batch is None:
            if self._odd(f"{job.batch} lost", _LOST_SECONDS, _LOST_LOOKS):
                return Quarantined(reason=f"{job.batch} is neither in the list nor found by name; it was paid for")
            return None
        self._oddities.pop(f"{job.batch} lost", None)
        if batch.result_file and batch.state.terminal:
            return JobEnded(result=batch.result_file)
        if batch.state is BatchState.SUCCEEDED:
            if self._odd(f"{job.batch} empty", _RESULT_SECONDS, 2):
                return Quarantined(reason=f"{job.batch} succeeded, but shows no results file")
            return None
        if batch.state.terminal:
            return JobEnded(result=None, reason=f"the job {batch.state}: {batch.reason or 'no reason given'}")
        if job.submitted_at is not None and now - job.submitted_at > JOB_PATIENCE:
            return Quarantined(reason=f"{job.batch} is {batch.state} for more than {JOB_PATIENCE / 3600:.0f} hours")
        return None

    def _odd(self, what: str, seconds: float, looks: int) -> bool:
        """Whether something strange has been seen so often, and for so long, that it must be taken as true."""
        now = self._ctx.clock.now()
        since, count = self._oddities.get(what, (now, 0))
        self._oddities[what] = (since, count + 1)
        return count + 1 >= looks and now - since >= seconds

    # Jobs in doubt

    def _due(self, job: Job) -> float:
        if job.state is State.FENCE_INTENT:
            return self._fence_at.get((job.shard, job.generation), 0.0)
        search = self._searches.get((job.shard, job.generation))
        if search is None or not search.passes:
            return 0.0
        return search.last + search.next_look(self._patience(job))

    def _patience(self, job: Job) -> float:
        settle = self._ctx.service.settle
        return settle / 3 if job.state is State.FENCED else settle

    async def _search(self, job: Job, listing: Listing, *, controlled: bool) -> bool:
        if job.state is State.FENCE_INTENT:
            return await self._fence(job)
        prefix = naming.shard_prefix(self._ctx.run.token, job.shard, job.generation)
        if matches := listing.tagged(prefix):
            await self._adopt(job, matches)
            return True
        place, now = (job.shard, job.generation), self._ctx.clock.now()
        search = self._searches.get(place) or polling.Search(job.doubtful_at or now)
        search = self._searches[place] = search.after(now, controlled=controlled)
        if not search.absent(self._patience(job)):
            return False
        del self._searches[place]
        return await self._conclude(job)

    async def _conclude(self, job: Job) -> bool:
        """No job of this attempt has shown up."""
        reason = f"the create of attempt {job.attempt} left no job in the list"
        if job.state is State.FENCED or self._ctx.options.on_ambiguous == "settle":
            await self._ctx.record(job, AttemptAbandoned(reason=reason))
        elif self._ctx.options.on_ambiguous == "quarantine":
            await self._ctx.record(job, Quarantined(reason=f"{reason}; nobody can say whether one was made"))
        else:
            await self._fence(await self._ctx.record(job, FenceIntended()))
        return True

    async def _fence(self, job: Job) -> bool:
        """Revoke the input file, so that a create which is still on its way is refused."""
        assert job.file is not None
        self._fence_at[job.shard, job.generation] = self._ctx.clock.now() + self._ctx.service.settle / 10
        await self._ctx.remote.delete_file(job.file)
        if await self._ctx.remote.find_file(job.file):
            return False
        await self._ctx.record(job, Fenced(doubtful_at=self._ctx.clock.now()))
        return True

    async def _adopt(self, job: Job, matches: list[RemoteBatch]) -> None:
        shard = await self._ctx.manifest.shard(job)
        batch = polling.winner(matches)
        if batch.requests not in (None, shard.lines):
            reason = f"{batch.name} bears our tag, but has {batch.requests} requests instead of {shard.lines}"
            await self._ctx.record(job, Quarantined(reason=reason))
            return
        self._searches.pop((job.shard, job.generation), None)
        await self._ctx.record(job, JobKnown(batch=batch.name, submitted_at=self._ctx.clock.now()))
        for extra in matches:
            if extra.name != batch.name and not extra.state.terminal:
                await self._ctx.remote.cancel(extra.name)
