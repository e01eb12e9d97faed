"""OpenAI's error body."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ..gemini.errors import HTTP_STATUS

#: HTTP status -> the type that OpenAI gives to it; other statuses of 500 and more are server errors.
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}


#: The word for programs, where it is the type as well.
QUOTA = "insufficient_quota"


class Problem(Struct, frozen=True, kw_only=True):
    """What is wrong. ``param`` is the member of the request at fault, ``code`` a word for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Envelope(Struct, frozen=True):
    error: Problem


def problem(status: int, message: str, *, param: str | None = None, code: str | None = None) -> Envelope:
    kind = QUOTA if code == QUOTA else TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return Envelope(Problem(message=message, type=kind, param=param, code=code))


def encode_error(status: int, message: str, *, param: str | None = None, code: str | None = None) -> bytes:
    return msgspec.json.encode(problem(status, message, param=param, code=code))


def status_of(code: int | None) -> int:
    """The HTTP status for a gRPC number; 500 for one that says no more than that it went wrong."""
    return HTTP_STATUS.get(code or 0, 500)
