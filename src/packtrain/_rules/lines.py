"""The shape of a service's lines: members of a request and of a result, and which errors pass.

A shape is a small value: worker processes get it as JSON.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
from msgspec import Raw, Struct

from .retry import TRANSIENT


class LineShape(Struct, frozen=True, kw_only=True):
    """Names of members. The defaults are packtrain's own lines."""

    #: Of a request line: what it is known by, and the request itself, a JSON object.
    key: str = "key"
    request: str = "request"
    #: Of a result line, which has the key as well: the answer or the error; an absent member and a null one are none.
    response: str = "response"
    error: str = "error"
    #: Codes by which an error passes, so that the same request may fare better another time: numbers, and names in
    #: upper case. A number that is in neither list is read as an HTTP status.
    passing: tuple[int | str, ...] = ()
    lasting: tuple[int | str, ...] = ()


class _Error(Struct):
    code: int | str | None = None
    status: str | None = None


_error = msgspec.json.Decoder(_Error)


def is_retryable(error: Raw, shape: LineShape) -> bool:
    """Whether the error of a row is one that passes: by number or name in its shape, or by HTTP status."""
    try:
        said = _error.decode(error)
    except msgspec.MsgspecError:
        return False
    passing, lasting = _codes(shape)
    if isinstance(said.code, int):
        return said.code in passing or (said.code not in lasting and said.code in TRANSIENT)
    return str(said.code or said.status).upper() in passing


@lru_cache(maxsize=8)
def _codes(shape: LineShape) -> tuple[frozenset[int | str], frozenset[int | str]]:
    return frozenset(shape.passing), frozenset(shape.lasting)
