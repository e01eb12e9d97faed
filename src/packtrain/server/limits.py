"""Limits on clients: times in seconds, sizes in bytes; and the meters that enforce them."""

from __future__ import annotations

import resource
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from .._io.clock import Clock
from .._options import KB, KIB, MIB
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


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
    #: Concurrent connections; fewer where the process may not open so many files. Beyond it 503.
    connections: int = 2000
    #: Of these, calls that are served at a time: each may need a descriptor more. The others wait for their turn.
    calls: int = 400


LIMITS = Limits()
#: One read of a socket, which stays in the processor's cache until it is hashed and written.
RECEIVE_BYTES = 256 * KIB
#: A connection is not read any more when so much of a body waits.
BUFFERED_BYTES = 2 * RECEIVE_BYTES
#: Descriptors that the service itself may need: its database, its jobs' files, what it sends.
OWN_DESCRIPTORS = 100
#: For so many connections there is one more that is refused and may wait for its client to read that.
OVERLOADED_PART = 2
#: The limits of an application, and the clock that they are measured with.
LIMITS_KEY: web.AppKey[Limits] = web.AppKey("limits", Limits)
CLOCK: web.AppKey[Clock] = web.AppKey("clock", Clock)


def affordable(limits: Limits) -> Limits:
    """The limits, with as many connections as the process has descriptors for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    calls = min(limits.calls, max(1, (descriptors - OWN_DESCRIPTORS) // 2))
    for_connections = (descriptors - OWN_DESCRIPTORS - calls) * OVERLOADED_PART // (OVERLOADED_PART + 1)
    return replace(limits, calls=calls, connections=min(limits.connections, max(1, for_connections)))


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


#: Turns of the calls of an application.
TURNS: web.AppKey[anyio.CapacityLimiter] = web.AppKey("turns", anyio.CapacityLimiter)


@asynccontextmanager
async def turn(request: web.Request) -> AsyncIterator[None]:
    """A block that waits, first come first served, while as many calls as may be are served.

    What the connection may buffer of the body meanwhile counts as memory of bodies. Raises HttpError 503 when that is
    exhausted.
    """
    turns = request.app[TURNS]
    try:
        turns.acquire_nowait()
    except anyio.WouldBlock:
        length = request.content_length
        with release_memory(request):
            reserve_memory(request, BUFFERED_BYTES if length is None else min(length, BUFFERED_BYTES))
            await turns.acquire()
    try:
        yield
    finally:
        turns.release()


@contextmanager
def release_memory(request: web.Request) -> Iterator[None]:
    """Releases the call's reservation at the end of the block."""
    try:
        yield
    finally:
        request.app[BODY_MEMORY].left += request.pop(_RESERVED, 0)
