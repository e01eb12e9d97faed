"""Raw HTTP over sockets: exact bytes, controlled timing."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from .passing_time import pass_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

    from packtrain.testing import ManualClock

#: Seconds after which a silent connection fails its test.
PATIENCE = 100.0


class Wire:
    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> bool:
        """False when the server has closed the connection."""
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True

    async def trickle(self, data: bytes, period: float, clock: ManualClock) -> bool:
        """Sends a byte per ``period``; True when the server closed the connection before the end."""
        for at in range(len(data)):
            if not await self.send(data[at : at + 1]):
                return True
            await pass_time(clock, period)
        return False

    async def some(self) -> bytes:
        """The next bytes; empty at the end of the connection."""
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return b""

    async def rest(self) -> bytes:
        """All bytes until the server closes the connection."""
        found = b""
        with anyio.fail_after(PATIENCE):
            while piece := await self.some():
                found += piece
        return found


@asynccontextmanager
async def wire(origin: str) -> AsyncIterator[Wire]:
    parts = urlsplit(origin)
    assert parts.hostname and parts.port
    async with await anyio.connect_tcp(parts.hostname, parts.port) as stream:
        yield Wire(stream)


async def exchange(origin: str, data: bytes) -> bytes:
    """The responses to ``data`` until the server closes the connection."""
    async with wire(origin) as line:
        await line.send(data)
        return await line.rest()


def head(method: str, path: str, *fields: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def statuses(answers: bytes) -> list[int]:
    """The statuses of successive responses."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", answers)]


def error_of(answer: bytes) -> Any:
    """The error in the body of a single response."""
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
