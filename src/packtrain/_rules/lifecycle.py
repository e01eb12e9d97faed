"""The life of a shard: which event may follow which state, and what it changes.

An event is a value whose fields are the fields of the row that it sets; ``TABLE`` says in which states it may occur
and where it leads. ``advance`` is the only way to a new row. The rules behind the table:

1. No remote effect without its intent recorded first: UPLOADING before a name is claimed at the service,
   FINALIZING before the last byte, CREATE_INTENT before the one POST, REVOKE_INTENT before a revocation.
2. A create is sent once. Whatever is not a definite answer, a restart included, makes it RECONCILING.
3. Out of RECONCILING leads an adoption, or a revocation: the attempt's input file is deleted, so that a create
   that is still on its way is refused by the service, and only then the next attempt begins.
4. Only an adopted job is ever downloaded, so a duplicate job can cost money but never enters the output.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from .._errors import Conflict
from .._model import ShardRow, State, Tally, Upload

S = State


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to a shard."""


class UploadIntended(Event, frozen=True, kw_only=True):
    """The name ``file`` is about to be claimed for this attempt."""

    attempt: int
    file: str
    upload: Upload
    tag: str | None = None
    reason: str | None = None


class UploadOpened(Event, frozen=True, kw_only=True):
    """The service opened an upload session."""

    upload: Upload


class UploadLost(Event, frozen=True, kw_only=True):
    """The session is over and left no file; the same attempt starts another."""

    upload: Upload
    reason: str | None


class UploadRested(Event, frozen=True, kw_only=True):
    """The upload makes no progress, and is left alone for a while; the same session goes on."""

    upload: Upload
    reason: str


class FinalizeIntended(Event, frozen=True, kw_only=True):
    """All bytes but the last chunk are there; what follows may bring the file into being."""

    upload: Upload


class PartStored(Event, frozen=True, kw_only=True):
    """The service stored one more part of the file."""

    upload: Upload


class FileNamed(Event, frozen=True, kw_only=True):
    """The service has the file, under an id of its own."""

    file: str


class FileReady(Event, frozen=True, kw_only=True):
    """The service has the file, ready, with our size and digest."""

    file_expires_at: float | None
    upload: Upload | None = None


class FileUnusable(Event, frozen=True, kw_only=True):
    """The file is gone, damaged or too old: the next attempt uploads another."""

    reason: str
    file: str | None = None
    file_expires_at: float | None = None
    upload: Upload | None = None


class CreateIntended(Event, frozen=True, kw_only=True):
    """The one POST is about to be sent."""

    tag: str
    intent_at: float


class CreateDeferred(Event, frozen=True, kw_only=True):
    """The POST was answered with a no, and may be sent again at ``due``.

    ``intent_at`` is that of the last create that may have been accepted all the same, None when there is none.
    """

    due: float
    reason: str
    intent_at: float | None = None


class CreateRejected(Event, frozen=True, kw_only=True):
    """The service refused this shard's content; its lines fail with the reason."""

    reason: str


class CreateAmbiguous(Event, frozen=True, kw_only=True):
    """It is not known whether there is a job."""

    ambiguous_at: float
    reason: str


class CreateSuspected(Event, frozen=True, kw_only=True):
    """This manifest may have forgotten a create, so it is not known whether there is a job."""

    attempt: int
    file: str
    tag: str
    ambiguous_at: float
    reason: str
    file_expires_at: float | None = None
    upload: Upload | None = None


class JobAdopted(Event, frozen=True, kw_only=True):
    """The job exists and is ours: from the answer to the create, or found by its tag or its input file."""

    job: str
    submitted_at: float
    reason: str | None = None
    ambiguous_at: float | None = None


class RevokeIntended(Event, frozen=True, kw_only=True):
    """The attempt's input file is about to be revoked."""


class Revoked(Event, frozen=True, kw_only=True):
    """The input file is gone: no create of this attempt can be accepted any more."""

    ambiguous_at: float


class AttemptAbandoned(Event, frozen=True, kw_only=True):
    """The job stayed absent from the list: none was made."""

    reason: str
    file: str | None = None
    file_expires_at: float | None = None
    upload: Upload | None = None
    intent_at: float | None = None
    ambiguous_at: float | None = None


class JobEnded(Event, frozen=True, kw_only=True):
    """The job is over. ``result`` is its results file, None when it left none."""

    result: str | None
    reason: str | None = None


class JobNeverStarted(Event, frozen=True, kw_only=True):
    """The service ended the job before it ran; a create with the same input file may be sent at ``due``."""

    due: float
    reason: str
    job: str | None = None
    submitted_at: float | None = None
    intent_at: float | None = None


class ResultLost(Event, frozen=True, kw_only=True):
    """The results were made, and paid for, but are gone from the service."""

    reason: str
    result: str | None = None


class Landed(Event, frozen=True, kw_only=True):
    """Every key of the shard is accounted for, in a durable file here."""

    tally: Tally


class Closed(Event, frozen=True, kw_only=True):
    """Nothing of the shard is left to clean up."""


class Quarantined(Event, frozen=True, kw_only=True):
    """A person must decide; ``reason`` says what is known."""

    reason: str


class JobKept(Event, frozen=True, kw_only=True):
    """A person decided that the shard goes on with the job that it had."""

    submitted_at: float
    reason: str


