"""Clients that are slow, silent, or too many."""

from __future__ import annotations

import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import ClientSession
from anyio.lowlevel import checkpoint

from packtrain._options import KIB, MIB
from packtrain.server import serving
from packtrain.server.limits import LIMITS, Limits, TransferRate
from packtrain.testing import ManualClock

from .passing_time import pass_time
from .raw_http import PATIENCE, error_of, exchange, head, statuses, wire
from .service_calls import GRANULARITY, Calls, blobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .raw_http import Wire

pytestmark = pytest.mark.both_loops

#: Measured with a ManualClock, except for ``keep_alive`` and the time in which aiohttp discards the rest of a body.
FAST = Limits(header_time=0.2, idle_time=0.5, keep_alive=0.05)
GET = head("GET", "/v1beta/files")
START = ("X-Goog-Upload-Protocol: resumable", "X-Goog-Upload-Command: start")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_default_limits_are_the_documented_ones() -> None:
    """The other tests use shorter ones."""
    assert LIMITS.header_time * 1.25 <= 15, "plus the period of the checks"
    assert LIMITS.idle_time <= 15
    assert LIMITS.rate >= 1000
    assert LIMITS.body_time <= 600
    assert LIMITS.keep_alive <= 30
    assert LIMITS.headers * LIMITS.header_bytes <= MIB
    assert LIMITS.body_bytes <= MIB
    assert LIMITS.connections <= 2000
    assert LIMITS.calls <= 500


