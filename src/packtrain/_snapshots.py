"""Snapshots and reports: progress of a run, its summary, findings of a stage."""

from __future__ import annotations

from msgspec import Struct

from ._model import DuplicateJob, Reject, Shard, State, Statistics, Tally


class RowCounts(Struct, frozen=True, kw_only=True):
    """Rows of results that are no plain answers."""

    #: Answers in the output that say little: without content, held back by the service, cut off at the token limit.
    empty: int = 0
    blocked: int = 0
    recitation: int = 0
    truncated: int = 0
    #: Failed lines: their rows can't be passed on.
    not_json: int = 0
    too_long: int = 0
    #: Rows in ``OUT.unknown.jsonl``, which belong to no request.
    unknown: int = 0

    @classmethod
    def of(cls, tally: Tally) -> RowCounts:
        return cls(**{name: getattr(tally, name) for name in cls.__struct_fields__})


class PaidTwice(Struct, frozen=True, kw_only=True):
    """What was paid for more than once, or may have been."""

    #: Second jobs for a shard, cancelled when they were seen, and their lines.
    duplicate_jobs: int = 0
    duplicate_lines: int = 0
    #: Lines asked again because their answers were gone before they could be fetched.
    lost_lines: int = 0
    #: Lines asked again on request although the service had answered.
    repeated_lines: int = 0

    @classmethod
    def of(cls, statistics: Statistics) -> PaidTwice:
        return cls(
            duplicate_jobs=statistics.duplicates_healed,
            duplicate_lines=statistics.duplicates_lines,
            lost_lines=statistics.lost,
            repeated_lines=statistics.tally.repeated,
        )


class Progress(Struct, frozen=True, kw_only=True):
    """A run as this process sees it right now; cheap to ask for, and at most about a second old."""

    #: None for streams, whose length is not known.
    bytes_total: int | None = None
    bytes_read: int = 0
    bytes_sent: int = 0
    lines: int = 0
    valid: int = 0
    rejected: int = 0
    states: dict[State, int] = {}
    jobs: int = 0
    lines_answered: int = 0


class Waiting(Struct, frozen=True, kw_only=True):
    """Shards whose next call waits for the same reason: the service refused one, or it brought nothing."""

    #: The operation, and what the service answered.
    reason: str
    shards: int
    #: When the first of them tries again, in Unix seconds.
    due: float


class Status(Struct, frozen=True, kw_only=True):
    """A run as its driver last wrote it down, ``at`` in Unix seconds."""

    at: float
    statistics: Statistics
    progress: Progress
    #: Duplicate jobs: those that bear our tags and were not adopted.
    duplicate_jobs: list[DuplicateJob] = []
    #: Shards that wait for a person's decision, with the reason.
    quarantined: dict[int, str] = {}
    #: Of these shards, the job that may be adopted, as far as one is known.
    candidates: dict[int, str] = {}
    #: Shards whose last create has an unknown outcome, and since when, in Unix seconds.
    ambiguous: dict[int, float] = {}
    #: What uploads and creates wait for.
    waiting: list[Waiting] = []
    #: The run's name at the service, in the tags of its jobs; what ``recover`` wants to know.
    token: str | None = None
    #: The service that it was last driven with: its address, or the directory of one inside this program.
    service: str | None = None
    #: The process that drives it now; None without a driver.
    holder: str | None = None
    rows: RowCounts = RowCounts()
    paid_twice: PaidTwice = PaidTwice()


class Summary(Struct, frozen=True, kw_only=True):
    """How a run ended: the line that ``run --json`` prints."""

    run: str
    complete: bool
    lines: int
    valid: int
    answered: int
    failed: int
    rejected: int
    #: Lines of further inputs that were not asked, because their keys had answers.
    skipped: int = 0
    shards: int
    jobs_created: int
    duplicates_healed: int
    #: Of these, jobs whose cancel has not worked so far. The same call again goes on with it.
    duplicates_live: int = 0
    rows: RowCounts = RowCounts()
    paid_twice: PaidTwice = PaidTwice()
    bytes_in: int
    bytes_uploaded: int
    seconds: float


class Recovery(Struct, frozen=True, kw_only=True):
    """Counts of a recovered manifest."""

    run: str
    #: That the service lists for the run.
    jobs: int
    #: Cut from the input again, and how many of them have a job.
    shards: int
    with_job: int
    #: All of the input was read; otherwise the spool was full, and the run reads on.
    whole: bool


class Adoption(Struct, frozen=True, kw_only=True):
    """A manifest that goes on as ``instance``. ``ambiguous`` shards are reconciled before anything of them is sent."""

    instance: str
    ambiguous: int


class Finding(Struct, frozen=True, kw_only=True):
    """Something in a state directory that is not as it should be: a file, a shard or a run, and what is wrong."""

    where: str
    what: str


class Verification(Struct, frozen=True, kw_only=True):
    """What ``verify`` has found, and how much it has looked at."""

    findings: list[Finding]
    runs: int
    shards: int
    files: int
    bytes_read: int


class CheckReport(Struct, frozen=True, kw_only=True):
    """What is wrong with an input; ``rejects`` holds the first thousand of ``rejected``.

    ``reasons`` counts all, without what is about one line alone, and ``samples`` holds the first three of each.
    """

    lines: int
    valid: int
    rejected: int
    blank: int
    rejects: list[Reject]
    reasons: dict[str, int] = {}
    samples: list[Reject] = []


class SplitReport(Struct, frozen=True, kw_only=True):
    """An input cut into ``files``, one for each of ``shards``."""

    shards: list[Shard]
    files: list[str]
    lines: int
    valid: int
    rejected: int
    rejects_file: str | None = None


class MergeProgress(Struct):
    """How far a merge is, in bytes of results; ``merge`` keeps it up to date. ``total`` is 0 until it is known."""

    total: int = 0
    done: int = 0


class MergeReport(Struct, frozen=True, kw_only=True):
    """Requests joined with results. ``missing`` are those of ``failed`` for which there is no row at all."""

    lines: int
    answered: int
    failed: int
    missing: int
    duplicates: int
    unknown: int
    rows: RowCounts = RowCounts()
