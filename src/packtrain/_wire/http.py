"""One HTTP exchange as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from msgspec import Struct

Headers = Mapping[str, str]


class Call(Struct, frozen=True, kw_only=True):
    """A request. ``target`` is a path below the service's origin, or a whole URL that the service gave."""

    #: What it is called, whatever the wire, as in ``create.post``.
    name: str
    #: The same in plain words, for messages.
    operation: str
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
    # From "!" to "~": no space, no control character, and all of them as they go over the wire.
    if not re.fullmatch(r"[!-~]{1,4096}", url) or "\\" in url:
        return False
    try:
        return _origin(url) == _origin(origin)
    except ValueError:  # a bad port, or half an IPv6 address
        return False


def shown_origin(url: str) -> str:
    """Scheme, host and port of any text, for a message: the rest of an address may be a secret."""
    try:
        scheme, host, port = _origin(url)
    except ValueError:
        return "an address that cannot be read"
    return f"{scheme}://{host}:{port}"[:200].encode("ascii", "backslashreplace").decode()


_PORTS = {"http": 80, "https": 443}


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port. Raises ValueError for an address with user information, and for none at all."""
    parts = urlsplit(url)
    if "@" in parts.netloc or not parts.hostname:
        raise ValueError("not an address of a service")
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def printable(text: bytes) -> str:
    """Untrusted bytes for a message: control characters escaped, so that a terminal shows and obeys none."""
    decoded = text.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in decoded)
