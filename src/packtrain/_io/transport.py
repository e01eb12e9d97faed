"""HTTP through aiohttp: one exchange, without retries.

The key goes only to paths below the service's own origin, never to an address that the service gave. Redirects are
not followed, the environment's proxies are not read, a proxy that was given only tunnels, compressed answers are not
asked for. Every answer has a largest size, and every call a longest time: some seconds, and what its bytes take at the
least rate.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
import struct
import zlib
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import aiohttp
import anyio
from aiohttp import payload
from aiohttp.http import StreamWriter
from yarl import URL

from .._errors import PacktrainError, ProtocolError, TransportError
from .._options import HEADER_BYTES, HEADERS, MAX_REPLY_BYTES, PIECE_BYTES, SEND_BYTES, Policy
from .._wire.http import Call, Reply, same_origin, shown_origin
from .effects import effect
from .threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from aiohttp.abc import AbstractStreamWriter

    from .._model import Secret

log = logging.getLogger("packtrain")

_NOT_SENT = (
    *(aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL),
    aiohttp.ClientHttpProxyError,
)


class Tunnel:
    """A proxy that passes on what it cannot read, from its address with its user and password."""

    def __init__(self, proxy: Secret) -> None:
        parts = urlsplit(proxy.reveal())
        self.place = parts.netloc.rpartition("@")[2]
        self.url = URL(f"{parts.scheme}://{self.place}")
        self.headers: dict[str, str] = {}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers["Proxy-Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"


class Transport:
    """A pool of connections to one service."""

    def __init__(
        self,
        origin: str,
        credentials: Mapping[str, Secret],
        pool: aiohttp.ClientSession,
        single: aiohttp.ClientSession,
        policy: Policy,
        tunnel: Tunnel | None,
    ) -> None:
        self.origin = origin
        self._tunnel = tunnel
        self._credentials = credentials
        self._policy = policy
        self._pool = pool
        self._single = single

    async def send(self, call: Call, body: payload.Payload | None = None, *, once: bool = False) -> Reply:
        """One exchange. ``once`` takes a connection of its own, so that no stale one can swallow the call, bounds
        the whole of it, whatever comes, and leaves nothing on its way when it is given up."""
        async with self._exchange(call, body, once=once) as (response, pace):
            return Reply(status=response.status, headers=_headers(response), body=await _read(response, pace))

    @contextlib.asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[tuple[Reply, AsyncIterator[bytes]]]:
        """As ``send``, with a body that is read in pieces. The Reply's own body holds the whole of an error, and of a
        success the first piece, which comes again with the others."""
        async with self._exchange(call, None) as (response, pace):
            pieces = _pieces(response, pace)
            first = await _read(response, pace) if response.status >= 300 else await anext(pieces, b"")
            yield Reply(status=response.status, headers=_headers(response), body=first), _after(first, pieces)

    @contextlib.asynccontextmanager
    async def _exchange(
        self, call: Call, body: payload.Payload | None, *, once: bool = False
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, Pace]]:
        url, headers = self._address(call)
        host, policy = urlsplit(self.origin).netloc, self._policy
        session, seconds, rate = self._pool, policy.read_timeout, policy.least_rate
        if once:
            session, seconds, rate = self._single, policy.create_timeout, 0
        pace = Pace(call.operation, host, seconds, rate)
        if isinstance(body, FileRange):
            body.pace = pace
        tunnel = self._tunnel
        with _translated(host, tunnel), pace.noticed(policy.notice_after):
            async with effect(call.name):
                with pace.running():
                    response = await session.request(
                        call.method,
                        url,
                        params=call.query,
                        headers=headers,
                        data=body if body is not None else call.body,
                        allow_redirects=False,
                        proxy=tunnel.url if tunnel else None,
                        proxy_headers=tunnel.headers if tunnel else None,
                    )
                pace.status = response.status
                async with response:
                    yield response, pace

    def _address(self, call: Call) -> tuple[URL, dict[str, str]]:
        headers = dict(call.headers)
        if call.target.startswith("/"):
            headers |= {name: secret.reveal() for name, secret in self._credentials.items()}
            return URL(self.origin + call.target, encoded=True), headers
        return URL(checked_url(call.target, self.origin), encoded=True), headers


class Pace:
    """The longest time of one call: ``seconds``, and what its bytes take at ``rate`` bytes a second.

    Bytes earn their time as they go, and no more than ``seconds`` are ever saved up, so that a peer which falls below
    the rate is given up soon. At a rate of 0 bytes earn nothing.
    """

    def __init__(self, operation: str, host: str, seconds: float, rate: int) -> None:
        #: The HTTP status, once there is one.
        self.status: int | None = None
        self._operation = operation
        self._host = host
        self._seconds = seconds
        self._rate = rate
        self._left = seconds
        #: While the call waits for its peer.
        self._scope: anyio.CancelScope | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Time that counts. Raises TransportError at its end."""
        with anyio.CancelScope(deadline=anyio.current_time() + self._left) as self._scope:
            try:
                yield
            finally:
                self._left, self._scope = self.left(), None
        if self._left <= 0:
            raise TransportError(f"{self._operation}: {self._plight()}; it is given up")

    def left(self) -> float:
        """Seconds; negative when the time is over."""
        return self._left if self._scope is None else self._scope.deadline - anyio.current_time()

    def moved(self, count: int) -> None:
        """So many bytes went either way."""
        if self._rate and self._scope is not None:
            self._scope.deadline = anyio.current_time() + min(self._seconds, self.left() + count / self._rate)

    @contextlib.contextmanager
    def noticed(self, seconds: float) -> Iterator[None]:
        """Log once that the call is slow, when it has lost so many seconds."""

        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            lost = self._seconds - self.left()
            if lost < seconds:
                timer = loop.call_later(max(seconds / 10, seconds - lost), look)
                return
            log.warning(
                "%s: %s; waiting for up to %.0f s more",
                self._operation,
                self._plight(),
                max(1.0, self.left()),
                extra={"action": "Slow"},
            )

        timer = loop.call_later(seconds, look)
        try:
            yield
        finally:
            timer.cancel()

    def _plight(self) -> str:
        if self.status is None:
            return f"{self._host} has not answered"
        return f"{self._host} answered {self.status}, but the rest of the answer does not come, or hardly"


