"""A results file fetched over several tries, from a server that says and sends what each case wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from packtrain import TransportError
from packtrain._flow.collector import fetch
from packtrain._io.clock import SystemClock
from packtrain._io.directory import Directory
from packtrain._io.spool import RunSpool
from packtrain._io.transport import open_transport
from packtrain._options import Policy
from packtrain._providers.gemini import GeminiProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KIB = 1024
WHOLE = bytes(range(256)) * KIB
#: As long, and the same where a second try begins; only its start tells.
OTHER = b"x" * KIB + WHOLE[KIB:]
CUT = 200 * KIB
#: What goes over the wire, given where the call wants the body to begin.
Answer = Callable[[int], bytes]


@pytest.fixture
def anyio_backend() -> Any:
    """The server is asyncio's own."""
    return "asyncio", {"use_uvloop": False}


class Now(SystemClock):
    """A clock that never waits."""

    async def sleep(self, seconds: float) -> None:
        """At once."""


class Script:
    """Answers, one a call; ``asked`` are the headers of the calls."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[dict[str, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = [line.partition(": ") for line in head.lower().splitlines()[1:]]
        self.asked.append({name: value for name, _, value in lines if name})
        writer.write(self._answers.pop(0)(self.start))
        writer.close()

    @property
    def start(self) -> int:
        """Where the last call wanted the body to begin."""
        return int(self.asked[-1].get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


def reply(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    return lambda _: "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""]).encode() + body


def first(*headers: str) -> Answer:
    """All of it was to come, and the connection broke."""
    return reply(WHOLE[:CUT], f"Content-Length: {len(WHOLE)}", *headers)


def rest(*headers: str, content: bytes = WHOLE, total: int | None = None) -> Answer:
    """From where it was asked for to the end."""
    size = total or len(content)

    def answer(start: int) -> bytes:
        span = f"Content-Range: bytes {start}-{size - 1}/{size}"
        length = f"Content-Length: {len(content) - start}"
        return reply(content[start:], span, length, *headers, status="206 Partial Content")(start)

    return answer


def whole(*headers: str, content: bytes = WHOLE) -> Answer:
    return reply(content, f"Content-Length: {len(content)}", *headers)


@asynccontextmanager
async def remote_of(script: Script) -> AsyncIterator[GeminiProvider]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        open_transport(f"http://127.0.0.1:{port}", credentials={}, connections=1) as transport,
    ):
        yield GeminiProvider(transport, Now(), Policy(), sent=lambda _: None)


async def fetched(script: Script, path: Path) -> tuple[bytes, bool]:
    files = RunSpool(path.parent, "run")
    files.parts = Directory(path.parent, "part")
    async with remote_of(script) as provider:
        vouched = await fetch(provider, Now(), "files/r", files, path.name, tries=Policy().download_tries)
    return await anyio.Path(path).read_bytes(), vouched


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(WHOLE), WHOLE)
ENDS = {
    "length": (whole(), True),
    "chunked": (reply(CHUNKED, "Transfer-Encoding: chunked"), True),
    "the connection alone": (reply(WHOLE), False),
}


@pytest.mark.parametrize(("answer", "vouched"), ENDS.values(), ids=ENDS)
async def test_39_a_body_that_ends_with_the_connection_is_not_vouched_for(
    tmp_path: Path, answer: Answer, vouched: bool
) -> None:
    """It would look the same if it had been cut."""
    assert await fetched(Script(answer), tmp_path / "part") == (WHOLE, vouched)


BROKEN = {
    "length": first(),
    "chunked": reply(b"%x\r\n%b\r\n" % (CUT, WHOLE[:CUT]), "Transfer-Encoding: chunked"),
    "chunked, within a chunk": reply(b"%x\r\n%b" % (len(WHOLE), WHOLE[:CUT]), "Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_37_a_broken_body_is_gone_on_with_at_its_seam(tmp_path: Path, answer: Answer) -> None:
    """A little before its end; what is here already is not fetched again."""
    script = Script(answer, rest())
    assert await fetched(script, tmp_path / "part") == (WHOLE, True)
    assert script.start > 0


ANEW = {
    "200 to a range": [first(), whole()],
    "another length": [first(), rest(total=len(WHOLE) + 1), whole()],
    "another length from the start": [first(), whole(content=WHOLE[:-1]), whole()],
    "another ETag": [first('ETag: "1"'), rest('ETag: "2"'), whole()],
    "416": [first(), reply(b"", status="416 Range Not Satisfiable"), whole()],
    "416, as the service says it": [
        first(),
        reply(b'{"error":{"code":416,"message":"no","status":"OUT_OF_RANGE"}}', status="416 Range Not Satisfiable"),
        whole(),
    ],
    "other bytes at the seam": [first(), rest(content=bytes(len(WHOLE))), whole()],
}


@pytest.mark.parametrize("answers", ANEW.values(), ids=ANEW)
async def test_71_a_file_that_is_another_one_is_fetched_from_its_start(tmp_path: Path, answers: list[Answer]) -> None:
    """Nothing of the two is mixed, and nothing is taken for whole that is not."""
    script = Script(*answers)
    assert await fetched(script, tmp_path / "part") == (WHOLE, True)
    assert len(script.asked) == len(answers)
    assert len(answers) == 2 or "range" not in script.asked[-1]


async def test_37_the_service_is_told_which_file_is_meant(tmp_path: Path) -> None:
    """So that it sends another one whole, although its seam is the same."""
    script = Script(first('ETag: "1"'), whole('ETag: "2"', content=OTHER), whole('ETag: "2"', content=OTHER))
    assert await fetched(script, tmp_path / "part") == (OTHER, True)
    assert script.asked[1]["if-range"] == '"1"'


async def test_a_download_that_never_ends_well_is_given_up(tmp_path: Path) -> None:
    """For now: the part stays, and the next start goes on with it."""
    with pytest.raises(TransportError):
        await fetched(Script(*[first()] * 6), tmp_path / "part")
    assert (tmp_path / "part").stat().st_size > 0
