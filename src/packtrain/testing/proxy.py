"""A TCP proxy that breaks connections on purpose, or makes them long, between a real client and a real service."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import SocketStream

_PIECE = 1 << 18
#: Pieces on their way in one direction of a long connection; the sender waits while there are more.
_WINDOW = 64
#: Reset instead of a quiet end, so that neither side takes what came for a whole message.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards to one origin; ``origin`` is its own address.

    ``budget`` is asked once for each connection: after that many bytes from the client it is reset, with None
    never. When a request contains ``swallow``, it is passed on, its answer is awaited, and then the connection
    is reset without it; that to one with ``silence`` is kept back while the connection stays; one that contains
    ``refuse`` is not passed on at all. Each happens once. ``counted`` is how often ``count`` went by.

    What goes either way comes out ``delay`` seconds later, at the rate at which it went in: a round trip takes twice
    that, a new connection nothing more.
    """

    def __init__(self, target: str, origin: str, budget: Callable[[], int | None], delay: float) -> None:
        self.origin = origin
        self.cuts = 0
        #: Connections made.
        self.connections = 0
        #: Bytes that clients sent; some may have been lost on the way.
        self.bytes_sent = 0
        #: Bytes that went through to the service.
        self.bytes_forth = 0
        self.swallow: bytes | None = None
        self.silence: bytes | None = None
        self.refuse: bytes | None = None
        self.count = b""
        self.counted = 0
        self._budget = budget
        self._delay = delay
        parts = urlsplit(target)
        self._target = parts.hostname or "", parts.port or 80

    async def handle(self, client: SocketStream) -> None:
        self.connections += 1
        async with client, await anyio.connect_tcp(*self._target) as upstream:
            passage = _Passage(client, upstream, self._budget())
            with _Line(upstream, self._delay) as forth, _Line(client, self._delay) as back:
                await self._pass_on(passage, forth, back)

    async def _pass_on(self, passage: _Passage, forth: _Line, back: _Line) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forth.carry)
            tasks.start_soon(back.carry)
            tasks.start_soon(self._forth, passage, forth, tasks.cancel_scope)
            tasks.start_soon(self._back, passage, back, tasks.cancel_scope)

    async def _forth(self, passage: _Passage, line: _Line, scope: anyio.CancelScope) -> None:
        async for data in _received(passage.client):
            self.bytes_sent += len(data)
            if self.count:
                self.counted += data.count(self.count)
            if self.silence and self.silence in data:
                self.silence = None
                passage.silent = True
            if self.swallow and self.swallow in data:
                self.swallow = None
                passage.mute = True
            if self.refuse and self.refuse in data:
                self.refuse = None
                self._cut(passage)
                break
            allowed = data if passage.left is None else data[: passage.left]
            if passage.left is not None:
                passage.left -= len(allowed)
            try:
                await line.send(allowed)
            except anyio.BrokenResourceError:
                break
            self.bytes_forth += len(allowed)
            if passage.left == 0:
                self._cut(passage)
                break
        scope.cancel()

    async def _back(self, passage: _Passage, line: _Line, scope: anyio.CancelScope) -> None:
        async for data in _received(passage.upstream):
            if passage.mute:
                self._cut(passage)
                break
            if passage.silent:
                continue
            try:
                await line.send(data)
            except anyio.BrokenResourceError:
                break
        else:
            await line.end()
        scope.cancel()

    def _cut(self, passage: _Passage) -> None:
        self.cuts += 1
        for stream in (passage.client, passage.upstream):
            raw = stream.extra(SocketAttribute.raw_socket)
            with suppress(OSError):  # that side may have gone by itself
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class _Passage:
    """One connection through the proxy."""

    def __init__(self, client: SocketStream, upstream: SocketStream, left: int | None) -> None:
        self.client = client
        self.upstream = upstream
        self.left = left
        self.mute = False
        self.silent = False


class _Line:
    """One direction of a connection, into ``stream``. Use as a context manager."""

    def __init__(self, stream: SocketStream, delay: float) -> None:
        self._stream = stream
        self._delay = delay
        self._head, self._tail = anyio.create_memory_object_stream[tuple[float, bytes]](_WINDOW)
        self._empty = anyio.Event()

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._head.close()
        self._tail.close()

    async def send(self, data: bytes) -> None:
        """Raises BrokenResourceError when the other side is closed."""
        if self._delay:
            await self._head.send((anyio.current_time() + self._delay, data))
        else:
            await self._stream.send(data)

    async def end(self) -> None:
        """Until all that was sent has come out."""
        self._head.close()
        await self._empty.wait()

    async def carry(self) -> None:
        with self._tail, suppress(anyio.BrokenResourceError):
            async for due, data in self._tail:
                await anyio.sleep_until(due)
                await self._stream.send(data)
        self._empty.set()


@asynccontextmanager
async def open_proxy(
    target: str, *, budget: Callable[[], int | None] = lambda: None, delay: float = 0.0
) -> AsyncIterator[Proxy]:
    """A proxy in front of ``target`` (``http://host:port``) on a loopback port of its own."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    proxy = Proxy(target, f"http://127.0.0.1:{port}", budget, delay)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.handle)
        yield proxy
        tasks.cancel_scope.cancel()


async def _received(stream: SocketStream) -> AsyncIterator[bytes]:
    try:
        while True:
            yield await stream.receive(_PIECE)
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return
