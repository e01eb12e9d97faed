"""HTTP through aiohttp: one exchange, without retries.

The key goes only to paths below the service's own origin, never to an address that the service gave. Redirects are
not followed, the environment's proxies are not read, compressed answers are not asked for, and every answer has a
largest size.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import anyio
import anyio.to_thread
from aiohttp import payload
from aiohttp.http import StreamWriter
from yarl import URL

from .._errors import PacktrainError, ProtocolError, TransportError
from .._options import MAX_REPLY_BYTES, PIECE_BYTES, SEND_BYTES, Policy
from .._wire.http import Call, Reply, same_origin, shown_origin
from .effects import effect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from aiohttp.abc import AbstractStreamWriter

    from .._model import Secret

_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


class Transport:
    """A pool of connections to one service."""

    def __init__(
        self,
        origin: str,
        credentials: Mapping[str, Secret],
        pool: aiohttp.ClientSession,
        single: aiohttp.ClientSession,
    ) -> None:
        self.origin = origin
        self._credentials = credentials
        self._pool = pool
        self._single = single

    async def send(self, call: Call, body: payload.Payload | None = None, *, once: bool = False) -> Reply:
        """One exchange. ``once`` takes a connection of its own, so that no stale one can swallow the call, bounds
        the whole of it, and leaves nothing on its way when it is given up."""
        async with self._exchange(call, body, self._single if once else self._pool) as response:
            return Reply(status=response.status, headers=_headers(response), body=await _read(response))

    @contextlib.asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[tuple[Reply, AsyncIterator[bytes]]]:
        """As ``send``, with a body that is read in pieces; the Reply's own body holds it only for errors."""
        async with self._exchange(call, None, self._pool) as response:
            body = await _read(response) if response.status >= 300 else b""
            reply = Reply(status=response.status, headers=_headers(response), body=body)
            yield reply, _pieces(response)

    @contextlib.asynccontextmanager
    async def _exchange(
        self, call: Call, body: payload.Payload | None, session: aiohttp.ClientSession
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url, headers = self._address(call)
        with _translated(urlsplit(self.origin).netloc):
            async with (
                effect(call.name),
                session.request(
                    call.method,
                    url,
                    params=call.query,
                    headers=headers,
                    data=body if body is not None else call.body,
                    allow_redirects=False,
                ) as response,
            ):
                yield response

    def _address(self, call: Call) -> tuple[URL, dict[str, str]]:
        headers = dict(call.headers)
        if call.target.startswith("/"):
            headers |= {name: secret.reveal() for name, secret in self._credentials.items()}
            return URL(self.origin + call.target, encoded=True), headers
        return URL(checked_url(call.target, self.origin), encoded=True), headers


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
            piece = await anyio.to_thread.run_sync(self._read, position, min(SEND_BYTES, end - position))
            await writer.write(piece, drain=False)
            await _drain(writer, self._timeout)
            self._sent(len(piece))
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
    origin: str, *, credentials: Mapping[str, Secret], connections: int, policy: Policy | None = None
) -> AsyncIterator[Transport]:
    """A transport to ``origin``; ``credentials`` are header names and values, sent below that origin alone."""
    policy = policy or Policy()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_timeout, sock_read=policy.read_timeout)
    create_timeout = aiohttp.ClientTimeout(total=policy.create_timeout, sock_connect=policy.connect_timeout)

    def session(connector: aiohttp.TCPConnector, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            auto_decompress=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "packtrain"},
            skip_auto_headers=("Content-Type",),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=PIECE_BYTES,
        )

    async with (
        session(aiohttp.TCPConnector(limit=connections), timeout) as pool,
        session(aiohttp.TCPConnector(force_close=True, socket_factory=_resetting), create_timeout) as single,
    ):
        yield Transport(origin, credentials, pool, single)


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
def _translated(host: str) -> Iterator[None]:
    """aiohttp's exceptions as ours. The path is left out: it may be an upload session's, which is a secret."""
    try:
        yield
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        if isinstance(error.__cause__, PacktrainError):  # of a body that could not be read
            raise error.__cause__ from None
        sent = not isinstance(error, _NOT_SENT)
        reason = str(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
        what = f"the connection to {host} broke before a complete answer came" if sent else f"{host} cannot be reached"
        # Without its cause, which may quote the request with all its headers.
        raise TransportError(f"{what} ({reason})", sent=sent) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(PIECE_BYTES):
        body += piece
        if len(body) > MAX_REPLY_BYTES:
            raise ProtocolError(f"the service sent more than {MAX_REPLY_BYTES} bytes where a short answer belongs")
    return bytes(body)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for piece in response.content.iter_chunked(PIECE_BYTES):
        yield piece


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