class FileRange(payload.Payload):
    """A piece of a file as the body of a request; it is read in a worker thread, and never whole.

    While one piece is read and hashed, the one before it leaves.
    """

    _default_content_type = "application/octet-stream"

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        offset: int,
        length: int,
        *,
        sent: Callable[[int], None],
        timeout: float,
    ) -> None:
        """``sent`` is called with the bytes that leave; ``timeout`` in seconds, for the peer to take any of them."""
        super().__init__(None)
        self._read = read
        self._offset = offset
        self._size = length
        self._sent = sent
        self._timeout = timeout
        #: Of the call that it is the body of.
        self.pace: Pace | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a range of a file has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        assert isinstance(writer, StreamWriter)
        assert writer.transport is not None
        writer.transport.set_write_buffer_limits(high=SEND_BYTES)
        position, end = self._offset, self._offset + (self._size or 0)
        while position < end:
            piece = await in_thread(self._read, position, min(SEND_BYTES, end - position))
            await writer.write(piece, drain=False)
            await _drain(writer, self._timeout)
            self._sent(len(piece))
            if self.pace is not None:
                self.pace.moved(len(piece))
            position += len(piece)


async def _drain(writer: StreamWriter, timeout: float) -> None:
    """Until there is room for more. Raises TimeoutError when the peer takes nothing for ``timeout`` seconds."""
    while (transport := writer.transport) is not None:
        left = transport.get_write_buffer_size()
        with anyio.move_on_after(timeout):
            return await writer.drain()
        if transport.get_write_buffer_size() >= left:
            raise TimeoutError


@contextlib.asynccontextmanager
async def open_transport(
    origin: str,
    *,
    credentials: Mapping[str, Secret],
    connections: int,
    policy: Policy | None = None,
    proxy: Secret | None = None,
) -> AsyncIterator[Transport]:
    """A transport to ``origin``; ``credentials`` are header names and values, sent below that origin alone. ``proxy``
    is the address of one to tunnel through, for an origin with https."""
    policy = policy or Policy()

    def session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_timeout),
            auto_decompress=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "packtrain"},
            skip_auto_headers=("Content-Type",),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=PIECE_BYTES,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=HEADERS,
        )

    async with (
        session(aiohttp.TCPConnector(limit=connections)) as pool,
        session(aiohttp.TCPConnector(force_close=True, socket_factory=_resetting)) as single,
    ):
        yield Transport(origin, credentials, pool, single, policy, Tunnel(proxy) if proxy else None)