async def test_endless_header_is_cut_off(directory: Path, clock: ManualClock) -> None:
    """Even if it grows steadily."""
    async with serving(directory, limits=FAST, clock=clock) as origin, wire(origin) as line:
        assert await line.trickle(b"GET /v1beta/files HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100, 0.02, clock)
        assert await line.rest() == b""


async def test_header_time_applies_to_every_request(directory: Path, clock: ManualClock) -> None:
    """Also to the second on a connection with a long keep-alive."""
    limits = Limits(header_time=0.4)
    async with serving(directory, limits=limits, clock=clock) as origin, wire(origin) as line:
        await line.send(GET)
        assert statuses(await line.some()) == [200]
        assert await line.trickle(GET[:-2] + b"X: " + b"x" * 100, 0.02, clock)


async def test_connection_without_a_request_is_closed(directory: Path, clock: ManualClock) -> None:
    """After the time for a header."""
    async with serving(directory, limits=FAST, clock=clock) as origin, wire(origin) as line:
        await pass_time(clock, FAST.header_time)
        assert await line.rest() == b""


async def test_idle_connection_is_closed(directory: Path) -> None:
    """After the keep-alive time."""
    async with serving(directory, limits=Limits(keep_alive=0.05)) as origin:
        assert statuses(await exchange(origin, GET)) == [200]


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
async def test_stalled_body_gets_408(directory: Path, clock: ManualClock, path: str, fields: tuple[str, ...]) -> None:
    """In the format of its wire, and the connection is closed."""
    async with serving(directory, limits=FAST, clock=clock) as origin, wire(origin) as line:
        await line.send(head("POST", path, "Content-Length: 100", *fields) + b"{")
        await pass_time(clock, FAST.idle_time)
        answer = await line.rest()
        assert statuses(answer) == [408]
        assert "No byte was received for 0.5 seconds" in error_of(answer)["message"]


async def test_trickling_body_gets_408(directory: Path, clock: ManualClock) -> None:
    """It is never idle, but never complete."""
    async with serving(directory, limits=FAST, clock=clock) as origin, wire(origin) as line:
        await line.send(head("POST", "/v1beta/models/m:generateContent", "Content-Length: 5000"))
        async with running(clock, line):
            answer = await line.some()
        assert statuses(answer) == [408]
        assert "1000 bytes per second" in error_of(answer)["message"]


async def test_total_time_limits_json_but_not_file_content(directory: Path, clock: ManualClock) -> None:
    """Both have the minimum rate, and both take longer than the time limit."""
    limits = Limits(idle_time=1.0, body_time=0.4, rate=10)
    piece = GRANULARITY // 64
    async with serving(directory, limits=limits, clock=clock) as origin, ClientSession() as session:
        url = await Calls(session, origin).url(size=GRANULARITY)
        fields = ("X-Goog-Upload-Command: upload, finalize", "X-Goog-Upload-Offset: 0", "Connection: close")
        async with wire(origin) as upload, wire(origin) as call:
            await upload.send(head("POST", url.removeprefix(origin), f"Content-Length: {GRANULARITY}", *fields))
            await call.send(head("POST", "/v1beta/models/m:generateContent", "Content-Length: 5000"))
            async with running(clock, call):
                answer = await call.some()
            for _ in range(64):
                assert await upload.send(b"x" * piece)
                await pass_time(clock, 0.02)
            assert statuses(await upload.rest()) == [200]
        assert statuses(answer) == [408]
        assert "0.4 seconds" in error_of(answer)["message"]


async def test_stalled_upload_keeps_what_arrived(directory: Path, clock: ManualClock) -> None:
    """The client continues from there."""
    async with serving(directory, limits=FAST, clock=clock) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        url = await calls.url(size=2 * GRANULARITY)
        fields = ("X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0", f"Content-Length: {GRANULARITY}")
        async with wire(origin) as line:
            await line.send(head("POST", url.removeprefix(origin), *fields) + b"x" * 1000)
            await pass_time(clock, FAST.idle_time)
            assert statuses(await line.rest()) == [408]
        assert await calls.received(url) == 1000


@pytest.mark.parametrize("trickle", [False, True])
async def test_large_upload_has_the_same_limits(directory: Path, clock: ManualClock, trickle: bool) -> None:
    """Although it is read from the socket directly."""
    size = 64 * GRANULARITY
    async with serving(directory, limits=FAST, clock=clock) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        url = await calls.url(size=size)
        fields = ("X-Goog-Upload-Command: upload", "X-Goog-Upload-Offset: 0", f"Content-Length: {size}")
        async with wire(origin) as line:
            await line.send(head("POST", url.removeprefix(origin), *fields) + b"x" * (2 * MIB))
            await stored(directory, 2 * MIB)
            async with running(clock, line if trickle else None):
                answer = await line.some()
        assert statuses(answer) == [408]
        assert ("bytes per second" if trickle else "No byte") in error_of(answer)["message"]
        assert await calls.received(url) >= 2 * MIB


@asynccontextmanager
async def running(clock: ManualClock, line: Wire | None) -> AsyncIterator[None]:
    """Time passes during the block, while ``line`` sends a byte at a time."""

    async def run() -> None:
        while True:
            if line:
                await line.send(b"x")
            await pass_time(clock, 0.02)
            await anyio.to_thread.run_sync(int)  # the body is read in a thread

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        yield
        tasks.cancel_scope.cancel()


async def stored(directory: Path, size: int) -> None:
    """Returns once a blob has ``size`` bytes."""
    with anyio.fail_after(PATIENCE):
        while max(blob.stat().st_size for blob in blobs(directory)) < size:
            await checkpoint()


async def test_client_that_does_not_read_is_cut_off(directory: Path, clock: ManualClock) -> None:
    """A download of 64 MiB of which next to nothing is read, in bounded memory."""
    async with serving(directory) as origin, ClientSession() as session:
        file = await Calls(session, origin).upload(b"x" * (64 * MIB))
    async with serving(directory, limits=FAST, clock=clock) as origin:
        tracemalloc.start()
        try:
            async with wire(origin) as line:
                await line.send(head("GET", f"/v1beta/{file['name']}:download?alt=media"))
                received = len(await line.some())
                with anyio.fail_after(PATIENCE):
                    while await line.send(b"\r\n"):
                        await pass_time(clock, 0.1)
                _, peak = tracemalloc.get_traced_memory()
                while piece := await line.some():
                    received += len(piece)
        finally:
            tracemalloc.stop()
        assert peak < 8 * MIB
        assert 0 < received < 64 * MIB


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
    rate = TransferRate(Limits(idle_time=10.0, rate=1000), now=0.0)
    rate.add(10**9, 1.0)
    assert rate.fault(9.0) == ""
    assert rate.fault(10.0) == ""
    for now in range(11, 20):
        rate.add(1, float(now))
        assert rate.fault(float(now)) == ""
    assert "1000 bytes per second" in rate.fault(20.0)


def test_rate_at_the_limit_is_enough() -> None:
    """Idle time is noticed at its limit."""
    rate = TransferRate(Limits(idle_time=10.0, rate=1 * KIB), now=0.0)
    for now in range(1, 31):
        rate.add(KIB, float(now))
        assert rate.fault(float(now)) == ""
    assert rate.fault(39.9) == ""
    assert "No byte" in rate.fault(40.0)