class RetryDecided(Event, frozen=True, kw_only=True):
    """A person decided that the shard gets one more attempt; the name ``file`` is about to be claimed for it."""

    attempt: int
    file: str
    upload: Upload
    reason: str
    file_expires_at: float | None = None
    job: str | None = None
    result: str | None = None


class DropDecided(Event, frozen=True, kw_only=True):
    """A person decided that all lines of the shard fail."""

    reason: str
    job: str | None = None
    result: str | None = None


#: In which states an event may occur, and where it leads; None stays. Once a finalize was intended the attempt stays
#: FINALIZING, whatever becomes of its sessions: a file that shows up late is then known to be ours.
TABLE: dict[type[Event], tuple[frozenset[State], State | None]] = {
    UploadIntended: (frozenset({S.SEALED}), S.UPLOADING),
    UploadOpened: (frozenset({S.UPLOADING, S.FINALIZING}), None),
    UploadLost: (frozenset({S.UPLOADING, S.FINALIZING}), None),
    UploadRested: (frozenset({S.UPLOADING, S.FINALIZING}), None),
    FinalizeIntended: (frozenset({S.UPLOADING}), S.FINALIZING),
    PartStored: (frozenset({S.UPLOADING, S.FINALIZING}), None),
    FileNamed: (frozenset({S.FINALIZING}), None),
    FileReady: (frozenset({S.UPLOADING, S.FINALIZING}), S.UPLOADED),
    FileUnusable: (frozenset({S.UPLOADING, S.FINALIZING, S.UPLOADED, S.CREATE_INTENT}), S.SEALED),
    CreateIntended: (frozenset({S.UPLOADED}), S.CREATE_INTENT),
    CreateDeferred: (frozenset({S.CREATE_INTENT}), S.UPLOADED),
    CreateRejected: (frozenset({S.CREATE_INTENT}), S.ENDED),
    CreateAmbiguous: (frozenset({S.CREATE_INTENT}), S.RECONCILING),
    CreateSuspected: (frozenset({S.SEALED, S.UPLOADING, S.FINALIZING, S.UPLOADED}), S.RECONCILING),
    # Out of a quarantine only by a person, who names the job.
    JobAdopted: (frozenset({S.UPLOADED, S.CREATE_INTENT, S.RECONCILING, S.REVOKED, S.QUARANTINED}), S.SUBMITTED),
    RevokeIntended: (frozenset({S.RECONCILING}), S.REVOKE_INTENT),
    Revoked: (frozenset({S.REVOKE_INTENT}), S.REVOKED),
    AttemptAbandoned: (frozenset({S.RECONCILING, S.REVOKED}), S.SEALED),
    JobEnded: (frozenset({S.SUBMITTED}), S.ENDED),
    JobNeverStarted: (frozenset({S.SUBMITTED}), S.UPLOADED),
    ResultLost: (frozenset({S.ENDED}), None),
    Landed: (frozenset({S.ENDED}), S.LANDED),
    Closed: (frozenset({S.LANDED}), S.CLOSED),
    Quarantined: (frozenset(S) - {S.LANDED, S.CLOSED, S.QUARANTINED}, S.QUARANTINED),
    JobKept: (frozenset({S.QUARANTINED}), S.SUBMITTED),
    RetryDecided: (frozenset({S.QUARANTINED}), S.UPLOADING),
    DropDecided: (frozenset({S.QUARANTINED}), S.ENDED),
}

#: The states by the part of the client that works on them.
UPLOAD = frozenset({S.SEALED, S.UPLOADING, S.FINALIZING})
CREATE = frozenset({S.UPLOADED, S.CREATE_INTENT})
WATCHED = frozenset({S.SUBMITTED})
AMBIGUOUS = frozenset({S.RECONCILING, S.REVOKE_INTENT, S.REVOKED})
COLLECT = frozenset({S.ENDED, S.LANDED})
#: Nothing more will happen by itself; a quarantined shard is brought out of it by a person alone.
SETTLED = frozenset({S.CLOSED, S.QUARANTINED})
#: The service has an input file of ours, or may have one.
STORED = (UPLOAD | CREATE | WATCHED | AMBIGUOUS | COLLECT) - {S.SEALED, S.REVOKED}
#: A job of ours is live at the service, or may be.
LIVE = frozenset({S.CREATE_INTENT}) | AMBIGUOUS | WATCHED
#: The shard's own file occupies the spool until its results land. One that waits for a person does not count, or
#: it would hold back all that could go on.
SPOOLED = frozenset(S) - {S.LANDED, S.CLOSED, S.QUARANTINED}


def advance(row: ShardRow, event: Event) -> ShardRow:
    """The job after the event. Raises Conflict when the table does not allow it."""
    allowed, after = TABLE[type(event)]
    if row.state not in allowed:
        raise Conflict(f"shard {row.shard}: {type(event).__name__} cannot follow {row.state}")
    return msgspec.structs.replace(row, state=after or row.state, **msgspec.structs.asdict(event))


def detail(event: Event) -> str:
    """The event's fields as text for the history, without the upload session, which is a secret."""
    fields = {k: v for k, v in msgspec.structs.asdict(event).items() if k != "upload" and v is not None}
    return msgspec.json.encode(fields).decode() if fields else ""
