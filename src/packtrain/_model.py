"""The nouns. Frozen values; a change is a new value.

Units: bytes, seconds, and Unix seconds for points in time. Names that a service gave are kept whole.
"""

from __future__ import annotations

import enum
from typing import Literal

from msgspec import Raw, Struct, field

from ._constraints import Duration, Positive

#: What the requests of a run ask for.
Task = Literal["generate", "embed"]
#: What a person can decide about a quarantined shard: a job at the service is its own (``adopt``), one more attempt is
#: made (``retry``), or all its lines fail (``drop``).
Decision = Literal["adopt", "retry", "drop"]
#: Why a generation was made of the lines of another: they failed and are asked again (``retry``). The other causes are
#: reserved, and nothing makes them yet: the service refused the shard for its size (``capacity``), the job expired with
#: answers for some lines only (``expiry``), or one of the lines spoils the whole job (``bisect``).
Cause = Literal["retry", "capacity", "expiry", "bisect"]


class Request(Struct, frozen=True):
    """One valid input line. ``body`` is the JSON text of the member ``request``, never rewritten."""

    key: str
    body: Raw


class RowError(Struct, frozen=True):
    """Why one line has no answer. ``code`` is the service's number for it, if it gave one."""

    message: str = ""
    code: int | None = None


class Verdict(enum.StrEnum):
    """What a row of results is; all but ``FAILED`` were paid for."""

    ANSWERED = "answered"
    #: The service's own error.
    FAILED = "failed"
    #: Answers that say little or nothing: no content, held back, cut off at the token limit.
    EMPTY = "empty"
    BLOCKED = "blocked"
    RECITATION = "recitation"
    TRUNCATED = "truncated"
    #: No JSON, or longer than a row may be: no answer that can be passed on.
    NOT_JSON = "not-json"
    TOO_LONG = "too-long"

    @property
    def is_answer(self) -> bool:
        """Belongs in the output."""
        return self not in (Verdict.FAILED, Verdict.NOT_JSON, Verdict.TOO_LONG)

    @property
    def is_paid(self) -> bool:
        return self is not Verdict.FAILED


#: Verdicts on rows that can be asked again on request.
RetryClass = Literal["empty", "blocked", "recitation", "truncated", "not-json", "too-long"]


class Result(Struct, frozen=True):
    """One answered line: either ``response`` (the service's JSON text) or ``error``."""

    key: str
    response: Raw | None = None
    error: RowError | None = None


class Reject(Struct, frozen=True, omit_defaults=True):
    """One bad input line and its place: ``line`` counts from 1, ``offset`` in bytes from 0.

    ``text`` is the line itself; ``base64`` is it instead where it is not UTF-8. Of a line above the limit these are the
    first bytes, and ``length`` is that of the whole.
    """

    source: str
    line: int
    offset: int
    reason: str
    text: str | None = None
    base64: str | None = None
    length: int | None = None


class Limits(Struct, frozen=True, kw_only=True):
    """What a service takes. None means that no limit is known."""

    shard_bytes: Positive
    shard_requests: Positive | None = None
    shard_age: Duration | None = None
    #: Jobs that have not ended, at once.
    live_jobs: Positive
    #: Of input files, at once.
    stored_bytes: Positive


class Run(Struct, frozen=True, kw_only=True):
    """One backfill."""

    #: The caller's name for it, unique in one manifest.
    id: str
    #: 26 characters made once; every remote name of the run is derived from it.
    token: str
    #: Digest of what must not change between two starts. The same id with another one is an error.
    fingerprint: str
    model: str
    task: Task
    limits: Limits
    #: Each merged line carries the request line's members as well.
    join: bool = False
    #: The manifest may have forgotten jobs of it: each shard that is sealed counts as ambiguous.
    recovered: bool = False


class Credential(Struct, frozen=True):
    """A salted fingerprint that detects a changed key or service, and does not reveal the key."""

    salt: str
    #: Empty without a key.
    digest: str
    #: The service's origin, or the directory of one that runs in this program; empty where it was not kept yet.
    place: str = ""


class SourceIdentity(Struct, frozen=True):
    """One input of a run as it was first seen; ``size`` and ``mtime_ns`` are -1 for streams and rows."""

    name: str
    size: int = -1
    mtime_ns: int = -1


class Cursor(Struct, frozen=True, kw_only=True):
    """How far the input is durably cut into shards, and the totals up to there.

    The manifest keeps it as JSON: a new field needs a default, and no migration.
    """

    source: int = 0
    #: Bytes of this source consumed, after decompression.
    offset: int = 0
    #: Lines of this source consumed, of any kind.
    line: int = 0
    #: Lines of all sources, blank ones included.
    lines: int = 0
    blank: int = 0
    valid: int = 0
    rejected: int = 0
    #: Lines of a further input whose keys have answers.
    skipped: int = 0
    #: Bytes of all sources.
    bytes: int = 0
    #: Length of the file of rejects that belongs to this position, and its SHA-256 in hex; empty where none was taken.
    rejects_bytes: int = 0
    rejects_sha256: str = ""
    #: Length of the file of places that belongs to this position.
    places_bytes: int = 0
    shards: int = 0
    done: bool = False
    #: A directory given as input stood for the files at any depth; in earlier versions for those right in it.
    recursive: bool = False


