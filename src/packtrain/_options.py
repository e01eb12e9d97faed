"""Every default, written once, with its unit."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from ._constraints import Duration, Natural, Positive, check_fields

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
#: One line of input; longer ones are rejects, and never stand in memory whole.
MAX_LINE_BYTES = 20 * MB
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
#: One read of requests or results that are joined: few enough lines to stay in the processor's cache.
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
#: Rows that a join by index reads and writes at once.
JOIN_GATHERED_ROWS = 256
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
#: Recoveries of one upload without a single byte of progress, before it starts anew.
UPLOAD_STALLS = 5
#: Attempts of one shard, each with its own input file, before a person must look.
ATTEMPTS = 3

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
FILE_READY_TIMEOUT = 600.0
#: What an interrupted run may still take to finish the calls under way.
DRAIN_SECONDS = 10.0
#: An input file with less life left than this is uploaded again before a job is made of it.
FILE_MARGIN = 2 * 3600.0
#: A job that has not ended after this long is a person's business, by the service's own clock and word of when it was
#: made: ours may have been set forward by days.
LONGEST_JOB = 72 * 3600.0

#: Answers shorter than this are control messages; a longer one is refused.
MAX_REPLY_BYTES = 64 * MIB

Duplicates = Literal["reject", "error"]
Ambiguity = Literal["revoke", "wait", "quarantine"]
#: Former words for two of them, which are still accepted.
_FORMER: dict[str, Ambiguity] = {"fence": "revoke", "settle": "wait"}


class Policy(Struct, frozen=True, kw_only=True):
    """Waits, counts and thresholds that the client decides by. Times in seconds.

    A caller rarely changes them; tests and benches hand in shorter ones.
    """

    #: For a connection to be made, and for the next bytes of an answer or the next room for ours.
    connect_timeout: Duration = CONNECT_TIMEOUT
    read_timeout: Duration = READ_TIMEOUT
    #: For the whole of a create. The service is told to give up 5 s earlier, so that it accepts nothing later.
    create_timeout: Duration = CREATE_TIMEOUT
    #: Tries of one idempotent call, before the driver waits and logs why.
    call_attempts: Positive = CALL_ATTEMPTS
    #: For an uploaded file to become usable.
    file_ready_timeout: Duration = FILE_READY_TIMEOUT
    #: Between two refreshes of the status file.
    report_every: Duration = 1.0


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

    def __post_init__(self) -> None:
        force_setattr(self, "on_ambiguous", _FORMER.get(self.on_ambiguous, self.on_ambiguous))
        check_fields(self)
