"""The paid decision: outcome classes of a create, evidence of absence, adoption, duplicate jobs."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._errors import ApiError, PacktrainError, TransportError
from .._model import DuplicateJob, DuplicateState, JobState, RemoteJob, Run, Shard, ShardRow, State
from . import naming
from .lifecycle import COLLECT, CreateSuspected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._model import RemoteJob, Shard, ShardRow


class Outcome(enum.Enum):
    """How a failed create leaves the world."""

    #: No byte left this machine: the same attempt may be sent again.
    NOT_SENT = "not sent"
    #: There is no job, for a reason that time heals: wait, look once at the list, send again.
    THROTTLED = "throttled"
    #: There is no job: this shard's input file is gone.
    FILE_GONE = "file gone"
    #: There is no job, and none of the run will fare better until a person acts: key, model, permission.
    BARRED = "barred"
    #: There is no job: the service does not take this shard.
    REFUSED = "refused"
    #: As REFUSED, but no create of the run was accepted yet, so that it may be all of them.
    SUSPECT = "suspect"
    #: There may be a job.
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


_RANK = {JobState.SUCCEEDED: 0, JobState.RUNNING: 1, JobState.PENDING: 2}
#: Looks for a job in doubt come at these parts of the settling time after its create: with 15 minutes after 0, 2, 5,
#: 10, 20, 40 and 60 seconds, 2, 5, 10 and 15 minutes; and then every 5 minutes.
_LOOKS = tuple(seconds / 900 for seconds in (0, 2, 5, 10, 20, 40, 60, 120, 300, 600, 900))
_SHORTEST, _LATER = 2 / 900, 300 / 900
#: Passes that say nothing, for so long, before a person must look.
_VOID_PASSES, _VOID_SECONDS = 3, 24 * 3600.0


def next_delay(quiet: int, bounds: tuple[float, float], jitter: float) -> float:
    """Seconds to the next look after ``quiet`` looks in a row that changed nothing; ±20 % jitter (in 0..1)."""
    floor, ceiling = bounds
    return min(ceiling, floor * 1.3 ** min(quiet, 60)) * (0.8 + 0.4 * jitter)


class Sight(enum.Enum):
    """What a pass over the list of jobs is worth to somebody who looks for one that is not in it."""

    #: It broke off, or does not show any job of those that it should: it says nothing.
    VOID = "void"
    #: It is complete, and nothing is known that it should have shown.
    BARE = "bare"
    #: It is complete, and shows a job that is known to exist.
    CONTROLLED = "controlled"


def sight(shown: frozenset[str], known: dict[str, float], since: float) -> Sight:
    """The worth of a complete pass that shows the jobs ``shown``, for a create in doubt since ``since``.

    ``known`` are the jobs of which we had the names before the pass began, with the time of each. The list has been
    seen empty while jobs were pending, so a pass must show one of them, and if any are younger than the doubt, one
    of these: then the list is no older than what is looked for.
    """
    younger = {name for name, at in known.items() if at > since}
    controls = younger or known.keys()
    if not controls:
        return Sight.BARE
    return Sight.CONTROLLED if shown & controls else Sight.VOID


class Search(Struct, frozen=True):
    """What looks at the list have shown of a job in doubt since ``since``: nothing so far."""

    since: float
    #: When the last look was, and the last that was not void.
    looked: float | None = None
    seen: float | None = None
    last: Sight = Sight.VOID
    bare: int = 0
    controlled: int = 0
    #: Void looks in a row.
    void: int = 0

    def after(self, now: float, worth: Sight) -> Search:
        """After one more look that did not show the job."""
        return msgspec.structs.replace(
            self,
            looked=now,
            seen=self.seen if worth is Sight.VOID else now,
            last=worth,
            bare=self.bare + (worth is Sight.BARE),
            controlled=self.controlled + (worth is Sight.CONTROLLED),
            void=self.void + 1 if worth is Sight.VOID else 0,
        )

    def absent(self, settle: float) -> bool:
        """The job was not made, as far as looking can tell."""
        waited = (self.seen or self.since) - self.since
        match self.last:
            case Sight.CONTROLLED:
                return self.controlled >= 3 and waited >= settle
            case Sight.BARE:
                return self.bare + self.controlled >= 5 and waited >= 2 * settle
            case Sight.VOID:
                return False

    def earliest(self, settle: float) -> float | None:
        """When looks that go on like the last one can be enough; None when they never are."""
        spans = {Sight.CONTROLLED: settle, Sight.BARE: 2 * settle}
        return self.since + spans[self.last] if self.last in spans else None

    def hopeless(self) -> bool:
        """Looking has told nothing for a day."""
        blind = (self.looked or self.since) - (self.seen or self.since)
        return self.void >= _VOID_PASSES and blind >= _VOID_SECONDS

    def next_look(self, settle: float, jitter: float) -> float:
        """When to look next; up to 20 % later by ``jitter`` (in 0..1)."""
        if self.looked is None:
            return self.since
        elapsed = self.looked - self.since
        ahead = next((part * settle - elapsed for part in _LOOKS if part * settle > elapsed), _LATER * settle)
        return self.looked + max(_SHORTEST * settle, ahead) * (1 + 0.2 * jitter)


def winner(matches: list[RemoteJob]) -> RemoteJob:
    """The one job to keep when a tag stands on several: furthest on, then oldest, then by name."""
    return min(matches, key=lambda b: (_RANK.get(b.state, 3), b.created_at or 0.0, b.name))


def mismatch(job: RemoteJob, run: Run, shard: Shard) -> str | None:
    """Why a job that bears a tag of this shard can't have been made of it; None when all is as it should be."""
    tag = naming.read_tag(run.token, job.display_name)
    if tag is None or (tag.shard, tag.generation) != (shard.index, shard.generation):
        return f"{job.name} is called {job.display_name[:120]!r}, which is no name of shard {shard.index}"
    if (tag.sha16, tag.lines) != (shard.sha256[:16], shard.lines):
        return f"{job.name} bears the shard's tag, but for other content: {job.display_name}"
    if job.requests not in (None, shard.lines):
        return f"{job.name} bears the shard's tag, but has {job.requests} requests instead of {shard.lines}"
    if job.model and not naming.same_model(job.model, run.model):
        return f"{job.name} bears the shard's tag, but is for {job.model} instead of {run.model}"
    return None