class Shard(Struct, frozen=True, kw_only=True):
    """A sealed file of requests, the unit of upload, job, retry and join."""

    run: str
    index: int
    #: 0 as cut from the input; 1, 2, 3 in the order in which its descendants were made.
    generation: int = 0
    #: The generation whose lines are asked again here, why, and the number of generations above; None and 0 as cut.
    parent: int | None = None
    cause: Cause | None = None
    depth: int = 0
    bytes: int
    lines: int
    #: In hex; empty for a file that was not cut here, whose digest is taken while it is sent.
    sha256: str
    #: Ordinals of its first and last request among all valid lines of the run.
    first: int
    last: int


class Upload(Struct, frozen=True, kw_only=True):
    """The state of one upload. It is saved, and another process goes on with it."""

    size: int
    #: The provider's handle of the upload session, such as an address. A secret: it is enough to write. None before
    #: the start. Stored under the name that it had first.
    session: str | None = field(default=None, name="url")
    #: Bytes that the service says it holds.
    offset: int = 0
    #: Every chunk but the last is a multiple of this.
    granularity: int = 1
    #: The service's word is needed before the next byte may go.
    offset_unknown: bool = False
    #: Ids of the parts that the service stored, in order; for uploads by parts.
    parts: tuple[str, ...] = ()
    #: The most bytes that the service has confirmed in this session.
    high: int = 0
    #: Recoveries in a row without more than that.
    stalls: int = 0
    #: Bytes that the service answered for, and did not keep.
    discarded: int = 0
    #: How often this session was left alone for a while.
    rests: int = 0
    #: Sessions before this one that ended without a file.
    lost: int = 0
    #: Body of the final answer: the service's description of the file.
    receipt: bytes | None = None
    #: Why this session is over without a file.
    dead: str | None = None


class FileState(enum.StrEnum):
    """Whether a job can be made of a file."""

    READY = "ready"
    #: Not yet; the service is still at work on it.
    PROCESSING = "processing"
    #: It never will.
    UNUSABLE = "unusable"


class RemoteFile(Struct, frozen=True, kw_only=True):
    """A file as the service describes it."""

    name: str
    state: FileState
    bytes: int
    #: Hex, or None where the service gives none.
    sha256: str | None = None
    display_name: str = ""
    expires_at: float | None = None
    reason: str = ""


class JobState(enum.StrEnum):
    """The service's own states. ``UNKNOWN`` is any word that we have not met."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        return self in _TERMINAL


_TERMINAL = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}


class RemoteJob(Struct, frozen=True, kw_only=True):
    """A job as the service describes it."""

    name: str
    state: JobState
    display_name: str = ""
    input_file: str = ""
    result_file: str | None = None
    #: A second file, of the rows without an answer, where the service keeps these apart.
    error_file: str | None = None
    created_at: float | None = None
    reason: str = ""
    requests: int | None = None
    #: Without the collection that a wire puts before it; empty where the service says none.
    model: str = ""
    #: It ended before it ran: nothing was done, and nothing is billed.
    never_started: bool = False

    @property
    def results(self) -> str | None:
        """Names of the files of results, with a space between them; None when the job shows none."""
        return " ".join(name for name in (self.result_file, self.error_file) if name) or None


class JobPage(Struct, frozen=True):
    """One page of the service's list of jobs."""

    jobs: tuple[RemoteJob, ...]
    next_token: str | None
    #: The JSON of items that describe no job that we could read.
    unreadable: tuple[str, ...] = ()


class State(enum.StrEnum):
    """What *we* have durably done with a shard. ``_rules/lifecycle.py`` has the transitions."""

    SEALED = "sealed"
    UPLOADING = "uploading"
    FINALIZING = "finalizing"
    UPLOADED = "uploaded"
    CREATE_INTENT = "create_intent"
    RECONCILING = "reconciling"
    REVOKE_INTENT = "revoke_intent"
    REVOKED = "revoked"
    SUBMITTED = "submitted"
    ENDED = "ended"
    LANDED = "landed"
    CLOSED = "closed"
    QUARANTINED = "quarantined"


