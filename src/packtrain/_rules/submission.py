"""The paid decision: evidence in, decision out.

A create makes a job that costs money, cannot be repeated safely, and may lose its reply. All that is decided about
that is decided here: the class of a failed create, the search for its job in the list of jobs and its end, which job
a shard adopts, which jobs are duplicates, and what a look at a job means. ``_flow`` gathers the evidence and performs
the decision. Every threshold is a field of ``Policy``.

Times are seconds. ``monotonic`` never jumps and starts over with each process; all others are Unix times.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._errors import ApiError, PacktrainError, TransportError
from .._model import (
    DuplicateJob,
    DuplicateState,
    Entry,
    JobState,
    RemoteJob,
    Run,
    Shard,
    ShardRow,
    State,
)
from .._options import Ambiguity, Policy
from . import naming
from .lifecycle import (
    COLLECT,
    CreateSuspected,
    Event,
    JobAdopted,
    JobEnded,
    JobNeverStarted,
    Quarantined,
    ResultLost,
    RetryDecided,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping


class Terms(Struct, frozen=True):
    """The terms of one run's paid decisions."""

    run: Run
    policy: Policy
    #: ``Service.settle``: how long an unanswered create must be absent from the list of jobs.
    settle: float
    on_ambiguous: Ambiguity
    #: Attempts have input files, whose deletion makes the service refuse a late create.
    revocable: bool = True


class Moment(Struct, frozen=True):
    """One instant by three clocks."""

    monotonic: float
    #: By this machine's clock, which may be days off.
    local: float
    #: By the service's clock; None until an answer has given its time.
    service: float | None


# The outcome of a create


class Outcome(enum.Enum):
    """What a failed create has left at the service."""

    #: Nothing: no byte left this machine, and the same attempt may be sent again.
    NOT_SENT = "not sent"
    #: No job, for a reason that time heals: wait, look at the list once, send again.
    THROTTLED = "throttled"
    #: No job: this shard's input file is gone.
    FILE_GONE = "file gone"
    #: No job, and no create of the run can succeed until a person acts: key, model, permission.
    BARRED = "barred"
    #: No job: the service does not accept this shard.
    REFUSED = "refused"
    #: As REFUSED, but no create of the run was accepted yet, so that all of them may be refused.
    SUSPECT = "suspect"
    #: Perhaps a job.
    AMBIGUOUS = "ambiguous"


def classify(error: PacktrainError, *, proven: bool) -> Outcome:
    """The class of a failed create. ``proven``: another create of this run was accepted."""
    if isinstance(error, TransportError):
        return Outcome.AMBIGUOUS if error.sent else Outcome.NOT_SENT
    match error.kind if isinstance(error, ApiError) else None:
        case "throttled":
            return Outcome.THROTTLED
        case "file_gone":
            return Outcome.FILE_GONE
        case "barred":
            return Outcome.BARRED
        case "refused":
            return Outcome.REFUSED if proven else Outcome.SUSPECT
        case _:
            return Outcome.AMBIGUOUS


def expires_soon(row: ShardRow, now: Moment, policy: Policy) -> bool | None:
    """Whether the input file has too little life left for a create; None when only a look at the file can say.

    By both clocks: each may be days off, and a false alarm costs an attempt.
    """
    if row.file_expires_at is None:
        return False
    if now.service is None:
        return None
    soon = {row.file_expires_at - at < policy.file_margin for at in (now.service, now.local)}
    return soon.pop() if len(soon) == 1 else None


def plausible_expiry(expires_at: float | None, now: Moment, policy: Policy) -> float | None:
    """The end of life of a file that was uploaded just now; None for one that can't be, or that is too near for use."""
    if expires_at is None or expires_at - (now.local if now.service is None else now.service) < policy.file_margin:
        return None
    return expires_at


# The search for the job of an earlier create


class Pass(enum.Enum):
    """How much a pass over the list of jobs proves about a job that it does not show."""

    #: It broke off, or shows none of the jobs that it should: nothing.
    VOID = "void"
    #: It is complete, and no job is known that it should show.
    UNCONTROLLED = "uncontrolled"
    #: It is complete, and shows a job that is known to exist: the positive control.
    CONTROLLED = "controlled"


