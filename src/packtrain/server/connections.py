"""Connections held to the limits: slow, silent and too many clients are sent away.

aiohttp bounds how large a header is and how long an idle connection lives, but neither the time of a header, nor
that of a body, nor that of a client which does not take its answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import anyio
from aiohttp import web

from .limits import TransferRate
from .replies import HttpError, error_response
from .request_body import RECEIVE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import StreamReader
    from aiohttp.web_request import BaseRequest

    from .limits import Limits

_log = logging.getLogger(__name__)

#: On every answer. What this service says is for nobody's cache, and for no browser to guess at.
RESPONSE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "packtrain"}
#: Seconds that a client which is one too many may take to read why.
OVERLOAD_LINGER = 1.0
#: Looks at a connection within the shortest time that is limited.
CHECKS_PER_LIMIT = 4

_NO_LOG = logging.Logger("off", logging.CRITICAL + 1)


class BodyTimeoutError(TimeoutError):
    """The client does not send its body in time."""


class Connection(web.RequestHandler):
    """One connection. It is looked at from time to time, so that what passes through it costs no timer."""

    __slots__ = (
        "_body",
        "_busy",
        "_deadline",
        "_header_since",
        "_incoming",
        "_left",
        "_limits",
        "_outgoing",
        "_served",
    )

    def __init__(self, server: web.Server, limits: Limits) -> None:
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
            auto_decompress=False,  # bytes of files are kept as they come
        )
        self._limits = limits
        self._busy = False
        self._header_since: float | None = time.monotonic()
        self._body: StreamReader | None = None
        self._deadline: float | None = None
        self._incoming = self._outgoing = TransferRate(limits, 0.0)
        self._left = 0
        self._served: set[anyio.CancelScope] = set()

    @contextmanager
    def track_request(self, request: web.Request) -> Iterator[None]:
        """The request is being served: its header is there, and its body is waited for."""
        now = time.monotonic()
        self._busy, self._header_since = True, None
        self._body, self._incoming = request.content, TransferRate(self._limits, now)
        self._deadline = now + self._limits.body_time
        try:
            yield
        finally:
            self._busy, self._body = False, None

    @contextmanager
    def cancel_on_disconnect(self) -> Iterator[None]:
        """What is done inside ends when the client leaves. Raises ConnectionError then."""
        with anyio.CancelScope() as scope:
            self._served.add(scope)
            try:
                yield
            finally:
                self._served.discard(scope)
        if scope.cancelled_caught:
            raise ConnectionResetError("the client has left")

    def allow_long_body(self) -> None:
        """The body may take any time, as long as it keeps coming."""
        self._deadline = None

    def check_progress(self, now: float) -> None:
        """Does what has to be done about a client that is too slow."""
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
        self._outgoing.add(self._left - left, now)
        self._left = left
        if self._outgoing.fault(now):
            transport.abort()

    def _check_body(self, transport: asyncio.ReadTransport, body: StreamReader, now: float) -> None:
        if body.is_eof():
            self._body = None
        elif not transport.is_reading():
            self._incoming = TransferRate(self._limits, now)  # it is we who are slow
        elif fault := self._body_problem(now):
            self._body = None
            body.set_exception(BodyTimeoutError(fault))

    def _body_problem(self, now: float) -> str:
        if self._deadline is not None and now >= self._deadline:
            return f"The body was not there after {self._limits.body_time:g} seconds"
        return self._incoming.fault(now)

    # Told by the event loop, and by aiohttp

    def data_received(self, data: bytes) -> None:
        if self._busy:
            self._incoming.add(len(data), time.monotonic())
        elif data and self._header_since is None:
            self._header_since = time.monotonic()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        for scope in self._served:
            scope.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        assert self.transport is not None
        self._left = self.transport.get_write_buffer_size()
        self._outgoing = TransferRate(self._limits, time.monotonic())

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What cannot be read as HTTP is refused like everything else, and ends the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        _log.info("a request of %s cannot be read: %s", request.remote, message or exc)
        response = error_response(HttpError(status, "The request cannot be read as HTTP."))
        response.headers.update(RESPONSE_HEADERS)
        response.force_close()
        return response


class OverloadedConnection(asyncio.Protocol):
    """For the connection that is one too many: 503, and the end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast("asyncio.Transport", transport)  # as aiohttp does: uvloop's are none by their type
        wire.write(_overloaded_response())
        wire.write_eof()
        asyncio.get_running_loop().call_later(OVERLOAD_LINGER, wire.abort)


def _overloaded_response() -> bytes:
    error = error_response(HttpError(503, "The service has all the connections that it can serve; try again later."))
    assert isinstance(error.body, bytes)
    fields = RESPONSE_HEADERS | {
        "Content-Type": "application/json",
        "Content-Length": str(len(error.body)),
        "Retry-After": "1",
        "Connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (head.encode(), error.body)


def accept(server: web.Server, limits: Limits) -> asyncio.Protocol:
    """Serves one connection more."""
    return Connection(server, limits) if len(server.connections) < limits.connections else OverloadedConnection()


async def watch_connections(server: web.Server, limits: Limits) -> None:
    """Until cancelled: looks at every connection often enough."""
    period = min(limits.header_time, limits.idle_time, limits.body_time) / CHECKS_PER_LIMIT
    while True:
        await anyio.sleep(period)
        now = time.monotonic()
        for connection in server.connections:
            if isinstance(connection, Connection):
                connection.check_progress(now)
