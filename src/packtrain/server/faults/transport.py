"""Transport faults: changed headers, truncated and slow responses; and request bodies that can be replayed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
from aiohttp import StreamReader
from aiohttp.abc import AbstractStreamWriter
from msgspec import UnsetType

from ..._options import MIB
from ..replies import HttpError
from .plan import Header, Slow, Truncate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web
    from multidict import CIMultiDict

    from .plan import Rule

#: The longest body kept for a second execution.
MAX_KEPT_BYTES = 64 * MIB
#: Seconds between two pieces of a slow response.
PIECE_INTERVAL = 0.05


class FaultyWriter(AbstractStreamWriter):
    """Wraps the writer of a response."""

    def __init__(self, writer: AbstractStreamWriter, rules: Sequence[Header | Slow | Truncate]) -> None:
        self._writer = writer
        self._headers = [rule for rule in rules if isinstance(rule, Header)]
        self._cut = next((rule for rule in rules if isinstance(rule, Truncate)), None)
        self._rate = next((rule.rate for rule in rules if isinstance(rule, Slow)), None)
        self._left = self._cut.at if self._cut else None
        self._over = False

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        return self._writer.transport

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        for rule in self._headers:
            if isinstance(rule.value, UnsetType):
                headers.popall(rule.name, None)
            else:
                headers[rule.name] = rule.value
        if self._open_ended:
            headers.popall("Content-Length", None)
            headers["Connection"] = "close"
        self._writer.length = None if self._open_ended else self.length
        await self._writer.write_headers(status_line, headers)

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        allowed = bytes(chunk if self._left is None else chunk[: self._left])
        await self._send(b"" if self._over else allowed)
        if self._left is not None:
            self._left -= len(allowed)
            if not self._left:
                self._close()

    async def write_eof(self, chunk: bytes = b"") -> None:
        if chunk or self._left == 0:
            await self.write(chunk)
        if not self._over:
            await self._writer.write_eof()
        if self._open_ended:
            self._close()

    async def drain(self) -> None:
        await self._writer.drain()

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        self._writer.enable_compression(encoding, strategy)

    def enable_chunking(self) -> None:
        self._writer.enable_chunking()

    def send_headers(self) -> None:
        self._writer.send_headers()

    @property
    def _open_ended(self) -> bool:
        return self._cut is not None and not self._cut.length

    async def _send(self, data: bytes) -> None:
        if self._rate is None:
            if data:
                await self._writer.write(data)
            return
        size = max(1, int(self._rate * PIECE_INTERVAL))
        for start in range(0, len(data), size):
            await anyio.sleep(PIECE_INTERVAL)
            await self._writer.write(data[start : start + size])

    def _close(self) -> None:
        """Closes gracefully: what was written is delivered. Later bytes of the handler are dropped."""
        self._writer.send_headers()
        self._over = True
        if self.transport is not None:
            self.transport.close()


# aiohttp has no public way to replace a request's reader and writer.


def install_faulty_writer(request: web.Request, rules: Sequence[Rule]) -> None:
    """Sends the response through a FaultyWriter, if a rule needs one."""
    bad = [rule for rule in rules if isinstance(rule, Header | Slow | Truncate)]
    if bad:
        request._payload_writer = FaultyWriter(request._payload_writer, bad)


async def take_body(request: web.Request) -> bytes:
    """The whole body, for repeated execution. Raises HttpError 413 beyond MAX_KEPT_BYTES."""
    pieces: list[bytes] = []
    while piece := await request.content.readany():
        pieces.append(piece)
        if sum(map(len, pieces)) > MAX_KEPT_BYTES:
            raise HttpError(413, f"For this fault a body has at most {MAX_KEPT_BYTES} bytes.")
    return b"".join(pieces)


def with_body(request: web.Request, body: bytes) -> web.Request:
    """The same request with this body unread."""
    stream = StreamReader(request.protocol, len(body) + 1, loop=asyncio.get_running_loop())
    stream.feed_data(body)
    stream.feed_eof()
    request._payload = stream
    return request.clone()