def controls(rows: Iterable[ShardRow]) -> dict[str, float]:
    """The jobs that a list should show, each with a time before which it was not made.

    Of our clock's time of its intent and the service's time of its creation the earlier one counts, so that an old job
    is not taken for a young one.
    """
    known = (row for row in rows if row.job and row.state is not State.QUARANTINED)
    return {row.job: _made_after(row) for row in known if row.job}


def _made_after(row: ShardRow) -> float:
    return min((at for at in (row.intent_at, row.submitted_at) if at is not None), default=0.0)


def weigh(shown: frozenset[str], known: Mapping[str, float], since: float) -> Pass:
    """The weight of a complete pass that shows the jobs ``shown``, for a create that is ambiguous since ``since``.

    ``known`` are the jobs whose names were known before the pass, with the time of each. Lists have been seen empty
    while jobs were pending, so a pass must show one of them; and if any are younger than the create, one of those:
    then the list is no older than the job that is searched for.
    """
    younger = {name for name, at in known.items() if at > since}
    expected = younger or known.keys()
    if not expected:
        return Pass.UNCONTROLLED
    return Pass.CONTROLLED if shown & expected else Pass.VOID


class Evidence(Struct, frozen=True):
    """The passes so far in the search for one job, begun at ``since``. All times are monotonic.

    It starts over with each process: only a clock that never jumps can measure how long the job was absent.
    """

    since: float
    #: Jobs of the shard that the last pass showed, each as read by its name.
    found: tuple[RemoteJob, ...] = ()
    #: The time of the last pass, and of the last one that was not void.
    looked: float | None = None
    seen: float | None = None
    last: Pass = Pass.VOID
    uncontrolled: int = 0
    controlled: int = 0
    #: Void passes in a row.
    void: int = 0

    def after(self, now: float, weight: Pass) -> Evidence:
        """After one more pass, which did not show the job."""
        return msgspec.structs.replace(
            self,
            looked=now,
            seen=self.seen if weight is Pass.VOID else now,
            last=weight,
            uncontrolled=self.uncontrolled + (weight is Pass.UNCONTROLLED),
            controlled=self.controlled + (weight is Pass.CONTROLLED),
            void=self.void + 1 if weight is Pass.VOID else 0,
        )


class Shown(Struct, frozen=True):
    """The contribution of one complete pass to the search for one job."""

    #: Names of the run's jobs in the list.
    names: frozenset[str]
    #: The jobs of the shard among them, each as read by its name.
    own: tuple[RemoteJob, ...]
    #: As ``controls`` returns them, from before the pass.
    known: dict[str, float]
    #: Names of duplicate jobs: controls before a second create as well, but the list need not show them.
    duplicates: frozenset[str] = frozenset()
    #: No job that could not be read may be one of the run.
    whole: bool = True


def learn(evidence: Evidence, row: ShardRow, shown: Shown, now: Moment) -> Evidence:
    """The evidence after one more complete pass."""
    if shown.own:
        return msgspec.structs.replace(evidence, found=shown.own)
    # An old duplicate job proves that the list works, not that it is as young as an ambiguous create.
    duplicates = shown.duplicates if row.state is State.UPLOADED else frozenset[str]()
    known = dict.fromkeys(shown.names & duplicates, 0.0) | shown.known
    weight = weigh(shown.names, known, ambiguous_since(row, now))
    return evidence.after(now.monotonic, weight if shown.whole else Pass.VOID)


class Adopt(Struct, frozen=True):
    """This job is the shard's own; ``others`` are duplicates of it."""

    job: RemoteJob
    others: tuple[RemoteJob, ...] = ()


class Wait(Struct, frozen=True):
    """The next pass is due at ``until``; both times are monotonic."""

    until: float
    #: When passes like the last one can prove absence; None when they never can.
    absent_at: float | None = None


class Revoke(Struct, frozen=True):
    """No job was made so far: delete the input file, so that a create on its way is refused."""


class Retry(Struct, frozen=True):
    """No job was made: another create may be sent."""

    reason: str


class Quarantine(Struct, frozen=True):
    """A person must decide."""

    reason: str


Step = Adopt | Wait | Revoke | Retry | Quarantine


