"""One upload as a value: what to do next, and what an answer changes. By byte offsets, or by numbered parts.

The rules of offsets, as client libraries of the resumable protocols have them:

1. The offset moves only by what the service confirms, forward or back; never on our own guess.
2. After a lost reply, a missing status header or any refusal, no byte goes before a query has been answered.
3. ``final`` with 200 is success, also as the answer to a query; its body describes the file.
4. ``final`` with anything else, ``cancelled``, and refusals that no query can clear end the session.
5. Progress is more than was ever confirmed in the session. Recoveries in a row without progress are counted, and are
   few before the upload rests.
6. Each of them halves the next data call, for a service that keeps nothing of one which broke.
7. It rests as well when the service has answered for as many bytes as the file has, and not kept them. Rests grow;
   after some, a session that is still answered is given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._model import Upload

if TYPE_CHECKING:
    from .._options import Policy

#: Answers without a status header after which the offset may be asked for.
QUERY_AFTER = frozenset({200, 400, 408, 409, 412, 416, 429, 499, 500, 502, 503, 504})
#: Answers to a query that say nothing about the session.
TRANSIENT = frozenset({408, 429, 499, 500, 502, 503, 504})


class Answer(Struct, frozen=True, kw_only=True):
    """The answer of the upload backend."""

    status: int
    #: ``active``, ``final``, ``cancelled``, or None when the header is missing.
    upload_status: str | None = None
    received: int | None = None
    session: str | None = None
    granularity: int = 1
    body: bytes = b""


class Start(Struct, frozen=True):
    """Open a session."""


class Send(Struct, frozen=True):
    """Send ``length`` bytes from ``offset``; with ``finalize`` they are the last."""

    offset: int
    length: int
    finalize: bool


class SendPart(Struct, frozen=True):
    """Send part ``number``, counted from 0: ``length`` bytes from ``offset``."""

    number: int
    offset: int
    length: int


class Complete(Struct, frozen=True):
    """Make the file of the parts."""


class Query(Struct, frozen=True):
    """Ask how many bytes are there."""


class Finished(Struct, frozen=True):
    """The file is at the service."""


class Stuck(Struct, frozen=True):
    """No answer of the service helps; the session may still be valid, and is resumed later."""

    reason: str


class Dead(Struct, frozen=True):
    """This session is over without a file."""

    reason: str


Action = Start | Send | Query | Finished | Stuck | Dead


def next_action(upload: Upload, chunk_bytes: int, policy: Policy) -> Action:
    if upload.receipt is not None:
        return Finished()
    if upload.dead is not None:
        return Dead(upload.dead)
    if reason := _standstill(upload, policy):
        answered = not upload.offset_unknown
        return Dead(reason) if answered and upload.rests >= policy.upload_rests else Stuck(reason)
    if upload.session is None:
        return Start()
    if upload.offset_unknown:
        return Query()
    rest = upload.size - upload.offset
    chunk_bytes >>= upload.stalls
    chunk = max(upload.granularity, chunk_bytes - chunk_bytes % upload.granularity)
    return Send(upload.offset, min(rest, chunk), finalize=rest <= chunk)


def _standstill(upload: Upload, policy: Policy) -> str | None:
    """Why the upload must rest."""
    if upload.discarded > upload.size:
        return (
            f"the service confirmed {upload.high} of {upload.size} bytes, and now says that it has {upload.offset}: "
            f"{upload.discarded} bytes were sent for nothing"
        )
    if upload.stalls > policy.upload_stalls:
        return f"the upload has not moved in {policy.upload_stalls} recoveries"
    return None


def next_part(upload: Upload, part_bytes: int, policy: Policy) -> Start | SendPart | Complete | Stuck:
    """The next action of an upload by parts, each of ``part_bytes`` but the last."""
    if reason := _standstill(upload, policy):
        return Stuck(reason)
    if upload.session is None:
        return Start()
    if upload.offset >= upload.size:
        return Complete()
    return SendPart(len(upload.parts), upload.offset, min(part_bytes, upload.size - upload.offset))


def stored(upload: Upload, part: SendPart, name: str) -> Upload:
    """After the service stored a part under this id."""
    offset = part.offset + part.length
    return msgspec.structs.replace(upload, parts=(*upload.parts, name), offset=offset, stalls=0)


def started(upload: Upload, answer: Answer) -> Upload:
    """After the answer to ``Start``. 200 without the header or the address is transient: start again."""
    if answer.status == 200 and answer.upload_status == "active" and answer.session:
        granularity = max(1, answer.granularity)
        return msgspec.structs.replace(
            upload, session=answer.session, granularity=granularity, offset=0, high=0, stalls=0
        )
    if answer.status == 200 or (answer.upload_status is None and answer.status in TRANSIENT):
        return stalled(upload)
    return _dead(upload, f"the service refused to start the upload: {_said(answer)}")


def answered(upload: Upload, sent: int, answer: Answer) -> Upload:
    """After the answer to a ``Send`` of ``sent`` bytes."""
    if answer.upload_status is None:
        if answer.status in QUERY_AFTER:
            return offset_lost(upload)
        return _dead(upload, f"the upload was refused: {_said(answer)}")
    if answer.upload_status == "active" and (answer.status != 200 or answer.received is None):
        return offset_lost(upload)
    return _settled(upload, answer, upload.offset + sent)


def queried(upload: Upload, answer: Answer) -> Upload:
    """After the answer to ``Query``."""
    if answer.upload_status is None:
        if answer.status in TRANSIENT:
            return offset_lost(upload)
        return _dead(upload, f"the service no longer knows the upload: {_said(answer)}")
    if answer.upload_status == "active" and answer.status == 200 and answer.received is None:
        return _dead(upload, "the service does not say how many bytes it holds")
    return _settled(upload, answer, upload.high)


def offset_lost(upload: Upload) -> Upload:
    """After no answer, or one that leaves the offset unknown."""
    return msgspec.structs.replace(stalled(upload), offset_unknown=True)


def resumed(upload: Upload) -> Upload:
    """As resumed after a rest, or by another process: it is not known what was sent last."""
    high = max(upload.high, upload.offset)  # a release before kept no high-water mark
    return msgspec.structs.replace(upload, offset_unknown=upload.session is not None, high=high, stalls=0)


def rested(upload: Upload) -> Upload:
    """After a rest was decided: what led to it is counted from zero."""
    return msgspec.structs.replace(upload, rests=upload.rests + 1, stalls=0, discarded=0)


def renewed(upload: Upload) -> Upload:
    """A fresh session after one that died."""
    return Upload(size=upload.size, lost=upload.lost + 1)


def _settled(upload: Upload, answer: Answer, expected: int) -> Upload:
    """``expected``: the bytes that the service would have if it had kept all that it answered for."""
    if answer.upload_status == "final" and answer.status == 200:
        return msgspec.structs.replace(upload, receipt=answer.body, offset_unknown=False)
    if answer.upload_status != "active" or answer.status != 200 or answer.received is None:
        return _dead(upload, f"the upload was refused: {_said(answer)}")
    if answer.received > upload.size:
        return _dead(upload, f"the service claims {answer.received} bytes of a file of {upload.size}")
    discarded = upload.discarded + max(0, expected - answer.received)
    moved = msgspec.structs.replace(upload, offset=answer.received, offset_unknown=False, discarded=discarded)
    if answer.received > upload.high:
        return msgspec.structs.replace(moved, high=answer.received, stalls=0)
    return stalled(moved) if not upload.offset_unknown else moved


def stalled(upload: Upload) -> Upload:
    """After a recovery that brought nothing forward."""
    return msgspec.structs.replace(upload, stalls=upload.stalls + 1)


def _dead(upload: Upload, reason: str) -> Upload:
    return msgspec.structs.replace(upload, dead=reason)


def _said(answer: Answer) -> str:
    text = answer.body[:200].decode("utf-8", "backslashreplace")
    return f"HTTP {answer.status}, upload status {answer.upload_status or 'missing'}: {text!r}"
