"""Every default, written once, with its unit."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from ._constraints import Duration, Natural, Positive, check_fields
from ._model import RetryClass

KB, MB, GB = 10**3, 10**6, 10**9
KIB, MIB, GIB = 2**10, 2**20, 2**30

#: One read of the input, and the unit of handing work to a thread or a process.
BLOCK_BYTES = 2 * MIB
#: Blocks that are being validated or wait to be taken, in bytes; a single larger one is let in alone.
BLOCKS_BYTES = 32 * MIB
#: Input from which worker processes are started, which takes a tenth of a second.
WORKERS_FROM = 64 * MB
#: Worker processes when no number is chosen. More would wait for the one process that takes blocks in order.
MAX_WORKERS = 4
#: Memory shared with one worker process; a longer block is validated in this process.
WORKER_BYTES = 8 * MIB
#: Blocks that wait to be written to the open shard while one is written.
WRITES_WAITING = 2
#: Seconds that a block of a stream or of rows may grow once it has a byte.
LINGER = 0.1
#: Seconds that closing waits for a synchronous iterable of rows to return.
CLOSE_PATIENCE = 1.0
#: One line of input; longer ones are rejected, and are never in memory whole.
MAX_LINE_BYTES = 20 * MB
#: One row of results; a longer one is a failed line, and is never in memory whole. More than the longest request, and
#: more than a model writes: services end a generation at about 65,000 tokens.
MAX_RESULT_LINE_BYTES = 32 * MB
#: Brackets open at once in one line. An own limit, because a parser's differs between interpreters.
MAX_DEPTH = 96
#: A key, in bytes of UTF-8.
MAX_KEY_BYTES = 4 * KB

#: Disk for shards whose results have not landed.
SPOOL_BYTES = 20 * GB
#: Keys held in memory, 80 MB, before they go to disk as one sorted run; two fifths of that from then on.
LEDGER_KEYS = 1_250_000
#: Keys held at once when results are joined that do not come in order; larger shards take several passes.
JOIN_WINDOW = 1_000_000
#: One read of requests or results that are joined: few enough bytes to stay in the processor's cache.
JOIN_READ_BYTES = 64 * KIB
#: Files from which a process of their own parses them, because starting it takes less time than parsing.
JOIN_PROCESS_FROM = 64 * MIB
#: Requests without a row that a join in order passes over to find the one of the next row.
JOIN_LOOK_AHEAD = 1000
#: Rows that a join in order may set apart: a number at the beginning, one for so many requests passed, and a number
#: that fits memory in any case.
JOIN_UNPLACED_FIRST, JOIN_UNPLACED_SHARE, JOIN_UNPLACED_MOST = 1000, 2, 250_000
#: Bytes of results after which a join in order begins to write the answers that it has found.
JOIN_WRITE_BYTES = 8 * MIB
#: Rows that a join by index reads and writes at once, and the most bytes of them.
JOIN_GATHERED_ROWS, JOIN_GATHERED_BYTES = 256, 16 * MIB
#: Shorter pieces of results are copied through a buffer, longer ones by the kernel.
KERNEL_COPY_FROM = 256 * KIB

UPLOADS = 4
DOWNLOADS = 4
#: One data call of an upload; rounded down to the granularity that the service names.
CHUNK_BYTES = 256 * MIB
#: One read of a file that is sent; twice as much may wait for the socket.
SEND_BYTES = 2 * MIB
#: One read of a file that is copied, and one write of a file that is received.
PIECE_BYTES = 1 * MIB
#: Written bytes after which the disk is asked to begin with them, so that a later sync finds little left.
WRITEBACK_BYTES = 16 * MIB
#: Bytes fetched twice where a download is resumed, and compared.
DOWNLOAD_OVERLAP = 64 * KIB
#: Recoveries of one upload without a byte of progress.
UPLOAD_STALLS = 5

#: Times that the lines of a shard which failed for a passing reason are asked again.
RETRIES = 2

#: Waits, in seconds.
CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 60.0
CREATE_TIMEOUT = 60.0
#: Of one idempotent call, before the driver waits a while and says why.
CALL_ATTEMPTS = 4
BACKOFF_FLOOR = 0.5
BACKOFF_CEILING = 60.0
#: No wait that the service asks for, or that is stored, is longer than this.
LONGEST_WAIT = 3600.0
#: A day: a proxy or a maintenance may be in the way overnight, and jobs take as long anyway.
PATIENCE = 24 * 3600.0
FILE_READY_TIMEOUT = 600.0

#: Answers shorter than this are control messages; a longer one is refused.
MAX_REPLY_BYTES = 64 * MIB
#: One line or header of an answer, and the number of headers.
HEADER_BYTES, HEADERS = 64 * KIB, 512

Duplicates = Literal["reject", "error"]
Ambiguity = Literal["revoke", "wait", "quarantine"]
#: Former words for two of them, which are still accepted.
_FORMER: dict[str, Ambiguity] = {"fence": "revoke", "settle": "wait"}


class Policy(Struct, frozen=True, kw_only=True):
    """Waits, counts and thresholds that the client decides by. Times in seconds.

    A caller rarely changes them; tests and benches hand in shorter ones.
    """

    #: Between two looks of a driver for requests of people, and the wait of a command for the driver to take one.
    requests_every: Duration = 1.0
    request_wait: Duration = 10.0
    #: A lane of the driver with nothing to do looks again after this long, for shards whose time has come.
    idle_look: Duration = 1.0
    #: The most that ``Options.patience`` counts where a run does not wait for its jobs.
    brief_outage: Duration = 120.0
    #: After a stop, for calls in flight to finish.
    drain: Duration = 5.0
    #: Jobs looked up to see whether a new key or address shows what the last one made, the latest first.
    account_jobs: Positive = 5

    #: For a connection to be made, and for a call to wait for its peer: for room for our bytes, for the answer, and
    #: for its rest. Each byte that goes adds what it takes at ``least_rate``, so every call has a longest time.
    connect_timeout: Duration = CONNECT_TIMEOUT
    read_timeout: Duration = READ_TIMEOUT
    #: Bytes a second. The slowest line on which a backfill makes sense; a peer that sends less is given up.
    least_rate: Positive = 5_000
    #: A call that has waited for its peer for this long is logged, so that no silence is longer.
    notice_after: Duration = 15.0
    #: For the whole of a create. The service is asked to give up 5 s earlier, so that it accepts nothing later.
    create_timeout: Duration = CREATE_TIMEOUT
    #: Tries of one idempotent call, and the seconds after which none of them begins, before the driver waits and logs
    #: why.
    call_attempts: Positive = CALL_ATTEMPTS
    call_seconds: Duration = 30.0
    #: Recoveries of one upload in a row without a byte of progress, before it rests and is resumed later.
    upload_stalls: Positive = UPLOAD_STALLS
    #: The first rest of an upload session; each later one is twice as long, up to the longest. After so many, a session
    #: that the service still answers is given up, and the next one begins: together 20 min of rest a session.
    upload_rest: Duration = 5.0
    upload_longest_rest: Duration = 600.0
    upload_rests: Positive = 8
    #: Answers 404 or 410 for an upload session without a word of the service's own, and the seconds that they must
    #: cover, until another session is opened: a proxy may give them for a while.
    session_looks: Positive = 3
    session_seconds: float = 900.0
    #: For an uploaded file to become usable.
    file_ready_timeout: Duration = FILE_READY_TIMEOUT
    #: Between two refreshes of the status file.
    report_every: Duration = 1.0
    #: Tries of one download in a row, each from where the last one stopped, before the driver waits.
    download_tries: Positive = 6
    #: Copies of one results file that may be downloaded until two agree.
    result_copies: Positive = 5
    #: Sightings of the same results file that is cut within a row or has a row for no request, and the seconds that
    #: they must cover, until it is taken for what the service has. Each follows a download of two copies or more.
    odd_results_looks: Positive = 3
    odd_results_seconds: float = 900.0
    #: Until an input file that is no longer needed, and could not be deleted, is deleted; and for all that is left to
    #: be deleted at the service when the output stands. It removes input files itself when they expire.
    delete_again: Duration = 60.0
    tidy: Duration = 10.0

    # The paid decision. Fields in settling times are multiples of ``Service.settle``, by default 900 s.

    #: Attempts of one shard, each with its own input file; then a person must decide.
    attempts: Positive = 3
    #: An input file with less life left is uploaded again before its create, so that it lives until its job runs.
    file_margin: float = 2 * 3600.0
    #: Looks for the job of an ambiguous create, in settling times after the first look. A job nearly always shows up
    #: within seconds, so looks are dense at first: after 0, 2, 5, 10, 20, 40, 60 s, 2, 5, 10 and 15 min.
    looks: tuple[float, ...] = tuple(seconds / 900 for seconds in (0, 2, 5, 10, 20, 40, 60, 120, 300, 600, 900))
    #: Between two looks after these, and at least between any two, in settling times: 5 min, and 2 s.
    later_looks: float = 300 / 900
    shortest_look: float = 2 / 900
    #: A look comes later by up to this part of its wait, so that many shards do not look at the same instant.
    look_jitter: float = 0.2
    #: Passes that show a known job but not the one searched for, and the settling times that they must cover, until
    #: that one counts as absent. Three, because one may come from a list that lags.
    controlled_looks: Positive = 3
    controlled_settles: float = 1.0
    #: The same while no job is known that a pass could show: more, because the list may be falsely empty.
    uncontrolled_looks: Positive = 5
    uncontrolled_settles: float = 2.0
    #: The same for a create that the service itself has refused: it is taken for a no when the list does not show its
    #: job twice, 20 s apart. A bet: a job that was made in spite of the refusal, and that the list shows later, is a
    #: duplicate, which the sweep cancels.
    refused_looks: Positive = 2
    refused_settles: float = 20 / 900
    #: The settling time where attempts have no input file that could be revoked: as long as with a revocation.
    unrevoked_settles: float = 4 / 3
    #: The settling time after a revocation, in settling times: 5 min. No create is accepted any more by then, so only
    #: the lag of the list counts.
    revoked_settles: float = 1 / 3
    #: Until a deletion that has not taken effect is asked for again, in settling times: 90 s.
    revoke_again: float = 1 / 10
    #: Void passes in a row, and the seconds that they must cover, until a person must decide.
    void_looks: Positive = 3
    void_seconds: float = 24 * 3600.0
    #: Looks at a job that neither the list nor a look-up by name shows, and their seconds, until a person must decide:
    #: it was paid for.
    lost_looks: Positive = 3
    lost_seconds: float = 900.0
    #: Looks at a job that succeeded but shows no result file, and their seconds, until a person must decide.
    empty_looks: Positive = 2
    empty_seconds: float = 600.0
    #: Looks at a job that ended without results, and their settling times (1 min), until its lines are asked, and paid
    #: for, again.
    ended_looks: Positive = 2
    ended_settles: float = 1 / 15
    #: Looks at a result file that is gone, and their settling times, until its lines are asked, and paid for, again.
    gone_looks: Positive = 3
    gone_settles: float = 1.0
    #: From a job that the service ended before it ran to the next create: what it lacked is rarely there at once. Each
    #: wait is twice as long as the last, up to the longest. After so many such jobs, a day, a person must decide.
    never_started_wait: float = 300.0
    never_started_longest: float = 3600.0
    never_started_jobs: Positive = 27
    #: A time in an answer that is within these seconds of this machine's own is taken for the service's. Another one
    #: must be seen so often, over so many seconds, and keep the monotonic clock's pace within the tolerance: one
    #: answer, or a cache, may be days off.
    clock_agrees: Duration = 300.0
    clock_looks: Positive = 3
    clock_seconds: Duration = 120.0
    clock_tolerance: Duration = 30.0
    #: A job that has not ended by then is for a person. By the service's clock and by this machine's, since each may be
    #: days off.
    job_patience: float = 72 * 3600.0
    #: Each look at the jobs that changes nothing makes the wait for the next one longer by this factor, within
    #: ``Service.poll``; and the part of the wait by which it varies either way.
    poll_growth: float = 1.3
    poll_jitter: float = 0.2
    #: Between two looks, whatever is due.
    shortest_poll: float = 0.05
    #: Between two complete passes for duplicate jobs while a job lives: it bounds what a duplicate can cost.
    sweep_every: float = 600.0
    #: How long the end of a run waits for the end of duplicate jobs; the next start goes on with them.
    last_sweep: float = 120.0
    #: Pages of one pass over the list of jobs, and pages without a job in a row; a list with more does not end.
    list_pages: Positive = 10_000
    #: And the seconds of one pass: a thousand pages take a few minutes.
    list_seconds: Duration = 1800.0
    empty_pages: Positive = 3


class Options(Struct, frozen=True, kw_only=True):
    """What a caller may set for one client. Sizes in bytes, ages in seconds, None for no limit.

    Raises InputError for a value that a field can't have.
    """

    #: When a shard is full; None takes the service's limit, which holds in any case.
    shard_bytes: Positive | None = None
    #: The same in lines; None takes the service's limit.
    shard_requests: Positive | None = None
    #: Seal the open shard after this long, for slow endless streams.
    shard_age: Duration | None = None
    #: Uploads side by side.
    uploads: Positive = UPLOADS
    #: Downloads side by side.
    downloads: Positive = DOWNLOADS
    #: One data call of an upload; rounded down to the granularity that the service names.
    chunk_bytes: Positive = CHUNK_BYTES
    #: Disk for shards whose results have not landed; the input is held back while it is full. One shard always fits.
    spool_bytes: Positive = SPOOL_BYTES
    #: One read of the input.
    block_bytes: Positive = BLOCK_BYTES
    #: Processes that judge lines, started at once; 1 for none but this one. None starts one for each core that this
    #: process may use, ``MAX_WORKERS`` at most, when the input is long enough. The shards are the same with any number.
    workers: Positive | None = None
    #: A longer line is a reject.
    max_line_bytes: Positive = MAX_LINE_BYTES
    #: Keys of one run held in memory before they go to disk.
    ledger_keys: Positive = LEDGER_KEYS
    #: Keys of one shard held in memory while results that come in another order are joined.
    join_window: Positive = JOIN_WINDOW
    #: A key used twice: ``reject`` the later line, or stop with an ``error``.
    duplicates: Duplicates = "reject"
    #: Stop with an InputError after more bad lines than this.
    max_rejects: Natural | None = None
    #: When it is not known whether a create made a job, and the list of jobs shows none: ``revoke`` deletes the input
    #: file of that attempt and tries again, ``wait`` only waits and tries again, ``quarantine`` leaves the shard to a
    #: person. The former words ``fence`` and ``settle`` are taken for ``revoke`` and ``wait``.
    on_ambiguous: Ambiguity = "revoke"
    #: Times that lines which failed for a passing reason are asked again.
    retries: Natural = RETRIES
    #: Failures of the network, and answers that are not the service's own, are waited out for this long without a
    #: success of the same kind of call. Then the run ends, and the next start goes on.
    patience: Duration = PATIENCE
    #: Classes of rows that are asked again as well, and paid for again, as often as ``retries`` says: answers that say
    #: little, which stay unless a better one comes, and rows that are no JSON or too long.
    retry_class: tuple[RetryClass, ...] = ()
    #: A longer row of results is a failed line.
    max_result_line_bytes: Positive = MAX_RESULT_LINE_BYTES

    def __post_init__(self) -> None:
        if isinstance(self.on_ambiguous, str):
            force_setattr(self, "on_ambiguous", _FORMER.get(self.on_ambiguous, self.on_ambiguous))
        check_fields(self)
