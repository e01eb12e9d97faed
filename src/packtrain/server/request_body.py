"""Request bodies from socket to disk: small ones through the HTTP parser, large ones directly from the socket.

The parser copies each byte twice on the event loop's thread, which would limit all uploads together. So the rest of a
large body is read from the socket by the thread that hashes and stores it. The parser does not see the end of that
request, therefore the connection is closed after the response.
"""

from __future__ import annotations

import os
import socket
from select import POLLIN, poll
from typing import TYPE_CHECKING, Protocol

import anyio
from aiohttp import ClientError, web

from .._options import MIB, PIECE_BYTES
from .limits import CLOCK, LIMITS_KEY, RECEIVE_BYTES, TransferRate
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes still to come that justify giving up the connection.
SOCKET_BODY_BYTES = 4 * MIB
#: Most bytes read in one call of a thread, and milliseconds it waits for more.
MAX_WRITE_BYTES = 16 * MIB
POLL_MILLISECONDS = 2
#: Set on a request whose connection cannot be used again.
CONNECTION_SPENT: web.RequestKey[bool] = web.RequestKey("spent")


class ByteSource(Protocol):
    """A stream of bytes; empty at the end."""

    async def readany(self) -> bytes: ...


class BufferedBody:
    """A body read in pieces large enough to be worth a thread switch.

    aiohttp drops its buffer when a connection breaks. So a call gathers before it does anything slow, and what was
    gathered before a break is stored like the rest.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._pieces: list[bytes] = []
        #: Why the body ended early.
        self.broken: HttpError | None = None

    async def gather(self) -> bool:
        """Reads one piece, up to the end or a break; False when there is nothing to write."""
        while self.broken is None and sum(map(len, self._pieces)) < PIECE_BYTES:
            piece = await self._read()
            if not piece:
                break
            self._pieces.append(piece)
        return bool(self._pieces)

    def write_to(self, write: Callable[[bytes | memoryview], None]) -> None:
        """Passes the gathered bytes to ``write``; blocks."""
        for piece in self.take():
            write(piece)

    def take(self) -> list[bytes]:
        name_taken, self._pieces = self._pieces, []
        return name_taken

    async def _read(self) -> bytes:
        try:
            return await self._source.readany()
        except TimeoutError as error:
            self.broken = body_timeout(error)
        except (ConnectionError, ClientError, web.RequestPayloadError) as error:
            self.broken = connection_broken(error)
        return b""


class SocketBody:
    """A large body: the part already parsed, then the rest from the socket. Use as a context manager."""

    def __init__(self, request: web.Request, body: BufferedBody) -> None:
        assert request.transport is not None and request.content_length is not None
        self._head = body.take()
        while piece := request.content.read_nowait():
            self._head.append(piece)
        self._left = request.content_length - request.content.total_bytes
        request.content.feed_eof()  # which sets the transport reading again
        request.transport.pause_reading()
        request[CONNECTION_SPENT] = True
        # A duplicate: the event loop already watches the transport's own descriptor.
        self._socket = socket.socket(fileno=os.dup(request.transport.get_extra_info("socket").fileno()))
        self._limits = request.app[LIMITS_KEY]
        self._clock = request.app[CLOCK]
        self._rate_check = TransferRate(self._limits, self._clock.monotonic())
        self.broken: HttpError | None = None

    def __enter__(self) -> SocketBody:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def gather(self) -> bool:
        """Waits for bytes; False when there is nothing to write."""
        if self._head or not self._left or self.broken:
            return bool(self._head)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_when_idle, tasks.cancel_scope)
            await anyio.wait_readable(self._socket)
            self._rate_check.add(1, self._clock.monotonic())
            tasks.cancel_scope.cancel()
        if fault := self._rate_check.fault(self._clock.monotonic()):
            self.broken = body_timeout(fault)
        return not self.broken

    async def _cancel_when_idle(self, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(self._limits.idle_time)
        scope.cancel()

    def write_to(self, write: Callable[[bytes | memoryview], None]) -> None:
        """Passes bytes to ``write`` until the socket is empty, the call's share is reached or the body ends; blocks."""
        head, self._head = self._head, []
        for piece in head:
            write(piece)
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        readable = poll()
        readable.register(self._socket, POLLIN)
        end = max(0, self._left - MAX_WRITE_BYTES)
        try:
            while self._left > end and readable.poll(POLL_MILLISECONDS):
                count = self._socket.recv_into(buffer[: self._left])
                if not count:
                    raise ConnectionResetError("closed by the client")
                self._left -= count
                write(buffer[:count])
                self._rate_check.add(count, self._clock.monotonic())
        except ConnectionError as error:
            self.broken = connection_broken(error)


def is_large_body(request: web.Request) -> bool:
    """Whether enough is still to come for a SocketBody."""
    left = (request.content_length or 0) - request.content.total_bytes
    return left >= SOCKET_BODY_BYTES and request.transport is not None and request.content.exception() is None


def body_timeout(fault: TimeoutError | str) -> HttpError:
    return HttpError(408, f"{fault}; query the offset and continue from there.")


def connection_broken(error: Exception) -> HttpError:
    return HttpError(400, f"The connection broke: {error}; query the offset and continue from there.")
