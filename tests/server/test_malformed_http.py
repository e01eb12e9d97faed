"""Malformed, oversized and ambiguous HTTP requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from packtrain.server import serving
from packtrain.server.limits import LIMITS, Limits
from packtrain.testing import ManualClock

from .raw_http import error_of, exchange, head, statuses
from .service_calls import Calls, truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.both_loops

CLOSE = "Connection: close"
START = ("X-Goog-Upload-Protocol: resumable", "X-Goog-Upload-Command: start")
#: A smuggled request: if it were executed, the log would have an upload.
SMUGGLED = head("POST", "/upload/v1beta/files", *START, "Content-Length: 0", CLOSE)
POST = b"POST /v1beta/models/m:generateContent HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /v1beta/files HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
async def origin(directory: Path) -> AsyncIterator[str]:
    """The origin of a service that soon closes a spent connection, and never calls a client slow: its clock rests."""
    limits = Limits(header_time=0.3, idle_time=0.3, keep_alive=0.3)
    async with serving(directory, limits=limits, clock=ManualClock()) as origin:
        yield origin


async def alive(origin: str) -> None:
    async with ClientSession() as session:
        assert (await Calls(session, origin).call("GET", "/v1beta/files")).status == 200


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        POST + b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        POST + b"Content-Length: 0, %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        POST + b"Content-Length: +0\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + SMUGGLED,
        POST + b"Content-Length : 0\r\n\r\n" + SMUGGLED,
        POST + b"X: y\r\n Content-Length: 0\r\n\r\n" + SMUGGLED,
        POST + b"X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + SMUGGLED,
        POST + b"Transfer-Encoding: chunked\r\n\r\n0;\n\r\n\r\n" + SMUGGLED,
        POST.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n" + SMUGGLED,
        GET + b"X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        GET + b"X\x00: y\r\n\r\n" + SMUGGLED,
        GET + b"X: y\x00\r\n\r\n" + SMUGGLED,
        GET + b": y\r\n\r\n" + SMUGGLED,
        GET + b"no colon\r\n\r\n" + SMUGGLED,
        GET.replace(b"HTTP/1.1", b"HTTP/9.9") + b"\r\n" + SMUGGLED,
        GET.replace(b" HTTP/1.1", b"") + b"\r\n" + SMUGGLED,
        GET.replace(b"GET ", b"G\x01T ") + b"\r\n" + SMUGGLED,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SMUGGLED,
    ],
)
async def test_ambiguous_framing_is_refused(origin: str, directory: Path, data: bytes) -> None:
    """400, and the connection is closed: what follows is never executed."""
    answer = await exchange(origin, data)
    assert statuses(answer) == [400]
    assert error_of(answer)["status"] == "INVALID_ARGUMENT"
    assert b"Traceback" not in answer
    assert b"aiohttp" not in answer
    assert b"X-Content-Type-Options: nosniff" in answer
    assert truth(directory) == []
    await alive(origin)


@pytest.mark.parametrize(
    "fields",
    [
        ["X: " + "x" * (LIMITS.header_bytes + 1)],
        ["x" * (LIMITS.header_bytes + 1) + ": x"],
        [f"X-{number}: y" for number in range(LIMITS.headers + 1)],
    ],
    ids=["value", "name", "count"],
)
async def test_a_header_beyond_the_limits_is_refused(origin: str, directory: Path, fields: list[str]) -> None:
    """At once; one at the limit is accepted."""
    answer = await exchange(origin, head("GET", "/v1beta/files", *fields) + SMUGGLED)
    assert statuses(answer) == [400]
    assert truth(directory) == []
    most = [f"X-{number}: {'y' * 8000}" for number in range(LIMITS.headers - 2)]
    assert statuses(await exchange(origin, head("GET", "/v1beta/files", CLOSE, *most))) == [200]


async def test_a_line_beyond_the_limit_is_refused(origin: str) -> None:
    """A request line with a long path."""
    assert statuses(await exchange(origin, head("GET", "/" + "x" * LIMITS.line_bytes, CLOSE))) == [400]


async def test_endless_header_is_refused_at_the_limit(origin: str) -> None:
    """No more than the limit is buffered."""
    answer = await exchange(origin, head("GET", "/v1beta/files")[:-2] + b"X: " + b"x" * 100_000)
    assert statuses(answer) == [400]


SMALL = (
    ("/upload/v1beta/files", START, LIMITS.body_bytes),
    ("/v1/uploads", (), LIMITS.body_bytes),
    ("/v1/batches", (), LIMITS.body_bytes),
)
LARGE = (
    ("/v1beta/models/m:batchGenerateContent", (), 20 * 2**20),
    ("/v1beta/models/m:generateContent", (), 20 * 2**20),
    ("/v1/chat/completions", (), 20 * 10**6),
)


@pytest.mark.parametrize(("path", "fields", "most"), LARGE)
async def test_large_body_is_refused_by_its_declared_length(
    origin: str, path: str, fields: tuple[str, ...], most: int
) -> None:
    """Its bytes are not parsed as a request."""
    answer = await exchange(origin, head("POST", path, f"Content-Length: {most + 1}", *fields) + SMUGGLED)
    assert statuses(answer) == [400]
    assert str(most) in error_of(answer)["message"]


@pytest.mark.parametrize(("path", "fields", "most"), SMALL)
async def test_a_body_beyond_the_limit_is_refused(
    origin: str, directory: Path, path: str, fields: tuple[str, ...], most: int
) -> None:
    """The connection serves the next request after the end of the body."""
    body = b" " * (most + 1)
    behind = head("GET", "/v1beta/batches", CLOSE)
    answer = await exchange(origin, head("POST", path, f"Content-Length: {most + 1}", *fields) + body + behind)
    assert statuses(answer) == [413, 200]
    assert truth(directory) == []


@pytest.mark.parametrize(("path", "fields", "most"), SMALL)
async def test_a_chunked_body_beyond_the_limit_is_refused(
    origin: str, directory: Path, path: str, fields: tuple[str, ...], most: int
) -> None:
    """In the middle, since no length is declared; the next request is served after its end."""
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    body = piece * (most // 0x10000 + 1)
    answer = await exchange(origin, head("POST", path, "Transfer-Encoding: chunked", *fields) + body + SMUGGLED)
    assert statuses(answer) == [413]
    assert truth(directory) == []


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/nothing", 404), ("POST", "/v1beta/files", 404), ("PUT", "/v1/files", 404)]
)
async def test_the_body_of_a_refused_call_is_no_request(
    origin: str, directory: Path, method: str, path: str, status: int
) -> None:
    """It is skipped; the request after it is served."""
    length = f"Content-Length: {len(SMUGGLED)}"
    behind = head("GET", "/v1beta/batches", CLOSE)
    assert statuses(await exchange(origin, head(method, path, length) + SMUGGLED + behind)) == [status, 200]
    assert truth(directory) == []


async def test_short_body_consumes_the_next_request(origin: str, directory: Path) -> None:
    """As HTTP requires; only the client itself is affected."""
    length = f"Content-Length: {len(SMUGGLED) + 1}"
    answer = await exchange(origin, head("POST", "/v1beta/models/m:generateContent", length) + b" " + SMUGGLED)
    assert statuses(answer) == [400]
    assert truth(directory) == []
