"""Bodies on their way from the socket to the disk: small ones through the HTTP parser, large ones past it.

The parser copies each byte twice on the event loop's thread, which is then what bounds all uploads together. So the
rest of a large body is read from the socket itself, by the thread that hashes and stores it. The parser never
learns that this request is over; hence the connection ends with its answer.
"""

from __future__ import annotations

import os
import socket
import time
from select import POLLIN, poll
from typing import TYPE_CHECKING, Protocol

import anyio
from aiohttp import ClientError, web

from .._options import KIB, MIB, PIECE_BYTES
from .limits import APPLIED, Pace
from .replies import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

#: A body of which this much is still to come is worth a connection.
TAP_BYTES = 4 * MIB
#: What is read from a socket at once: it is still in the processor's cache when it is hashed and written.
SIP_BYTES = 256 * KIB
#: What one turn of a thread takes from a socket at the most, and the milliseconds that it waits there for more.
TURN_BYTES = 16 * MIB
LULL = 2
#: Set on a request whose connection cannot be used again.
SPENT: web.RequestKey[bool] = web.RequestKey("spent")


class Source(Protocol):
    """Where bytes come from; empty at the end."""

    async def readany(self) -> bytes: ...


class Body:
    """The bytes of a data call, gathered so that a hop to a thread is worth it.

    aiohttp forgets what it has buffered when a connection breaks. So a call gathers before it does anything
    that takes time, and what was gathered before a break is handed out like the rest.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pieces: list[bytes] = []
        #: Why there will be no more, when that is not the end.
        self.broken: Refusal | None = None

    async def gather(self) -> bool:
        """Reads until there is a piece's worth, the end, or a break; False when there is nothing to pour."""
        while self.broken is None and sum(map(len, self._pieces)) < PIECE_BYTES:
            piece = await self._read()
            if not piece:
                break
            self._pieces.append(piece)
        return bool(self._pieces)

    def pour(self, write: Callable[[bytes | memoryview], None]) -> None:
        """Gives what was gathered to ``write``; blocks."""
        for piece in self.take():
            write(piece)

    def take(self) -> list[bytes]:
        taken, self._pieces = self._pieces, []
        return taken

    async def _read(self) -> bytes:
        try:
            return await self._source.readany()
        except TimeoutError as error:
            self.broken = late(error)
        except (ConnectionError, ClientError, web.RequestPayloadError) as error:
            self.broken = broken(error)
        return b""


class Tap:
    """A large body: what has been parsed of it, then the rest from the socket. Use as a context manager."""

    def __init__(self, request: web.Request, body: Body) -> None:
        assert request.transport is not None and request.content_length is not None
        self._head = body.take()
        while piece := request.content.read_nowait():
            self._head.append(piece)
        self._left = request.content_length - request.content.total_bytes
        request.content.feed_eof()  # which sets the transport reading again
        request.transport.pause_reading()
        request[SPENT] = True
        # The event loop watches its own descriptor of this socket; another one may be watched beside it.
        self._socket = socket.socket(fileno=os.dup(request.transport.get_extra_info("socket").fileno()))
        self._limits = request.app[APPLIED]
        self._pace = Pace(self._limits, time.monotonic())
        self.broken: Refusal | None = None

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def gather(self) -> bool:
        """Waits for bytes; False when there is nothing to pour."""
        if self._head or not self._left or self.broken:
            return bool(self._head)
        with anyio.move_on_after(self._limits.idle_time):
            await anyio.wait_readable(self._socket)
            self._pace.moved(1, time.monotonic())
        if fault := self._pace.fault(time.monotonic()):
            self.broken = late(fault)
        return not self.broken

    def pour(self, write: Callable[[bytes | memoryview], None]) -> None:
        """Gives what comes to ``write``, until the socket is dry, the turn is over or the body ends; blocks."""
        head, self._head = self._head, []
        for piece in head:
            write(piece)
        buffer = memoryview(bytearray(SIP_BYTES))
        readable = poll()
        readable.register(self._socket, POLLIN)
        end = max(0, self._left - TURN_BYTES)
        try:
            while self._left > end and readable.poll(LULL):
                count = self._socket.recv_into(buffer[: self._left])
                if not count:
                    raise ConnectionResetError("the client closed it")
                self._left -= count
                write(buffer[:count])
                self._pace.moved(count, time.monotonic())
        except ConnectionError as error:
            self.broken = broken(error)


def is_large(request: web.Request) -> bool:
    """Whether so much is still to come that a Tap is worth the connection."""
    left = (request.content_length or 0) - request.content.total_bytes
    return left >= TAP_BYTES and request.transport is not None and request.content.exception() is None


def late(fault: TimeoutError | str) -> Refusal:
    return Refusal(408, f"{fault}; query, and go on from there.")


def broken(error: Exception) -> Refusal:
    return Refusal(400, f"The connection broke: {error}; query, and go on from there.")