def next_step(row: ShardRow, shard: Shard, evidence: Evidence, terms: Terms, jitter: float) -> Step:
    """What follows from the evidence about a create whose outcome is not known.

    ``row`` is UPLOADED before a second create, RECONCILING, or REVOKED; ``jitter`` is a random number in 0..1.
    """
    if evidence.found:
        return adoption(evidence.found, terms.run, shard, input_files(terms.run.token, row))
    settle = _settle(row, terms)
    if _is_absent(row, evidence, settle, terms.policy):
        return _on_absence(row, terms)
    if _is_hopeless(evidence, terms.policy):
        return Quarantine(
            f"it is not known whether attempt {row.attempt} made a job: the list of jobs has failed, or has shown no "
            f"job that is known, for {terms.policy.void_seconds / 3600:.0f} hours"
        )
    absent_at = _absent_at(row, evidence, settle, terms.policy)
    return Wait(_next_look(row, evidence, settle, terms.policy, jitter), absent_at)


#: Shard, generation, state, and the attempt or the time of the intended create.
Question = tuple[int, int, State, float | None]


def question(row: ShardRow) -> Question:
    """What evidence is about: it counts for one create of one attempt, and for one stay in a state."""
    create = row.intent_at if row.state is State.UPLOADED else row.attempt
    return row.shard, row.generation, row.state, create


def ambiguous_since(row: ShardRow, now: Moment) -> float:
    """Since when a job may exist that the list must show."""
    since = row.intent_at if row.state is State.UPLOADED else row.ambiguous_at
    return now.local if since is None else since


def revocation_due(terms: Terms, monotonic: float) -> float:
    """When to ask again for a deletion that has not taken effect."""
    return monotonic + terms.settle * terms.policy.revoke_again


def was_refused(row: ShardRow) -> bool:
    """Whether the service itself refused the earlier create. That is taken for a no, once the list agrees."""
    return row.state is State.UPLOADED and row.intent_at is not None and row.ambiguous_at is None


def _settle(row: ShardRow, terms: Terms) -> float:
    if row.state is State.REVOKED:
        return terms.settle * terms.policy.revoked_settles
    return terms.settle * (1.0 if terms.revocable else terms.policy.unrevoked_settles)


def _is_absent(row: ShardRow, evidence: Evidence, settle: float, policy: Policy) -> bool:
    if row.state is State.UPLOADED and row.intent_at is None:
        return True
    waited = (evidence.seen or evidence.since) - evidence.since
    if was_refused(row) or (row.state is State.UPLOADED and evidence.last is Pass.CONTROLLED):
        looks = evidence.uncontrolled + evidence.controlled
        return looks >= policy.refused_looks and waited >= settle * policy.refused_settles
    match evidence.last:
        case Pass.CONTROLLED:
            return evidence.controlled >= policy.controlled_looks and waited >= settle * policy.controlled_settles
        case Pass.UNCONTROLLED:
            looks = evidence.uncontrolled + evidence.controlled
            return looks >= policy.uncontrolled_looks and waited >= settle * policy.uncontrolled_settles
        case Pass.VOID:
            return False


def _on_absence(row: ShardRow, terms: Terms) -> Step:
    reason = f"the create of attempt {row.attempt} left no job in the list"
    if row.state is not State.RECONCILING:
        return Retry(reason)
    match terms.on_ambiguous:
        case "wait":
            return Retry(reason)
        case "revoke":
            return Revoke() if terms.revocable else Retry(reason)
        case "quarantine":
            return Quarantine(f"{reason}; it is not known whether one was made")


def _is_hopeless(evidence: Evidence, policy: Policy) -> bool:
    blind = (evidence.looked or evidence.since) - (evidence.seen or evidence.since)
    return evidence.void >= policy.void_looks and blind >= policy.void_seconds


def _next_look(row: ShardRow, evidence: Evidence, settle: float, policy: Policy, jitter: float) -> float:
    if evidence.looked is None:
        return evidence.since
    elapsed = evidence.looked - evidence.since
    first = policy.refused_settles if was_refused(row) else 0.0
    looks = (first, *(look for look in policy.looks if look > first))
    ahead = next((look * settle - elapsed for look in looks if look * settle > elapsed), policy.later_looks * settle)
    return evidence.looked + max(policy.shortest_look * settle, ahead) * (1 + policy.look_jitter * jitter)


