"""Google's error body and the meaning of its refusals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ..._errors import ApiError, GatewayError, ProtocolError
from ..._options import LONGEST_WAIT
from ..http import printable, shown_origin

if TYPE_CHECKING:
    from ..._errors import Refusal
    from ..http import Reply

#: HTTP status -> Google's name for it, for the answers of our own service.
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


#: gRPC's numbers, as used inside jobs and rows. A job that was cancelled before it began has "internal".
GRPC_CANCELLED, GRPC_INVALID_ARGUMENT, GRPC_INTERNAL, GRPC_UNAVAILABLE, GRPC_DATA_LOSS = 1, 3, 13, 14, 15


#: gRPC's number -> HTTP status, where a row's error becomes the answer to a call.
HTTP_STATUS = {
    1: 499,
    3: 400,
    4: 504,
    5: 404,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    14: 503,
    16: 401,
}


#: And back, where another endpoint's answer becomes a row's error.
GRPC_CODE = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    408: 4,
    409: 10,
    413: 3,
    422: 3,
    429: 8,
    499: 1,
    501: 12,
    502: 14,
    503: 14,
    504: 4,
}


#: google.rpc.Code: an error of the service has one of these names.
_NAMES = frozenset(STATUS_NAMES.values()) | {
    "ABORTED",
    "CANCELLED",
    "DATA_LOSS",
    "FAILED_PRECONDITION",
    "UNKNOWN",
}
#: Of a body that is not the service's, so much is quoted.
_QUOTED = 200


class Status(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """google.rpc.Status. ``code`` is the HTTP status on the outside, a gRPC number inside jobs and rows."""

    code: int = 0
    message: str = ""
    status: str | None = None
    details: Any = None


class Envelope(Struct, frozen=True):
    error: Status


_decoder = msgspec.json.Decoder(Envelope)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode_error(status: int, message: str, *, name: str | None = None, details: object = None) -> bytes:
    name = name or STATUS_NAMES.get(status, "UNKNOWN")
    error = Status(code=status, message=message, status=name, details=details)
    return msgspec.json.encode(Envelope(error))


def read_status(reply: Reply) -> Status | None:
    """Google's own status in an error answer; None when a proxy or a bare server answered instead."""
    if reply.status < 400:
        return None
    try:
        status = _decoder.decode(reply.body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return status if status.status in _NAMES else None


#: Gone, never there, or not ours: the Files API says 403 for all of them, jobs say 404.
ABSENT = frozenset({403, 404})
#: Refusals of a create that come before anything is made.
_DEFINITE = frozenset({400, 401, 403, 404, 405, 411, 413, 414, 415, 422})


def failure(operation: str, reply: Reply) -> ApiError | GatewayError:
    """The exception for an answer to any call but a create: an ApiError for the service's own error body alone."""
    return error_of(operation, reply) if read_status(reply) else gateway_error(operation, reply)


def gateway_error(operation: str, reply: Reply) -> GatewayError:
    """The exception for an answer that the service does not give. Of a redirect only the host is named, because the
    rest may be the address of an upload session, which is a secret."""
    kind, location = reply.headers.get("content-type", "").partition(";")[0].strip(), reply.headers.get("location")
    details = [printable(kind[:80].encode())] if kind else []
    details += [f"to {shown_origin(location)}"] if location else []
    given = f"{reply.status} ({', '.join(details)})" if details else str(reply.status)
    return GatewayError(
        f"{operation}: the answer {given} is not the service's own; a proxy or gateway may have given it: "
        f"{printable(reply.body[:_QUOTED].strip()) or 'it has no body'}",
        status=reply.status,
        retry_after=retry_after(reply),
    )


def is_page(reply: Reply, *, inside: bool = False) -> bool:
    """Whether the answer is a page for people, as proxies and login portals give, whatever its status. ``inside``: the
    body begins somewhere in a file."""
    if "html" in reply.headers.get("content-type", "").lower():
        return True
    return not inside and reply.body[:_QUOTED].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def is_ours(reply: Reply) -> bool:
    """Whether a success that can't be read may still be the service's: an object with a member that it would have."""
    try:
        members = _object.decode(reply.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not members.keys().isdisjoint(("name", "file", "operations", "metadata"))


def read_nothing(reply: Reply) -> None:
    """The answer to a deletion or a cancellation. Raises ProtocolError for one that says anything."""
    if reply.body.strip() not in (b"", b"{}", b"null") and reply.body.split() != [b"{", b"}"]:
        raise ProtocolError("the service said something where it has nothing to say")


def error_of(operation: str, reply: Reply) -> ApiError:
    """The exception for an answer that is not a success. ``operation`` names the call in plain words."""
    return _error(operation, reply, "absent" if reply.status in ABSENT else None)


def create_error(reply: Reply, file: str) -> ApiError:
    """The same for the create of a job of the input file ``file``: only Google's own error body is definite."""
    return _error("create of a job", reply, refusal(reply, file))


def refusal(reply: Reply, file: str) -> Refusal | None:
    """What the answer to a create refuses; None when a job may have been made."""
    status = read_status(reply)
    if status is None or not (reply.status == 429 or reply.status in _DEFINITE):
        return None
    if reply.status == 429:
        return "throttled"
    if file.rpartition("/")[2] in status.message:
        return "file_gone"
    if status.status == "FAILED_PRECONDITION" and "ACTIVE" in status.message:
        return "throttled"
    return "refused" if reply.status == 400 and "API key" not in status.message else "barred"


def _error(operation: str, reply: Reply, kind: Refusal | None) -> ApiError:
    status = read_status(reply)
    said = status.message if status else printable(reply.body[:_QUOTED])
    name = status.status if status else None
    answer = f"{reply.status} {name}" if name else str(reply.status)
    return ApiError(
        f"{operation}: the service answered {answer}: {said or 'no reason given'}",
        status=reply.status,
        code=name,
        retry_after=retry_after(reply),
        kind=kind,
    )


def retry_after(reply: Reply) -> float | None:
    """Seconds from ``Retry-After``; negative or unreadable values count as none, and an hour is the most."""
    value = reply.headers.get("retry-after", "")
    return min(float(value), LONGEST_WAIT) if re.fullmatch(r"\d{1,9}", value) else None
