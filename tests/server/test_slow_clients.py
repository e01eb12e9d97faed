"""Clients that are slow, silent, or too many."""

from __future__ import annotations

import tracemalloc
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import ClientSession

from packtrain._options import KIB, MIB
from packtrain.server import serving
from packtrain.server.limits import LIMITS, Limits, TransferRate

from .raw_http import PATIENCE, error_of, exchange, head, statuses, wire
from .service_calls import GRANULARITY, Calls

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.both_loops

#: Everything that takes time, in fractions of a second.
FAST = Limits(header_time=0.5, idle_time=0.5, keep_alive=0.5)
GET = head("GET", "/v1beta/files")
START = ("X-Goog-Upload-Protocol: resumable", "X-Goog-Upload-Command: start")


def test_default_limits_are_the_documented_ones() -> None:
    """The other tests use shorter ones."""
    assert LIMITS.header_time * 1.25 <= 15, "the looks at a connection come in addition"
    assert LIMITS.idle_time <= 15
    assert LIMITS.rate >= 1000
    assert LIMITS.body_time <= 600
    assert LIMITS.keep_alive <= 30
    assert LIMITS.headers * LIMITS.header_bytes <= MIB
    assert LIMITS.body_bytes <= MIB
    assert LIMITS.connections <= 500


async def test_endless_header_is_cut_off(directory: Path) -> None:
    """Even if it grows steadily."""
    async with serving(directory, limits=FAST) as origin, wire(origin) as line:
        with anyio.fail_after(PATIENCE):
            await line.trickle(b"GET /v1beta/files HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 5000, 0.02)
        assert await line.rest() == b""


async def test_header_time_applies_to_every_request(directory: Path) -> None:
    """Also to the second on a connection with a long keep-alive."""
    limits = Limits(header_time=0.4)
    async with serving(directory, limits=limits) as origin, wire(origin) as line:
        await line.send(GET)
        assert statuses(await line.some()) == [200]
        with anyio.fail_after(PATIENCE):
            await line.trickle(GET[:-2] + b"X: " + b"x" * 5000, 0.02)


@pytest.mark.parametrize("first", [b"", GET], ids=["new", "used"])
async def test_a_silent_connection_is_closed(directory: Path, first: bytes) -> None:
    """Before the first request, and after a response."""
    async with serving(directory, limits=FAST) as origin:
        assert statuses(await exchange(origin, first)) == ([200] if first else [])


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/upload/v1beta/files", START),
        ("/v1beta/models/m:batchGenerateContent", ()),
        ("/v1beta/models/m:generateContent", ()),
        ("/v1beta/openai/batches", ()),
        ("/v1/uploads", ()),
        ("/v1/files", ("Content-Type: multipart/form-data; boundary=b",)),
        ("/upload/v1beta/files", ("X-Goog-Upload-Protocol: raw",)),
    ],
)
async def test_stalled_body_gets_408(directory: Path, path: str, fields: tuple[str, ...]) -> None:
    """In the format of its wire, and the connection is closed."""
    async with serving(directory, limits=FAST) as origin:
        answer = await exchange(origin, head("POST", path, "Content-Length: 100", *fields) + b"{")
        assert statuses(answer) == [408]
        assert "No byte was received for 0.5 seconds" in error_of(answer)["message"]


async def test_trickling_body_gets_408(directory: Path) -> None:
    """It is never idle, but never complete."""
    async with serving(directory, limits=FAST) as origin, wire(origin) as line, anyio.create_task_group() as tasks:
        await line.send(head("POST", "/v1beta/models/m:generateContent", "Content-Length: 5000"))
        tasks.start_soon(line.trickle, b" " * 5000, 0.02)
        answer = await line.rest()
        assert statuses(answer) == [408]
        assert "1000 bytes a second" in error_of(answer)["message"]