def _absent_at(row: ShardRow, evidence: Evidence, settle: float, policy: Policy) -> float | None:
    if was_refused(row) and evidence.last is not Pass.VOID:
        return evidence.since + settle * policy.refused_settles
    match evidence.last:
        case Pass.CONTROLLED:
            return evidence.since + settle * policy.controlled_settles
        case Pass.UNCONTROLLED:
            return evidence.since + settle * policy.uncontrolled_settles
        case Pass.VOID:
            return None


# Adoption


def input_files(token: str, row: ShardRow) -> frozenset[str]:
    """The plain names of the input files of all attempts so far: as we name them, the latest as the service does."""
    names = {naming.file_name(token, row.shard, row.generation, attempt + 1) for attempt in range(row.attempt)}
    return frozenset(names | {naming.plain_file(row.file)} if row.file else names)


def all_input_files(token: str, rows: Iterable[ShardRow]) -> frozenset[str]:
    """The input files by which jobs of these shards are found."""
    return frozenset[str]().union(*(input_files(token, row) for row in rows))


def own_jobs(
    token: str, row: ShardRow, jobs: Iterable[RemoteJob], duplicates: Iterable[DuplicateJob]
) -> list[RemoteJob]:
    """The jobs that bear a tag of the shard or read one of its input files, without those that were given up.

    A job of another name that reads our file may be somebody else's, so it counts only where no other is found.
    """
    given_up = {duplicate.job for duplicate in duplicates if duplicate.state is not DuplicateState.SEEN}
    prefix, files = naming.shard_prefix(token, row.shard, row.generation), input_files(token, row)
    left = [job for job in jobs if job.name not in given_up]
    tagged = {job.name for job in left if job.display_name.startswith(prefix)}
    reading = [job for job in left if job.name in tagged or naming.plain_file(job.input_file) in files]
    return [job for job in reading if job.name in tagged or not job.display_name] or reading


def adoption(found: Collection[RemoteJob], run: Run, shard: Shard, files: Collection[str]) -> Adopt | Quarantine:
    """Which of these jobs of a shard, whose input files are ``files``, becomes its own."""
    for job in found:
        if flaw := mismatch(job, run, shard, files):
            return Quarantine(flaw)
    job = winner(found)
    return Adopt(job, tuple(other for other in found if other is not job))


_RANK = {JobState.SUCCEEDED: 0, JobState.RUNNING: 1, JobState.PENDING: 2}


def winner(jobs: Iterable[RemoteJob]) -> RemoteJob:
    """The one job to keep of several: the furthest, then the oldest, then by name."""
    return min(jobs, key=lambda job: (_RANK.get(job.state, 3), job.created_at or 0.0, job.name))


def mismatch(job: RemoteJob, run: Run, shard: Shard, files: Collection[str] = ()) -> str | None:
    """Why a job cannot have been made of this shard, whose input files are ``files``; None when all data agrees."""
    tag = naming.read_tag(run.token, job.display_name)
    if tag is None and naming.plain_file(job.input_file) not in files:
        return f"{job.name} is called {job.display_name[:120]!r}, which is no name of shard {shard.index}"
    if tag is not None and (flaw := _other_tag(job, tag, shard)):
        return flaw
    found = "bears the shard's tag" if tag else "reads the shard's file"
    if job.requests not in (None, shard.lines):
        return f"{job.name} {found}, but has {job.requests} requests instead of {shard.lines}"
    if job.model and not naming.same_model(job.model, run.model):
        return f"{job.name} {found}, but is for {job.model} instead of {run.model}"
    return None


def _other_tag(job: RemoteJob, tag: naming.Tag, shard: Shard) -> str | None:
    if (tag.shard, tag.generation) != (shard.index, shard.generation):
        return f"{job.name} is called {job.display_name[:120]!r}, which is no name of shard {shard.index}"
    if (tag.sha16, tag.lines) != (shard.sha256[:16], shard.lines):
        return f"{job.name} bears the shard's tag, but for other content: {job.display_name}"
    return None


def has_started(job: RemoteJob) -> bool:
    """False for a job that ended before it ran, and cost nothing."""
    return not (job.never_started and job.state.terminal)


class _Detail(Struct):
    job: str = ""


def refused_jobs(history: Iterable[Entry]) -> frozenset[str]:
    """The jobs of one shard that are recorded to have ended before they ran; never its own again, whatever a later
    reply shows. ``history`` is the shard's."""
    job, refused = "", set()
    for entry in history:
        if entry.event == JobAdopted.__name__:
            job = msgspec.json.decode(entry.detail or "{}", type=_Detail).job
        elif entry.event == JobNeverStarted.__name__:
            refused.add(job)
    return frozenset(refused)


