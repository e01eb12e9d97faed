"""Large bodies, read directly from the socket, over real HTTP."""

from __future__ import annotations

import asyncio
import errno
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain.server.blobs import Appender
from packtrain.server.request_body import SOCKET_BODY_BYTES

from .service_calls import GRANULARITY, Calls, digest_of, sha256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.both_loops

DATA = random.Random(3).randbytes(3 * SOCKET_BODY_BYTES + 11)


async def test_large_body_arrives_whole_and_ends_its_connection(calls: Calls) -> None:
    """The content is right; the connection is closed and the client opens another one."""
    url = await calls.url(size=len(DATA))
    answer = await calls.command(url, "upload, finalize", offset=0, data=DATA)
    assert answer.headers["Connection"] == "close"
    assert digest_of(answer.json["file"]) == sha256(DATA)
    assert digest_of(await calls.upload(DATA[1:])) == sha256(DATA[1:])


async def test_small_body_keeps_its_connection(calls: Calls) -> None:
    """Only large bodies cost a connection."""
    url = await calls.url(size=GRANULARITY)
    answer = await calls.command(url, "upload, finalize", offset=0, data=DATA[:GRANULARITY])
    assert answer.headers.get("Connection") != "close"


@pytest.mark.parametrize("sent", [SOCKET_BODY_BYTES, 2 * SOCKET_BODY_BYTES + 5])
async def test_newer_call_takes_over_from_a_large_body(calls: Calls, directory: Path, sent: int) -> None:
    """Bytes of the older call are kept, and the newer one continues from there."""
    url = await calls.url(size=len(DATA))
    async with _sending(calls.origin, url, sent):
        await _stored(directory, sent)
        assert await calls.received(url) == sent
        answer = await calls.command(url, "upload, finalize", offset=sent, data=DATA[sent:])
    assert digest_of(answer.json["file"]) == sha256(DATA)


@pytest.mark.parametrize("sent", [SOCKET_BODY_BYTES, 2 * SOCKET_BODY_BYTES + 5])
async def test_large_body_that_breaks_off_keeps_its_start(calls: Calls, directory: Path, sent: int) -> None:
    """The client disconnects in the middle; every byte that it sent counts."""
    url = await calls.url(size=len(DATA))
    async with _sending(calls.origin, url, sent):
        pass
    await _stored(directory, sent)
    assert await calls.received(url) == sent
    answer = await calls.command(url, "upload, finalize", offset=sent, data=DATA[sent:])
    assert digest_of(answer.json["file"]) == sha256(DATA)


async def test_large_body_continues_after_a_full_disk(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored after the piece that did not fit, so the offset is that of the missing bytes."""
    write, left = Appender.write, 2 * SOCKET_BODY_BYTES

    def stingy(self: Appender, piece: bytes | memoryview) -> None:
        nonlocal left
        left -= len(piece)
        if left < 0:
            left = len(DATA) * 2
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, piece)

    monkeypatch.setattr(Appender, "write", stingy)
    url = await calls.url(size=len(DATA))
    answer = await calls.command(url, "upload, finalize", offset=0, data=DATA)
    assert answer.status == 503
    stored = await calls.received(url)
    assert 0 < stored < len(DATA)
    answer = await calls.command(url, "upload, finalize", offset=stored, data=DATA[stored:])
    assert digest_of(answer.json["file"]) == sha256(DATA)


async def test_third_call_ends_the_second_too(calls: Calls, directory: Path) -> None:
    """A waiting call is itself superseded by a newer one."""
    url = await calls.url(size=len(DATA))
    async with _sending(calls.origin, url, SOCKET_BODY_BYTES), _sending(calls.origin, url, SOCKET_BODY_BYTES):
        await _stored(directory, SOCKET_BODY_BYTES)
        with anyio.fail_after(100):
            answer = await calls.command(url, "query")
    assert answer.headers["X-Goog-Upload-Size-Received"] == str(SOCKET_BODY_BYTES)


async def _stored(directory: Path, size: int) -> None:
    with anyio.fail_after(100):
        while sum(blob.stat().st_size for blob in (directory / "blobs").iterdir()) != size:
            await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def _sending(origin: str, url: str, sent: int) -> AsyncIterator[None]:
    """A call that declares all of ``DATA`` and sends ``count`` bytes; closed at the end."""
    host, port = origin.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST {url.removeprefix(origin)} HTTP/1.1\r\nHost: {host}\r\nX-Goog-Upload-Command: upload, finalize\r\n"
        f"X-Goog-Upload-Offset: 0\r\nContent-Length: {len(DATA)}\r\n\r\n"
    )
    writer.write(head.encode() + DATA[:sent])
    await writer.drain()
    try:
        yield
    finally:
        writer.close()
        await writer.wait_closed()