async def test_total_time_limits_json_but_not_file_content(directory: Path) -> None:
    """Both have the minimum rate, and both take longer than the time limit."""
    limits = Limits(idle_time=0.4, body_time=0.4, rate=10)
    async with serving(directory, limits=limits) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        url = await calls.url(size=GRANULARITY)

        async def slowly() -> None:
            async with wire(origin) as line:
                path = url.removeprefix(origin)
                fields = ("X-Goog-Upload-Command: upload, finalize", "X-Goog-Upload-Offset: 0", "Connection: close")
                await line.send(head("POST", path, f"Content-Length: {GRANULARITY}", *fields))
                for _ in range(64):
                    assert await line.send(b"x" * (GRANULARITY // 64))
                    await anyio.sleep(0.02)
                assert statuses(await line.rest()) == [200]

        async with wire(origin) as line, anyio.create_task_group() as tasks:
            tasks.start_soon(slowly)
            await line.send(head("POST", "/v1beta/models/m:generateContent", "Content-Length: 5000"))
            tasks.start_soon(line.trickle, b" " * 5000, 0.02)
            answer = await line.rest()
        assert statuses(answer) == [408]
        assert "0.4 seconds" in error_of(answer)["message"]


async def test_stalled_upload_keeps_what_arrived(directory: Path) -> None:
    """The client continues from there."""
    async with serving(directory, limits=FAST) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        url = await calls.url(size=2 * GRANULARITY)
        fields = ("X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0", f"Content-Length: {GRANULARITY}")
        answer = await exchange(origin, head("POST", url.removeprefix(origin), *fields) + b"x" * 1000)
        assert statuses(answer) == [408]
        assert await calls.received(url) == 1000


@pytest.mark.parametrize("trickle", [False, True])
async def test_a_large_upload_has_the_same_limits(directory: Path, trickle: bool) -> None:
    """Although it is read from the socket directly."""
    size = 64 * GRANULARITY
    async with serving(directory, limits=FAST) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        url = await calls.url(size=size)
        fields = ("X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0", f"Content-Length: {size}")
        async with wire(origin) as line, anyio.create_task_group() as tasks:
            await line.send(head("POST", url.removeprefix(origin), *fields) + b"x" * (2 * MIB))
            if trickle:
                tasks.start_soon(line.trickle, b"x" * 5000, 0.02)
            answer = await line.rest()
        assert statuses(answer) == [408]
        assert ("bytes a second" if trickle else "No byte") in error_of(answer)["message"]
        assert await calls.received(url) >= 2 * MIB


async def test_client_that_does_not_read_is_cut_off(directory: Path) -> None:
    """A download of 64 MiB of which nothing is read, in bounded memory."""
    async with serving(directory) as origin, ClientSession() as session:
        file = await Calls(session, origin).upload(b"x" * (64 * MIB))
    async with serving(directory, limits=FAST) as origin:
        tracemalloc.start()
        try:
            async with wire(origin) as line:
                await line.send(head("GET", f"/v1beta/{file['name']}:download?alt=media"))
                with anyio.fail_after(PATIENCE):
                    while await line.send(b"\r\n"):  # noqa: ASYNC110 - an end that is not read tells nobody
                        await anyio.sleep(0.05)
                _, peak = tracemalloc.get_traced_memory()
                taken = 0
                while piece := await line.some():
                    taken += len(piece)
        finally:
            tracemalloc.stop()
        assert peak < 8 * MIB
        assert taken < 64 * MIB


async def test_connection_beyond_the_limit_gets_503(directory: Path) -> None:
    """Until another one closes; open connections are served."""
    async with serving(directory, limits=Limits(connections=3)) as origin, AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire(origin)) for _ in range(3)]
        for line in lines:
            await line.send(GET)
            assert statuses(await line.some()) == [200]
        answer = await exchange(origin, GET)
        assert statuses(answer) == [503]
        assert error_of(answer)["status"] == "UNAVAILABLE"
        await lines[0].send(head("GET", "/v1beta/files", "Connection: close"))
        assert statuses(await lines[0].rest()) == [200]
        with anyio.fail_after(PATIENCE):
            while statuses(await exchange(origin, head("GET", "/v1beta/files", "Connection: close"))) == [503]:
                pass


def test_rate_is_judged_per_period() -> None:
    """An early burst does not allow a slow rest."""
    pace = TransferRate(Limits(idle_time=10.0, rate=1000), now=0.0)
    pace.add(10**9, 1.0)
    assert pace.fault(9.0) == ""
    assert pace.fault(10.0) == ""
    for now in range(11, 20):
        pace.add(1, float(now))
        assert pace.fault(float(now)) == ""
    assert "1000 bytes a second" in pace.fault(20.0)


def test_rate_at_the_limit_is_enough() -> None:
    """Idle time is noticed at its limit."""
    pace = TransferRate(Limits(idle_time=10.0, rate=1 * KIB), now=0.0)
    for now in range(1, 31):
        pace.add(KIB, float(now))
        assert pace.fault(float(now)) == ""
    assert pace.fault(39.9) == ""
    assert "No byte" in pace.fault(40.0)
