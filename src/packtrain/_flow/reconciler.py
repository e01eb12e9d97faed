"""Reconciliation of shards with the list of jobs at the service: it gathers the evidence and performs the decision."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import msgspec

from .._errors import ApiError, PacktrainError, ProtocolError, Restored, TransportError
from .._model import DuplicateState, RemoteJob, ShardRow, State
from .._options import LONGEST_WAIT
from .._rules import naming, submission
from .._rules.lifecycle import (
    AMBIGUOUS,
    WATCHED,
    AttemptAbandoned,
    Event,
    JobAdopted,
    Quarantined,
    Revoked,
    RevokeIntended,
)
from .._rules.submission import (
    Adopt,
    Evidence,
    Moment,
    Overdue,
    Pass,
    Quarantine,
    Question,
    Retry,
    Revoke,
    Shown,
    Step,
    Terms,
    Wait,
)
from .._validation import counted
from .duplicates import cancelling, sweep
from .job_list import list_jobs, read_list
from .run import log

if TYPE_CHECKING:
    from .._model import DuplicateJob, Entry, Shard
    from .job_list import JobList
    from .run import RunContext


def moment(ctx: RunContext) -> Moment:
    return Moment(ctx.clock.monotonic(), ctx.clock.now(), ctx.provider.now())


def terms(ctx: RunContext) -> Terms:
    revocable = ctx.provider.uploads is not None
    return Terms(ctx.run, ctx.policy, ctx.service.settle, ctx.options.on_ambiguous, revocable)


# Creates that a recovered or restored manifest may have forgotten


async def suspect(ctx: RunContext, shard: Shard) -> list[Event]:
    """The event of a shard that was just sealed in a recovered run: its job may exist already.

    It names the latest attempt whose input file the service has: that file is to be revoked.
    """
    if not ctx.run.recovered:
        return []
    attempt = ctx.policy.attempts
    while attempt > 1 and not await ctx.provider.find_file(_file(ctx, shard, attempt)):
        attempt -= 1
    return [submission.suspicion(ctx.run.token, shard, attempt, ctx.clock.now())]


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

    A directory that was restored in place, file by file, has the inode and the witness of before, and no other trace.
    """
    if ctx.run.recovered:
        return
    found = await read_list(ctx)
    forgotten = submission.unknown(ctx.run.token, found.jobs.values(), await ctx.manifest.rows(ctx.run.id))
    if forgotten:
        rows = counted(len(forgotten), "job")
        raise Restored(
            f"{ctx.files.manifest}: the service has {rows} of this run that this manifest does not know of "
            f"({forgotten[0].name} is {forgotten[0].display_name}), so it was put back from an older copy, and would "
            "have jobs created, and paid for, again",
            state=ctx.spool.root,
        )


def _file(ctx: RunContext, shard: Shard, attempt: int) -> str:
    return naming.file_name(ctx.run.token, shard.index, shard.generation, attempt)


class Search:
    """The search for jobs that creates may have made. Evidence and due times are lost with the process."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._terms = terms(ctx)
        self._evidence: dict[Question, Evidence] = {}
        self._due: dict[Question, float] = {}

    def due(self, row: ShardRow) -> float:
        """When to look for the shard's job, by the monotonic clock; 0 for at once."""
        return self._due.get(submission.question(row), 0.0)

    async def find(self, row: ShardRow, found: JobList) -> Step | None:
        """The step if the pass shows a job of the shard."""
        duplicates = await self._ctx.manifest.duplicate_jobs(self._ctx.run.id)
        own = await self._own(row, found, duplicates)
        files = submission.input_files(self._ctx.run.token, row)
        return submission.adoption(own, self._ctx.run, await self._ctx.manifest.shard(row), files) if own else None

    async def _own(self, row: ShardRow, found: JobList, duplicates: list[DuplicateJob]) -> tuple[RemoteJob, ...]:
        """The jobs of the shard that the pass shows, each as read by its name."""
        ctx = self._ctx
        own = submission.own_jobs(ctx.run.token, row, found.jobs.values(), duplicates)
        if own:
            refused = submission.refused_jobs(await _history(ctx, row))
            own = [await ctx.provider.find_job(job.name) or job for job in own if job.name not in refused]
        return tuple(own)

    async def step(self, row: ShardRow, found: JobList, known: dict[str, float]) -> Step:
        """The step after a complete pass; ``known`` are the jobs that it should show."""
        ctx = self._ctx
        duplicates = await ctx.manifest.duplicate_jobs(ctx.run.id)
        shown = Shown(
            names=frozenset(found.jobs),
            own=await self._own(row, found, duplicates),
            known=known,
            duplicates=frozenset(duplicate.job for duplicate in duplicates),
            whole=found.unreadable is None,
        )
        evidence = submission.learn(self._so_far(row), row, shown, moment(ctx))
        return await self._decide(row, evidence)

    async def step_blind(self, row: ShardRow) -> Step:
        """The step after a pass that broke off."""
        return await self._decide(row, self._so_far(row).after(self._ctx.clock.monotonic(), Pass.VOID))

    def is_new(self, row: ShardRow) -> bool:
        """Whether no pass has been made for it so far."""
        return submission.question(row) not in self._evidence

    def _so_far(self, row: ShardRow) -> Evidence:
        return self._evidence.get(submission.question(row)) or Evidence(self._ctx.clock.monotonic())

    async def _decide(self, row: ShardRow, evidence: Evidence) -> Step:
        shard = await self._ctx.manifest.shard(row)
        step = submission.next_step(row, shard, evidence, self._terms, self._ctx.clock.jitter())
        key = submission.question(row)
        if isinstance(step, Wait):
            self._evidence[key], self._due[key] = evidence, step.until
        else:
            self._evidence.pop(key, None)
            self._due.pop(key, None)
        return step

    async def perform(self, row: ShardRow, step: Step) -> ShardRow:
        """Record what the step decides about the row, and revoke its file if that is to be done."""
        ctx = self._ctx
        match step:
            case Adopt(job, others):
                submitted_at = job.created_at or ctx.service_now()
                row = await ctx.record(row, JobAdopted(job=job.name, submitted_at=submitted_at))
                if others:
                    await sweep(ctx, (job, *others))
            case Quarantine(reason):
                row = await ctx.record(row, Quarantined(reason=reason))
            case Revoke():
                row = await self.revoke(await ctx.record(row, RevokeIntended()))
            case Retry(reason):
                file, revoked = row.file, row.state is State.REVOKED
                row = await ctx.record(row, AttemptAbandoned(reason=reason))
                if file and not revoked:
                    await ctx.provider.delete_file(file)
            case Wait():
                pass
        return row

    async def revoke(self, row: ShardRow) -> ShardRow:
        """Delete the input file, so that a create on its way is refused; asked again until the file is gone."""
        ctx, key, file = self._ctx, submission.question(row), row.file or ""
        self._due[key] = submission.revocation_due(self._terms, ctx.clock.monotonic())
        await ctx.provider.delete_file(file)
        if await ctx.provider.find_file(file):
            return row
        row = await ctx.record(row, Revoked(ambiguous_at=ctx.clock.now()))
        del self._due[key]
        return row