def never_started(history: Iterable[Entry]) -> int:
    """How many jobs of a shard have ended before they ran, since a person last decided about it."""
    count = 0
    for entry in history:
        count = 0 if entry.event == RetryDecided.__name__ else count + (entry.event == JobNeverStarted.__name__)
    return count


# Duplicate jobs


def find_duplicates(token: str, jobs: Iterable[RemoteJob], rows: Iterable[ShardRow]) -> Iterator[DuplicateJob]:
    """Those among ``jobs``, as a pass has shown them; ``rows`` are all of the run, read after the pass."""
    by_place = {(row.shard, row.generation): row for row in rows}
    by_file = {file: row for row in by_place.values() for file in input_files(token, row)}
    adopted = {row.job for row in by_place.values()}
    for job in jobs:
        tag = naming.read_tag(token, job.display_name)
        if job.name in adopted or not has_started(job):
            continue
        if tag is not None:
            state = _duplicate_state(by_place.get((tag.shard, tag.generation)), job)
            if state is not None:
                yield duplicate_of(tag, job, state)
        elif not job.display_name and (row := by_file.get(naming.plain_file(job.input_file))) is not None:
            # Without a name it is a create of ours whose tag the service dropped; with one, somebody else made it.
            state = _duplicate_state(row, job)
            if state is not None:
                yield given_up(row, job.name, state)


def _duplicate_state(row: ShardRow | None, job: RemoteJob) -> DuplicateState | None:
    if row is None or row.state is State.QUARANTINED:
        return DuplicateState.SEEN
    if row.job is not None:
        if not job.state.terminal:
            return DuplicateState.CANCELLING
        return DuplicateState.CANCELLED if job.state is JobState.CANCELLED else DuplicateState.ENDED
    # Either the shard ended without a job, or the search for its job will find this one.
    return DuplicateState.SEEN if row.state in COLLECT or row.state is State.CLOSED else None


def duplicate_of(tag: naming.Tag, job: RemoteJob, state: DuplicateState) -> DuplicateJob:
    return DuplicateJob(job=job.name, shard=tag.shard, generation=tag.generation, attempt=tag.attempt, state=state)


def given_up(row: ShardRow, job: str, state: DuplicateState = DuplicateState.CANCELLING) -> DuplicateJob:
    """A job of the row's latest attempt that is not, or no longer, the shard's own."""
    return DuplicateJob(job=job, shard=row.shard, generation=row.generation, attempt=row.attempt, state=state)


def is_news(duplicate: DuplicateJob, known: Mapping[str, DuplicateState]) -> bool:
    """Whether the manifest should record it; ``known`` are the duplicate jobs that it has."""
    before = known.get(duplicate.job)
    return before is None or (before is DuplicateState.SEEN and duplicate.state is not DuplicateState.SEEN)


def shown_for(row: ShardRow, duplicates: Iterable[DuplicateJob]) -> list[DuplicateJob]:
    """The jobs that the service has shown for a quarantined shard, which wait for a person as well."""
    place = (row.shard, row.generation)
    return [
        duplicate
        for duplicate in duplicates
        if duplicate.state is DuplicateState.SEEN and place == (duplicate.shard, duplicate.generation)
    ]


def left_jobs(row: ShardRow, duplicates: Iterable[DuplicateJob]) -> list[DuplicateJob]:
    """The jobs to cancel when a person decides against all of them: those shown for the shard, and its own."""
    shown = [
        msgspec.structs.replace(duplicate, state=DuplicateState.CANCELLING) for duplicate in shown_for(row, duplicates)
    ]
    return [*shown, given_up(row, row.job)] if row.job is not None else shown


def plight(row: ShardRow, duplicates: Iterable[DuplicateJob]) -> str:
    """Why a quarantined shard waits, and the jobs that the service shows for it, or the name that one would have."""
    reason = row.reason or "no reason is known"
    if shown := shown_for(row, duplicates):
        return f"{reason}; the service shows {', '.join(duplicate.job for duplicate in shown)} for it"
    if row.job is None and row.tag is not None:
        return f"{reason}; a job of it would be called {row.tag}"
    return reason


