"""Limits on clients: times in seconds, sizes in bytes; and the meters that enforce them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import web
from msgspec import Struct

from .._io.clock import Clock
from .._options import KB, MIB
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Limits(Struct, frozen=True, kw_only=True):
    #: From the first byte of a request, or from connecting, to the end of its headers; also for the rest of a body
    #: that was refused.
    header_time: float = 10.0
    #: Without a byte of the body received, or of the response sent.
    idle_time: float = 15.0
    #: Bytes per second, over every ``idle_time`` in which the service waits for the client.
    rate: float = 1 * KB
    #: From the headers to the end of the body. File content may take longer at the minimum rate.
    body_time: float = 600.0
    #: Between two requests on a connection.
    keep_alive: float = 30.0
    #: Bytes of the request line, bytes of one header, number of headers.
    line_bytes: int = 8190
    header_bytes: int = 8190
    headers: int = 100
    #: A JSON body. Calls with inline requests, and files, have their own limits.
    body_bytes: int = 1 * MIB
    #: Bytes of all bodies in memory together: interactive calls and inline requests.
    all_bodies: int = 256 * MIB
    #: Concurrent connections: each may need two descriptors, of which a process often has 1024.
    connections: int = 400


LIMITS = Limits()
#: The limits of an application, and the clock that they are measured with.
LIMITS_KEY: web.AppKey[Limits] = web.AppKey("limits", Limits)
CLOCK: web.AppKey[Clock] = web.AppKey("clock", Clock)


class TransferRate:
    """Rate check of one transfer. ``now`` is a monotonic clock in seconds."""

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
        """The violated limit in words, or an empty string. The rate is judged once per ``idle_time``."""
        idle, rate = self._limits.idle_time, self._limits.rate
        if now - self._last_byte >= idle:
            return f"No byte was received for {idle:g} seconds"
        if now - self._since < idle:
            return ""
        slow = self._bytes < rate * (now - self._since)
        self._since, self._bytes = now, 0
        return f"Less than {rate:g} bytes per second were received" if slow else ""


class BodyMemory:
    """Memory budget of all bodies together; ``left`` is in bytes."""

    def __init__(self, most: int) -> None:
        self.left = most


#: The budget of an application, and the part reserved by a request.
BODY_MEMORY: web.AppKey[BodyMemory] = web.AppKey("memory", BodyMemory)
_RESERVED: web.RequestKey[int] = web.RequestKey("held")


def reserve_memory(request: web.Request, count: int) -> None:
    """Reserves ``count`` bytes until the call ends. Raises HttpError 503 when the budget is exhausted."""
    memory = request.app[BODY_MEMORY]
    if count > memory.left:
        message = "The memory for request bodies is full; try again later."
        raise HttpError(503, message, headers={"Retry-After": "1"})
    memory.left -= count
    request[_RESERVED] = request.get(_RESERVED, 0) + count


@contextmanager
def release_memory(request: web.Request) -> Iterator[None]:
    """Releases the call's reservation at the end of the block."""
    try:
        yield
    finally:
        request.app[BODY_MEMORY].left += request.pop(_RESERVED, 0)
