"""What one client may take of the service: every limit in one place. Times in seconds, sizes in bytes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec import Struct

from .._options import KB, MIB
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Limits(Struct, frozen=True, kw_only=True):
    #: From the first byte of a request, or the opening of its connection, to the end of its headers. The
    #: rest of a body that was refused may take as long.
    header_time: float = 10.0
    #: Without one byte of a body that is to come, or without one byte of an answer being taken.
    idle_time: float = 15.0
    #: Bytes a second, over every stretch of ``idle_time`` in which it is the client that is waited for.
    rate: float = 1 * KB
    #: From the headers to the end of the body. The bytes of files may take longer, as long as they keep the rate.
    body_time: float = 600.0
    #: Between two requests of a connection.
    keep_alive: float = 30.0
    #: The request line, one header, and how many headers.
    line_bytes: int = 8190
    header_bytes: int = 8190
    headers: int = 100
    #: A JSON body. Calls with inline requests, and files, have their own limits.
    body_bytes: int = 1 * MIB
    #: Of all calls together whose bodies are kept in memory: interactive ones, and those with inline requests.
    all_bodies: int = 256 * MIB
    #: Connections at a time: each may hold two descriptors, of which a process often has 1024.
    connections: int = 400


LIMITS = Limits()
#: Those that an application holds its clients to.
LIMITS_KEY: web.AppKey[Limits] = web.AppKey("limits", Limits)


class TransferRate:
    """The bytes of one transfer against the clock. ``now`` is any clock that never goes back, in seconds."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._last_byte = now
        self._since = now
        self._bytes = 0

    def add(self, count: int, now: float) -> None:
        self._bytes += count
        if count:
            self._last_byte = now

    def fault(self, now: float) -> str:
        """What is wrong with it, for people; empty while nothing is. Judges the rate once every ``idle_time``."""
        idle, rate = self._limits.idle_time, self._limits.rate
        if now - self._last_byte >= idle:
            return f"No byte came for {idle:g} seconds"
        if now - self._since < idle:
            return ""
        slow = self._bytes < rate * (now - self._since)
        self._since, self._bytes = now, 0
        return f"Less than {rate:g} bytes a second came" if slow else ""


class BodyMemory:
    """``left`` of the bytes that all bodies together may have."""

    def __init__(self, most: int) -> None:
        self.left = most


#: What an application's calls share, and how much of it one of them has.
BODY_MEMORY: web.AppKey[BodyMemory] = web.AppKey("memory", BodyMemory)
_RESERVED: web.RequestKey[int] = web.RequestKey("held")


def reserve_memory(request: web.Request, count: int) -> None:
    """So many bytes more are kept until the call ends. Raises Refusal 503 when there is no room for them."""
    memory = request.app[BODY_MEMORY]
    if count > memory.left:
        message = "The service has as many bodies in its memory as it can; try again later."
        raise HttpError(503, message, headers={"Retry-After": "1"})
    memory.left -= count
    request[_RESERVED] = request.get(_RESERVED, 0) + count


@contextmanager
def release_memory(request: web.Request) -> Iterator[None]:
    """Behind it, the call holds nothing."""
    try:
        yield
    finally:
        request.app[BODY_MEMORY].left += request.pop(_RESERVED, 0)