class Tally(Struct, frozen=True, kw_only=True):
    """Counts of the answers of one shard, over all its generations so far. ``answered + failed`` is the number of its
    lines."""

    answered: int = 0
    failed: int = 0
    #: Of the failed: keys for which no row came back at all.
    missing: int = 0
    #: Of the failed: keys that are asked again in the next generation.
    again: int = 0
    #: Of the answered: answers of these classes, see ``Verdict``.
    empty: int = 0
    blocked: int = 0
    recitation: int = 0
    truncated: int = 0
    #: Of the failed: rows that are no JSON, or too long, so that they can't be passed on.
    not_json: int = 0
    too_long: int = 0
    #: Keys that were asked again after the service had answered, and so were paid for twice.
    repeated: int = 0
    duplicates: int = 0
    unknown: int = 0
    bytes: int = 0
    #: Of the answers, in hex.
    sha256: str = ""
    #: Of the lists of failed keys, of rows of no request, and of the failed requests; empty where none was taken.
    lists: tuple[str, ...] = ()


class ShardRow(Struct, frozen=True, kw_only=True):
    """The row that a driver claims: one shard on its way through the service."""

    run: str
    shard: int
    generation: int = 0
    #: Those of the shard.
    parent: int | None = None
    cause: Cause | None = None
    depth: int = 0
    state: State = State.SEALED
    #: Attempts begun, each with an input file of its own.
    attempt: int = 0
    #: The number of events recorded for it.
    version: int = 0
    #: The node that has claimed it; None while it is free.
    owner: int | None = None
    #: The fencing token: grows with every claim and takeover; a write with an older one changes nothing.
    fence: int = 0
    #: Not claimed before this time, by the manifest's clock.
    due: float = 0.0
    #: How often the database has lost commits; a part of remote names once it is not 0.
    epoch: int = 0
    file: str | None = None
    file_expires_at: float | None = None
    upload: Upload | None = None
    tag: str | None = None
    #: When the last create was intended that may have made a job, and when its outcome became ambiguous.
    intent_at: float | None = None
    ambiguous_at: float | None = None
    job: str | None = None
    #: When the job was made, or since when a person has it wait, by the service's clock if it gives its time.
    submitted_at: float | None = None
    result: str | None = None
    reason: str | None = None
    tally: Tally | None = None


class DuplicateState(enum.StrEnum):
    """The fate of a duplicate job."""

    #: Its shard has no adopted job and waits for a person, who decides about this one too.
    SEEN = "seen"
    #: To be cancelled, again and again until it has ended.
    CANCELLING = "cancelling"
    #: It has ended since, at the latest by our cancel.
    CANCELLED = "cancelled"
    #: It had ended when it was met, and was paid for.
    ENDED = "ended"


class DuplicateJob(Struct, frozen=True, kw_only=True):
    """A job at the service that bears a tag of ours, and is not the one adopted for its shard."""

    job: str
    shard: int
    generation: int = 0
    #: The attempt that its tag names.
    attempt: int
    state: DuplicateState


class Entry(Struct, frozen=True, kw_only=True):
    """One line of a run's history."""

    at: float
    shard: int
    generation: int
    attempt: int
    event: str
    before: State
    after: State
    detail: str = ""


class Lease(Struct, frozen=True, kw_only=True):
    """A node that may claim rows until ``until``, by the manifest's clock."""

    node: int
    until: float


class ListPass(Struct, frozen=True, kw_only=True):
    """One complete reading of the service's list of jobs, by the manifest's clock."""

    began_at: float
    ended_at: float
    #: Every page was readable, and the jobs that are known to exist were on it.
    valid: bool
    #: When the latest of those known jobs was made, by the service's clock; None without one.
    control_at: float | None = None


class Reservation(Struct, frozen=True, kw_only=True):
    """A part of a service's quota, held by a row from its create intent on until its job has ended."""

    service: str
    #: Such as ``jobs``, ``tokens``, ``bytes``.
    what: str
    amount: int


class Quota(Struct, frozen=True, kw_only=True):
    """What a service lets us hold of something, and how much of it is reserved."""

    service: str
    what: str
    used: int
    most: int


class Statistics(Struct, frozen=True, kw_only=True):
    """A snapshot of a run."""

    run: str
    cursor: Cursor
    states: dict[State, int]
    #: Bytes of shards whose results have not landed; they occupy the spool.
    spooled_bytes: int = 0
    #: Bytes of input files at the service.
    stored_bytes: int = 0
    uploaded_bytes: int = 0
    jobs_created: int = 0
    #: Jobs that were not adopted. Nothing of them enters the output.
    duplicates_healed: int = 0
    #: Of these, jobs that are to be cancelled and have not ended.
    duplicates_live: int = 0
    #: Lines of the jobs that were not adopted.
    duplicates_lines: int = 0
    #: Lines sent again because they had failed, and lines whose answers were paid for but gone before they came.
    retried: int = 0
    lost: int = 0
    tally: Tally = Tally()
    merged: bool = False

    @property
    def shards(self) -> int:
        return sum(self.states.values())

    def count(self, *states: State) -> int:
        return sum(self.states.get(state, 0) for state in states)


class Secret:
    """A credential that does not show itself: its text is had by ``reveal()`` alone."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a Secret is not pickled")