def candidate(row: ShardRow, duplicates: Iterable[DuplicateJob]) -> str | None:
    """The job that a person may adopt for a quarantined shard; None when none is known that may have answers."""
    shown = next((duplicate.job for duplicate in shown_for(row, duplicates)), None)
    return shown or (None if was_cancelled(row) else row.job)


# A look at a job


class _Seen(Struct, frozen=True):
    reply: str
    since: float
    looks: int = 1


class Sightings:
    """Debounces implausible replies: one counts only after N looks in a row over T seconds. One reply a name."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def confirmed(self, name: str, reply: str, monotonic: float, *, looks: int, seconds: float) -> bool:
        """Count one more look at ``name``; True when it has shown ``reply`` often and long enough."""
        before = self._seen.get(name)
        if before is None or before.reply != reply:
            seen = _Seen(reply, monotonic)
        else:
            seen = _Seen(reply, before.since, before.looks + 1)
        self._seen[name] = seen
        return seen.looks >= looks and monotonic - seen.since >= seconds

    def forget(self, name: str) -> None:
        self._seen.pop(name, None)


class Overdue(Struct, frozen=True):
    """A job is late by one clock alone, which decides nothing: warn."""

    reason: str


def next_delay(quiet: int, bounds: tuple[float, float], policy: Policy, jitter: float) -> float:
    """Seconds to the next look at all jobs, after ``quiet`` looks in a row that changed nothing."""
    floor, ceiling = bounds
    spread = 1 - policy.poll_jitter + 2 * policy.poll_jitter * jitter
    return min(ceiling, floor * policy.poll_growth ** min(quiet, 60)) * spread


def is_fruitless(job: RemoteJob) -> bool:
    """Whether it seems to have ended without results."""
    return job.state.terminal and not job.results


def was_cancelled(row: ShardRow) -> bool:
    """Whether the shard waits for a person since its job was cancelled at the service."""
    return row.job is not None and row.state is State.QUARANTINED and row.reason == _cancelled(row.job)


def _cancelled(job: str) -> str:
    return f"{job} was cancelled at the service, not by this program, and left no answers"


def job_event(
    row: ShardRow, job: RemoteJob | None, sightings: Sightings, terms: Terms, now: Moment, *, before: int = 0
) -> Event | Overdue | None:
    """What a look at a SUBMITTED shard's job means; None when nothing is to be recorded. ``job`` is None when neither
    the list nor a look-up by name shows it; ``before``: how many jobs of the shard have ended before they ran."""
    policy, name = terms.policy, row.job or ""
    if job is None:
        lost = sightings.confirmed(name, "lost", now.monotonic, looks=policy.lost_looks, seconds=policy.lost_seconds)
        return Quarantined(reason=f"{name} is neither in the list nor found by name; it was paid for") if lost else None
    if is_fruitless(job):
        return _fruitless_end(row, job, sightings, terms, now, before)
    sightings.forget(name)
    if job.state is JobState.CANCELLED:
        # With a reason beside the results, the lines that it did not come to are not asked again by themselves.
        return JobEnded(result=job.results, reason=f"{name} was cancelled at the service before it came to this line")
    if job.state.terminal:
        return JobEnded(result=job.results)
    return overdue(row, job.state, terms.policy, now, made=job.created_at or 0.0)


def _fruitless_end(
    row: ShardRow, job: RemoteJob, sightings: Sightings, terms: Terms, now: Moment, before: int
) -> Event | None:
    policy, name = terms.policy, row.job or ""
    if job.state is JobState.SUCCEEDED:
        empty = sightings.confirmed(
            name, "empty", now.monotonic, looks=policy.empty_looks, seconds=policy.empty_seconds
        )
        return Quarantined(reason=f"{name} succeeded, but shows no results file") if empty else None
    if not is_over(job, sightings, terms, now):
        return None
    if job.state is JobState.CANCELLED:
        # A cancel of our own is recorded as that of a duplicate job, and never looked at here.
        return Quarantined(reason=_cancelled(name))
    if not has_started(job):
        reason = f"{name} ended before it ran: {job.reason or 'no reason given'}"
        if before + 1 >= policy.never_started_jobs:
            return Quarantined(reason=f"{reason}; so did {before} jobs before it")
        wait = min(policy.never_started_wait * 2.0 ** min(before, 30), policy.never_started_longest)
        return JobNeverStarted(due=now.local + wait, reason=reason)
    return JobEnded(result=None, reason=f"the job {job.state}: {job.reason or 'no reason given'}")


def is_over(job: RemoteJob, sightings: Sightings, terms: Terms, now: Moment) -> bool:
    """Whether a job without results has been seen to have ended often and long enough."""
    policy = terms.policy
    reply = job.state if has_started(job) else "never started"
    seconds = terms.settle * policy.ended_settles
    return sightings.confirmed(job.name, reply, now.monotonic, looks=policy.ended_looks, seconds=seconds)


def overdue(
    row: ShardRow, what: str, policy: Policy, now: Moment, *, made: float = 0.0
) -> Quarantined | Overdue | None:
    """Whether a job has taken too long to end. ``what`` is its state, ``made`` the service's time of its creation."""
    since = max(made, row.submitted_at or 0.0)
    if not since:
        return None
    by_service, by_local = _late(row, since, policy, now)
    reason = f"{row.job}: {what} for more than {policy.job_patience / 3600:.0f} hours"
    if by_service and by_local:
        return Quarantined(reason=reason)
    if by_service or by_local:
        return Overdue(f"{reason}, by {'the service' if by_service else 'this machine'}'s clock alone")
    return None