def _resetting(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose close is a reset: bytes that have not left this machine by then never do."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return made


def checked_url(url: str, origin: str) -> str:
    """An address that the service gave, if it lies on the service's own origin. Raises ProtocolError."""
    if not same_origin(url, origin):
        raise ProtocolError(f"the service named an upload address on {shown_origin(url)!r}, not on {origin!r}")
    return url


@contextlib.contextmanager
def _translated(host: str, tunnel: Tunnel | None = None) -> Iterator[None]:
    """aiohttp's exceptions as ours. The path is left out: it may be an upload session's, which is a secret."""
    try:
        yield
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        if isinstance(error.__cause__, PacktrainError):  # of a body that could not be read
            raise error.__cause__ from None
        sent = not isinstance(error, _NOT_SENT)
        what = f"the connection to {host} broke before a complete answer came" if sent else f"{host} cannot be reached"
        # Without its cause, which may quote the request with all its headers.
        through = f" through the proxy {tunnel.place}" if tunnel and not sent else ""
        raise TransportError(f"{what}{through} ({_reason(error)})", sent=sent) from None


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError():
            return str(error.os_error)
        case aiohttp.ClientHttpProxyError():
            return f"it answered {error.status}"
        case aiohttp.ClientResponseError() if "when reading" in error.message:
            return f"a line or a header of the answer is longer than {HEADER_BYTES} bytes"
        case aiohttp.ClientResponseError() if "Too many" in error.message:
            return f"the answer has more than {HEADERS} headers"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP"
        case _:
            return type(error).__name__


async def _read(response: aiohttp.ClientResponse, pace: Pace) -> bytes:
    body = bytearray()
    async for piece in _pieces(response, pace):
        body += piece
        if len(body) > MAX_REPLY_BYTES:
            raise ProtocolError(f"the service sent more than {MAX_REPLY_BYTES} bytes where a short answer belongs")
    return bytes(body)


async def _pieces(response: aiohttp.ClientResponse, pace: Pace) -> AsyncIterator[bytes]:
    """The body, decoded where a proxy has compressed it."""
    decoder = _Decoder(response.headers.get("Content-Encoding", ""))
    while True:
        with pace.running():
            data = await response.content.read(PIECE_BYTES)
            pace.moved(len(data))
        if not data:
            break
        for piece in decoder.decoded(data):
            yield piece
    decoder.finish()


async def _after(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in pieces:
        yield piece


class _Decoder:
    """Undoes a content encoding that was not asked for, in pieces of bounded size. Raises TransportError."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in _WINDOWS:
            raise TransportError(
                f"the answer has the content encoding {self._encoding[:80]!r}, which was not asked for; a "
                "proxy may have encoded it"
            )
        self._window = _WINDOWS[self._encoding]
        self._stream = zlib.decompressobj(self._window) if self._window else None
        self._begun = False

    def decoded(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            yield data
            return
        self._begun = True
        full = True
        while data or full:
            if self._stream.eof:
                if not data:
                    return
                self._stream = zlib.decompressobj(self._window)
            try:
                piece = self._stream.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise self._broken(str(error)) from error
            if piece:
                yield piece
            data, full = self._stream.unused_data or self._stream.unconsumed_tail, len(piece) == PIECE_BYTES

    def finish(self) -> None:
        if self._begun and self._stream is not None and not self._stream.eof:
            raise self._broken("it ends too early")

    def _broken(self, how: str) -> TransportError:
        return TransportError(f"the answer has the content encoding {self._encoding!r}, and cannot be decoded: {how}")


#: zlib's number for the window and the format of an encoding; 0 for none.
_WINDOWS = {"": 0, "identity": 0, "gzip": 31, "x-gzip": 31, "deflate": 15}


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
