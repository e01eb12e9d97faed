"""What the answer to a create means: five classes, one table.

A create has no idempotency key, so the question is never "did it work?" but "what is certain?". Only a complete
answer that names a job is OK; only an answer that carries Google's own error body is a refusal, for a proxy may
have spoken otherwise. All else is ambiguous, and is found out by looking, never by sending again.
"""

from __future__ import annotations

import enum

from .._errors import ApiError, PacktrainError, ProtocolError, TransportError

#: Refusals that come before anything is made.
DEFINITE = frozenset({400, 401, 403, 404, 405, 411, 413, 414, 415, 422})


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


def classify(error: PacktrainError, *, file: str, proven: bool) -> Outcome:
    """The class of a failed create. ``proven``: another create of this run was accepted."""
    if isinstance(error, TransportError):
        return Outcome.AMBIGUOUS if error.sent else Outcome.NOT_SENT
    if isinstance(error, ProtocolError) or not isinstance(error, ApiError) or error.code is None:
        return Outcome.AMBIGUOUS
    if error.status == 429:
        return Outcome.THROTTLED
    if error.status not in DEFINITE:
        return Outcome.AMBIGUOUS
    return _refusal(error, file=file, proven=proven)


def _refusal(error: ApiError, *, file: str, proven: bool) -> Outcome:
    text = str(error)
    if file in text or file.removeprefix("files/") in text:
        return Outcome.FILE_GONE
    if error.code == "FAILED_PRECONDITION" and "ACTIVE" in text:
        return Outcome.THROTTLED
    if error.status == 400 and "API key" not in text:
        return Outcome.REFUSED if proven else Outcome.SUSPECT
    return Outcome.BARRED
