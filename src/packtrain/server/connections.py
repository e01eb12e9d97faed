"""Connections with limits against slow, silent and too many clients.

aiohttp limits the size of headers and the life of idle connections, but not the time a client takes to send a header
or a body, or to read its response.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import anyio
from aiohttp import web

from .limits import OVERLOADED_PART, RECEIVE_BYTES, TransferRate
from .replies import HttpError, error_response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import StreamReader
    from aiohttp.web_request import BaseRequest

    from .._io.clock import Clock
    from .limits import Limits

_log = logging.getLogger(__name__)

#: On every response: no caching, no content sniffing by browsers.
RESPONSE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "packtrain"}
#: Seconds until a refused connection is aborted, unless the client closes it first: one that is closed while bytes of
#: it are not read is reset, and the client may not see the answer.
OVERLOAD_LINGER = 10.0
#: Checks of a connection within the shortest time limit.
CHECKS_PER_LIMIT = 4

_NO_LOG = logging.Logger("off", logging.CRITICAL + 1)


class BodyTimeoutError(TimeoutError):
    """The client did not send its body in time."""


class Connection(web.RequestHandler):
    """One connection, checked periodically: no timer is set per read or write."""

    __slots__ = (
        "_body",
        "_busy",
        "_clock",
        "_deadline",
        "_header_since",
        "_incoming",
        "_limits",
        "_outgoing",
        "_served",
        "_unsent",
    )

    def __init__(self, server: web.Server, limits: Limits, clock: Clock) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=_NO_LOG,
            keepalive_timeout=limits.keep_alive,
            lingering_time=limits.header_time,
            max_line_size=limits.line_bytes,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
            read_bufsize=RECEIVE_BYTES,
            auto_decompress=False,  # file content is stored as received
        )
        self._limits = limits
        self._clock = clock
        self._busy = False
        self._header_since: float | None = self._clock.monotonic()
        self._body: StreamReader | None = None
        self._deadline: float | None = None
        self._incoming = self._outgoing = TransferRate(limits, 0.0)
        self._unsent = 0
        self._served: set[anyio.CancelScope] = set()

    @contextmanager
    def track_request(self, request: web.Request) -> Iterator[None]:
        """Applies the body limits while the block serves ``request``."""
        now = self._clock.monotonic()
        self._busy, self._header_since = True, None
        self._body, self._incoming = request.content, TransferRate(self._limits, now)
        self._deadline = now + self._limits.body_time
        try:
            yield
        finally:
            self._busy, self._body = False, None

    @contextmanager
    def cancel_on_disconnect(self) -> Iterator[None]:
        """Cancels the block when the client disconnects, and raises ConnectionError."""
        with anyio.CancelScope() as scope:
            self._served.add(scope)
            try:
                yield
            finally:
                self._served.discard(scope)
        if scope.cancelled_caught:
            raise ConnectionResetError("the client disconnected")

    def allow_long_body(self) -> None:
        """Lifts the total time limit of the body; the minimum rate stays."""
        self._deadline = None

    def check_progress(self, now: float) -> None:
        """Ends the request or the connection of a client that is too slow."""
        if self.transport is None:
            return
        if self.writing_paused:
            self._check_response(self.transport, now)
        elif self._body is not None:
            self._check_body(self.transport, self._body, now)
        elif self._header_since is not None and now - self._header_since >= self._limits.header_time:
            self.force_close()

    def _check_response(self, transport: asyncio.WriteTransport, now: float) -> None:
        left = transport.get_write_buffer_size()
        self._outgoing.add(self._unsent - left, now)
        self._unsent = left
        if self._outgoing.fault(now):
            transport.abort()

    def _check_body(self, transport: asyncio.ReadTransport, body: StreamReader, now: float) -> None:
        if body.is_eof():
            self._body = None
        elif not transport.is_reading():
            self._incoming = TransferRate(self._limits, now)  # paused by the service: not the client's delay
        elif fault := self._body_problem(now):
            self._body = None
            body.set_exception(BodyTimeoutError(fault))

    def _body_problem(self, now: float) -> str:
        if self._deadline is not None and now >= self._deadline:
            return f"The body was not complete after {self._limits.body_time:g} seconds"
        return self._incoming.fault(now)

    # Callbacks of the event loop and of aiohttp

    def data_received(self, data: bytes) -> None:
        if self._busy:
            self._incoming.add(len(data), self._clock.monotonic())
        elif data and self._header_since is None:
            self._header_since = self._clock.monotonic()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        for scope in self._served:
            scope.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        assert self.transport is not None
        self._unsent = self.transport.get_write_buffer_size()
        self._outgoing = TransferRate(self._limits, self._clock.monotonic())

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answers malformed HTTP with an error in the usual format and closes the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("the response has already started")
        _log.info("malformed request from %s: %s", request.remote, message or exc)
        response = error_response(HttpError(status, "The request cannot be read as HTTP."))
        response.headers.update(RESPONSE_HEADERS)
        response.force_close()
        return response


class OverloadedConnection(asyncio.Protocol):
    """A connection beyond the limit: gets 503, and is closed when its client has closed it.

    At most ``most`` wait for their client at a time, because each has a descriptor; further ones are aborted at once.
    """

    waiting = 0

    def __init__(self, most: int) -> None:
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        OverloadedConnection.waiting += 1
        writable = cast("asyncio.Transport", transport)  # uvloop's transports are not subclasses of it
        writable.write(_overloaded_response())
        writable.write_eof()
        linger = OVERLOAD_LINGER if OverloadedConnection.waiting <= self._most else 0.0
        self._closing = asyncio.get_running_loop().call_later(linger, writable.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        OverloadedConnection.waiting -= 1
        self._closing.cancel()


def _overloaded_response() -> bytes:
    response = error_response(HttpError(503, "The service has all the connections that it can serve; try again later."))
    assert isinstance(response.body, bytes)
    fields = RESPONSE_HEADERS | {
        "Content-Type": "application/json",
        "Content-Length": str(len(response.body)),
        "Retry-After": "1",
        "Connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (head.encode(), response.body)


def accept(server: web.Server, limits: Limits, clock: Clock) -> asyncio.Protocol:
    """Protocol for one more connection."""
    if len(server.connections) < limits.connections:
        return Connection(server, limits, clock)
    return OverloadedConnection(limits.connections // OVERLOADED_PART)


async def watch_connections(server: web.Server, limits: Limits, clock: Clock) -> None:
    """Checks every connection periodically, until cancelled."""
    period = min(limits.header_time, limits.idle_time, limits.body_time) / CHECKS_PER_LIMIT
    while True:
        await clock.sleep(period)
        now = clock.monotonic()
        for connection in server.connections:
            if isinstance(connection, Connection):
                connection.check_progress(now)
