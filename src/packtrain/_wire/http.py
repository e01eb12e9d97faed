"""One HTTP exchange as data."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from msgspec import Struct

Headers = Mapping[str, str]


class Call(Struct, frozen=True, kw_only=True):
    """A request. ``target`` is a path below the service's origin, or a whole URL that the service gave."""

    #: What it is called, whatever the wire, as in ``create.post``.
    name: str
    method: str
    target: str
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


class Reply(Struct, frozen=True, kw_only=True):
    """A complete answer. Header names are in lower case."""

    status: int
    headers: Headers
    body: bytes = b""


def served_at(reply: Reply) -> float | None:
    """Unix seconds of the answer by the server's clock; None where it gives none."""
    try:
        return parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
    except (ValueError, OverflowError):
        return None


def same_origin(url: str, origin: str) -> bool:
    """Whether an address has the scheme, host and port of ``origin``, and nothing in it that could mislead."""
    if not (url.isascii() and url.isprintable() and len(url) <= 4096):
        return False
    given, ours = urlsplit(url), urlsplit(origin)
    return (given.scheme, given.netloc) == (ours.scheme, ours.netloc)
