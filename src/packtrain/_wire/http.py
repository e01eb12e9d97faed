"""One HTTP exchange as data."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

Headers = Mapping[str, str]


class Call(Struct, frozen=True, kw_only=True):
    """A request. ``target`` is a path below the service's origin, or a whole URL that the service gave."""

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