async def _history(ctx: RunContext, row: ShardRow) -> list[Entry]:
    """That of the row's own generation."""
    entries = await ctx.manifest.history(ctx.run.id, row.shard)
    return [entry for entry in entries if entry.generation == row.generation]


class Lookback:
    """Before a second create of a shard: looks for the job of an earlier one."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._search = Search(ctx)
        #: The searches that a warning has announced.
        self._announced: set[Question] = set()

    async def look(self, row: ShardRow) -> ShardRow | None:
        """None when a create may be sent. Otherwise the row: adopted, quarantined, or with a later ``due``. Raises
        the error that breaks the pass off."""
        ctx = self._ctx
        # No create of the attempt before may be accepted any more. One that was refused may have made a job all the
        # same, which would lose its input: the list is read once before.
        if row.attempt > 1 and not (submission.was_refused(row) and self._search.is_new(row)):
            await ctx.provider.delete_file(naming.file_name(ctx.run.token, row.shard, row.generation, row.attempt - 1))
        rows = await ctx.manifest.rows(ctx.run.id)
        try:
            found = await list_jobs(ctx, files=submission.all_input_files(ctx.run.token, rows))
        except PacktrainError:
            if isinstance(step := await self._search.step_blind(row), Quarantine):
                return await self._search.perform(row, step)
            raise
        step = await self._search.step(row, found, submission.controls(rows))
        match step:
            case Retry():
                return None
            case Wait():
                return self._put_off(row, step)
            case _:
                return await self._search.perform(row, step)

    async def find(self, row: ShardRow) -> ShardRow | None:
        """For a create that was refused just now: the row with the job that it made all the same; None without one."""
        ctx = self._ctx
        rows = await ctx.manifest.rows(ctx.run.id)
        found = await list_jobs(ctx, files=submission.all_input_files(ctx.run.token, rows))
        step = await self._search.find(row, found)
        return None if step is None else await self._search.perform(row, step)

    def _put_off(self, row: ShardRow, step: Wait) -> ShardRow:
        """A warning announces the first wait, because a long silence may follow."""
        seconds, asked = max(0.0, step.until - self._ctx.clock.monotonic()), submission.question(row)
        level = logging.INFO if asked in self._announced else logging.WARNING
        self._announced.add(asked)
        log.log(
            level,
            "shard %d: an earlier create may have made a job (%s), and the list does not prove otherwise yet; the next "
            "look is in %.0f s, the next create %s",
            row.shard,
            row.reason or "its outcome is not known",
            seconds,
            self._until(row, step),
            extra={"action": "LookBack", "run": row.run},
        )
        return msgspec.structs.replace(row, due=self._ctx.clock.now() + min(seconds, LONGEST_WAIT))

    def _until(self, row: ShardRow, step: Wait) -> str:
        sooner = "once the list shows a job that is known"
        if step.absent_at is None:
            return sooner
        at = self._ctx.clock.now() + step.absent_at - self._ctx.clock.monotonic()
        about = f"at about {time.strftime('%H:%M:%S', time.localtime(at))}"
        return about if submission.was_refused(row) else f"{about}, or {sooner}"


class Watcher:
    """Looks at the jobs of one run from time to time, and records what became of them."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._terms = terms(ctx)
        self._search = Search(ctx)
        self._quiet = 0
        self._look_at = 0.0
        self._sweep_at = 0.0
        #: Complete passes so far.
        self.passes = 0

    async def look(self) -> float:
        """Look if it is time; returns the seconds until the next look."""
        manifest, run, policy = self._ctx.manifest, self._ctx.run.id, self._ctx.policy
        counts = await manifest.statistics(run)
        watched = counts.count(*WATCHED) > 0
        ambiguous = await manifest.rows(run, AMBIGUOUS) if counts.count(*AMBIGUOUS) else []
        duplicates = await cancelling(self._ctx)
        now = self._ctx.clock.monotonic()
        due = [row for row in ambiguous if self._search.due(row) <= now]
        sweeping = self._sweep_at <= now and await self._may_live(watched or bool(ambiguous))
        if due or sweeping or ((watched or duplicates) and self._look_at <= now):
            await self._examine(due, whole=sweeping or bool(duplicates))
        waits = [self._search.due(row) for row in ambiguous]
        waits += [self._look_at] if watched or duplicates else []
        waits += [self._sweep_at] if watched or ambiguous else []
        return max(policy.shortest_poll, min(waits, default=now + self._ctx.service.poll[0]) - now)

    async def _may_live(self, known: bool) -> bool:
        """Whether a job of ours lives, or did while this program was not looking."""
        if known or self._sweep_at:
            return known
        created = any(row.tag for row in await self._ctx.manifest.rows(self._ctx.run.id))
        if not created:
            self._sweep_at = self._ctx.clock.monotonic() + self._ctx.policy.sweep_every
        return created

    async def _examine(self, ambiguous: list[ShardRow], *, whole: bool) -> None:
        ctx = self._ctx
        to_end = whole or bool(ambiguous)
        rows = await ctx.manifest.rows(ctx.run.id, None if to_end else WATCHED)
        watched = [row for row in rows if row.state in WATCHED]
        found = await self._pass(rows, ambiguous, {row.job for row in watched if row.job}, to_end=to_end)
        errors: list[PacktrainError] = []
        changed = [await self._progress(row, found, errors) for row in watched]
        changed += [await self._reconcile(row, found, submission.controls(rows)) for row in ambiguous]
        self._quiet = 0 if any(changed) else self._quiet + 1
        delay = submission.next_delay(self._quiet, ctx.service.poll, ctx.policy, ctx.clock.jitter())
        self._look_at = ctx.clock.monotonic() + delay
        if whole:
            await sweep(ctx, found.jobs.values())
            self._sweep_at = ctx.clock.monotonic() + ctx.policy.sweep_every
        if errors:
            raise errors[0]
        if ambiguous:
            found.refuse_unreadable()

    async def _pass(self, rows: list[ShardRow], ambiguous: list[ShardRow], names: set[str], *, to_end: bool) -> JobList:
        """To the end of the list, or until it has shown the jobs ``names``."""
        try:
            files = submission.all_input_files(self._ctx.run.token, rows)
            found = await read_list(self._ctx, files=files, until=() if to_end else names)
        except PacktrainError:
            for row in ambiguous:
                if row.state is not State.REVOKE_INTENT:
                    await self._search.perform(row, await self._search.step_blind(row))
            raise
        self.passes += 1
        return found

    async def _progress(self, row: ShardRow, found: JobList, errors: list[PacktrainError]) -> bool:
        """Record what became of a job; True when that is news. The error of one that can't be looked at is added to
        ``errors``, and holds up no other."""
        ctx = self._ctx
        event: Event | Overdue | None
        try:
            job = await self._read(row, found)
        except (ApiError, ProtocolError, TransportError) as error:
            errors.append(error)
            event = submission.overdue(row, f"can't be looked at ({error})", ctx.policy, moment(ctx))
        else:
            before = 0
            if job is not None and not submission.has_started(job):
                before = submission.never_started(await _history(ctx, row))
            event = submission.job_event(row, job, ctx.sightings, self._terms, moment(ctx), before=before)
        if isinstance(event, Overdue):
            log.warning("%s", event.reason, extra={"action": "Overdue", "run": row.run})
        elif event is not None:
            await ctx.record(row, event)
            return True
        return False

    async def _read(self, row: ShardRow, found: JobList) -> RemoteJob | None:
        """The list alone is believed when it shows results, or a job at work."""
        job = found.jobs.get(row.job or "")
        if job is not None and not submission.is_fruitless(job):
            return job
        return await self._ctx.provider.find_job(row.job or "") or job

    async def _reconcile(self, row: ShardRow, found: JobList, known: dict[str, float]) -> bool:
        """Take the search for a job one step further; True when the row has changed."""
        if row.state is State.REVOKE_INTENT:
            after = await self._search.revoke(row)
        else:
            after = await self._search.perform(row, await self._search.step(row, found, known))
        return after.state is not row.state