def find_extras(token: str, jobs: Iterable[RemoteJob], rows: Iterable[ShardRow]) -> Iterator[DuplicateJob]:
    """Those among ``batches``, as a pass has shown them. ``jobs`` are all of the run, read after the pass."""
    by_place = {(row.shard, row.generation): row for row in rows}
    adopted = {row.job for row in by_place.values()}
    for job in jobs:
        tag = naming.read_tag(token, job.display_name)
        if tag is None or job.name in adopted:
            continue
        row = by_place.get((tag.shard, tag.generation))
        state = _state(row, job)
        if state is not None:
            yield extra_of(tag, job, state)


def plight(row: ShardRow, duplicate_jobs: Iterable[DuplicateJob]) -> str:
    """Why a quarantined shard waits, and the jobs that the service shows for it, or the name that one would have."""
    reason = row.reason or "no reason is known"
    if seen := _seen(row, duplicate_jobs):
        return f"{reason}; the service shows {', '.join(seen)} for it"
    if row.job is None and row.tag is not None:
        return f"{reason}; a job of it would be called {row.tag}"
    return reason


def candidate(row: ShardRow, duplicate_jobs: Iterable[DuplicateJob]) -> str | None:
    """The job that a person may adopt for a quarantined shard; None when none is known."""
    return next(iter(_seen(row, duplicate_jobs)), row.job)


def _seen(row: ShardRow, duplicate_jobs: Iterable[DuplicateJob]) -> list[str]:
    place = (row.shard, row.generation)
    return [
        duplicate.job
        for duplicate in duplicate_jobs
        if duplicate.state is DuplicateState.SEEN and place == (duplicate.shard, duplicate.generation)
    ]


def extra_of(tag: naming.Tag, job: RemoteJob, state: DuplicateState) -> DuplicateJob:
    return DuplicateJob(job=job.name, shard=tag.shard, generation=tag.generation, attempt=tag.attempt, state=state)


def _state(row: ShardRow | None, job: RemoteJob) -> DuplicateState | None:
    if row is None or row.state is State.QUARANTINED:
        return DuplicateState.SEEN
    if row.job is not None:
        if not job.state.terminal:
            return DuplicateState.CANCELLING
        return DuplicateState.CANCELLED if job.state is JobState.CANCELLED else DuplicateState.ENDED
    # The shard has come to its end without a job; or whoever works on it will find this one.
    return DuplicateState.SEEN if row.state in COLLECT or row.state is State.CLOSED else None


def suspicion(token: str, shard: Shard, attempt: int, now: float) -> CreateSuspected:
    """``attempt`` is the latest that may have been begun, 1 when nothing tells of any."""
    return CreateSuspected(
        attempt=attempt,
        file=naming.file_name(token, shard.index, shard.generation, attempt),
        tag=naming.job_tag(token, shard, attempt),
        ambiguous_at=now,
        reason="the manifest was recovered, and may have forgotten a job of this shard",
    )


def unknown(token: str, jobs: Iterable[RemoteJob], rows: Iterable[ShardRow]) -> list[RemoteJob]:
    """Jobs of attempts of which the manifest knows no intent to create them; ``jobs`` are all of the run, read after
    the pass over the list.

    Before the next attempt of a shard is sent, any job of an earlier one is looked for anyway.
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


class _Seen(Struct, frozen=True):
    what: str
    since: float
    looks: int = 1


class Sightings:
    """One oddity at a time of each name."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def confirmed(self, name: str, what: str, now: float, *, looks: int, seconds: float) -> bool:
        """One more look at ``now``, by the monotonic clock; whether that makes as many in a row, over so long."""
        before = self._seen.get(name)
        if before is None or before.what != what:
            seen = _Seen(what, now)
        else:
            seen = _Seen(what, before.since, before.looks + 1)
        self._seen[name] = seen
        return seen.looks >= looks and now - seen.since >= seconds

    def forget(self, name: str) -> None:
        self._seen.pop(name, None)