def _late(row: ShardRow, since: float, policy: Policy, now: Moment) -> tuple[bool, bool]:
    """Whether it is late by the service's clock, and by ours: its create was intended by ours, and seen by theirs."""
    by_service = now.service is not None and now.service - since > policy.job_patience
    return by_service, now.local - max(since, row.intent_at or 0.0) > policy.job_patience


def missing_results(
    row: ShardRow, refusal: str, shown: tuple[bool, bool], sightings: Sightings, terms: Terms, now: Moment
) -> ResultLost | str:
    """What it means that the service refuses a result file. ``shown``: it still shows the job, and the file.

    Results that are gone are asked, and paid for, again, so they must be gone while their job is still shown: then it
    is not our key. A text says why to look again.
    """
    policy, (job_shown, file_shown), result = terms.policy, shown, row.result or ""
    by_service, by_local = _late(row, row.submitted_at or 0.0, policy, now)
    if not job_shown and not (by_local and (by_service or now.service is None)):
        return f"neither {row.job} nor its results are shown; is it the same key?"
    if file_shown:
        sightings.forget(result)
        return f"{result} is shown, but not given out: {refusal}"
    seconds = terms.settle * policy.gone_settles
    if not sightings.confirmed(result, "gone", now.monotonic, looks=policy.gone_looks, seconds=seconds):
        return f"{result} is not shown; its lines are paid for, so we look again"
    return ResultLost(
        reason=f"the answers of {row.job} were made, and paid for, but can't be fetched any more: {refusal}"
    )


# Creates that the manifest may have forgotten


def suspicion(token: str, shard: Shard, attempt: int, now: float) -> CreateSuspected:
    """``attempt`` is the latest that may have begun; 1 when there is no sign of any."""
    return CreateSuspected(
        attempt=attempt,
        file=naming.file_name(token, shard.index, shard.generation, attempt),
        tag=naming.job_tag(token, shard, attempt),
        ambiguous_at=now,
        reason="the manifest was recovered, and may have forgotten a job of this shard",
    )


def unknown(token: str, jobs: Iterable[RemoteJob], rows: Iterable[ShardRow]) -> list[RemoteJob]:
    """Jobs of attempts of which the manifest has no intent; ``rows`` are all of the run, read after the pass.

    An attempt before the latest is known: the search before the next create finds its jobs in any case.
    """
    by_place = {(row.shard, row.generation): row for row in rows}
    tags = [(naming.read_tag(token, job.display_name), job) for job in jobs]
    return [job for tag, job in tags if tag is not None and not _intended(token, tag, by_place)]


def _intended(token: str, tag: naming.Tag, by_place: dict[tuple[int, int], ShardRow]) -> bool:
    row = by_place.get((tag.shard, tag.generation))
    if row is None:
        return False
    if row.state is State.QUARANTINED or tag.attempt < row.attempt:
        return True
    sent = naming.read_tag(token, row.tag or "")
    return sent is not None and sent.attempt >= tag.attempt
