"""A service that lies: raw sockets in front of a real one, which pass all on except where a plan says otherwise.

``open_hostile`` gives a front and a trap. The front is the address to give a client. The trap is an address to lie
about: whatever reaches it was sent to another place than the service's, and is counted.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute

if TYPE_CHECKING:
    from anyio.abc import SocketStream

#: The calls of a client of the Gemini Batch API.
Route = Literal[
    "upload.start",
    "upload.data",
    "upload.query",
    "file.get",
    "file.delete",
    "create",
    "job.get",
    "job.list",
    "job.cancel",
    "results.get",
]
_ROUTES: tuple[tuple[Route, str], ...] = (
    ("upload.query", r"POST /upload/\S* .*\nx-goog-upload-command: query\r"),
    ("upload.start", r"POST /upload/\S* .*\nx-goog-upload-command: start\r"),
    ("upload.data", r"POST /upload/"),
    ("results.get", r"GET /v1beta/\S+:download[ ?]"),
    ("create", r"POST /v1beta/models/\S+:(batchGenerateContent|asyncBatchEmbedContent) "),
    ("job.cancel", r"POST /v1beta/batches/\S+:cancel "),
    ("job.list", r"GET /v1beta/batches[ ?]"),
    ("job.get", r"GET /v1beta/batches/\S+ "),
    ("file.get", r"GET /v1beta/files/\S+ "),
    ("file.delete", r"DELETE /v1beta/files/\S+ "),
)
_PATTERNS = tuple((route, re.compile(pattern, re.S)) for route, pattern in _ROUTES)
_PIECE = 1 << 16
_CLOSE = ("connection", "close")


@dataclass
class Answer:
    """An answer of the service, or in its place. Header names are in lower case."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def encode(self) -> bytes:
        return self.head() + self.body

    def head(self, *, length: bool = True) -> bytes:
        headers = [*self.headers]
        if length and not any(name == "content-length" for name, _ in headers):
            headers.append(("content-length", str(len(self.body))))
        lines = [f"HTTP/1.1 {self.status} So", *(f"{name}: {value}" for name, value in (*headers, _CLOSE))]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def changed(self, name: str, value: str | None) -> Answer:
        """With this header, or without it."""
        kept = [header for header in self.headers if header[0] != name]
        return Answer(self.status, kept if value is None else [*kept, (name, value)], self.body)


class Exchange:
    """One request, and the ways to answer it."""

    def __init__(self, hostile: Hostile, client: SocketStream, head: bytes, rest: bytes) -> None:
        self.hostile = hostile
        self.route = _route(head)
        #: Calls of this route so far, with this one.
        self.number = 0
        self.head = head
        self._client = client
        self._rest = rest

    async def send(self, data: bytes) -> None:
        await self._client.send(data)

    async def drip(self, data: bytes, pause: float) -> None:
        """A byte at a time."""
        for at in range(len(data)):
            await self.send(data[at : at + 1])
            await anyio.sleep(pause)

    async def silence(self) -> None:
        """Until the client goes."""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await self._client.receive(_PIECE)

    async def swallow(self) -> None:
        """Read the request to its end, and pass nothing on."""
        async for _ in self._body():
            pass

    async def true_answer(self) -> Answer:
        """Let the service act; its answer, whole."""
        async with await anyio.connect_tcp(*self.hostile.target) as upstream:
            await self._pass_on(upstream)
            data = bytearray()
            async for piece in _received(upstream):
                data += piece
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        if ("transfer-encoding", "chunked") in headers:
            body = _dechunked(body)
        dropped = {"transfer-encoding", "content-length", "connection"}
        return Answer(int(first.split()[1]), [header for header in headers if header[0] not in dropped], body)

    async def pass_through(self) -> None:
        """Send the call on unchanged, and its answer back."""
        async with await anyio.connect_tcp(*self.hostile.target) as upstream:
            await self._pass_on(upstream)
            async for piece in _received(upstream):
                await self.send(piece)

    async def _pass_on(self, upstream: SocketStream) -> None:
        await upstream.send(
            re.sub(rb"\r\nconnection:[^\r]*", b"", self.head, flags=re.I) + b"\r\nConnection: close\r\n\r\n"
        )
        async for piece in self._body():
            await upstream.send(piece)

    async def _body(self) -> AsyncIterator[bytes]:
        match = re.search(rb"\r\ncontent-length: *(\d+)", self.head, re.I)
        left = int(match[1]) if match else 0
        rest, self._rest = self._rest, b""
        while left > 0:
            piece = rest or await self._client.receive(_PIECE)
            rest = b""
            left -= len(piece)
            yield piece


Play = Callable[[Exchange], Awaitable[None]]


@dataclass
class Lie:
    """What is played instead of the answers to calls of ``route``: for ``times`` calls from number ``first`` on, or for
    ``seconds`` since the first of them; with neither for ever, until ``heal``."""

    route: Route
    play: Play
    times: int | None = None
    seconds: float | None = None
    first: int = 1
    began: float | None = None
    told: int = 0

    def holds(self, number: int) -> bool:
        now = anyio.current_time()
        if number < self.first or (self.times is not None and self.told >= self.times):
            return False
        self.began = now if self.began is None else self.began
        return self.seconds is None or now - self.began < self.seconds


class Hostile:
    """``origin`` is the address for the client, ``trap`` one that nothing may be sent to."""

    def __init__(self, target: str, origin: str, trap: str, lies: list[Lie]) -> None:
        parts = urlsplit(target)
        self.target = parts.hostname or "", parts.port or 80
        self.origin = origin
        self.trap = trap
        self.lies = lies
        #: Calls by route, and connections that reached the trap.
        self.calls: Counter[str] = Counter()
        self.trapped = 0
        #: Lies that were told, and when the first one was, by the event loop's clock.
        self.told = 0
        self.first_told: float | None = None
        #: When the last one ended, by the same clock.
        self.last_ended: float | None = None
        #: Set at the first lie.
        self.lied = anyio.Event()

    def heal(self) -> None:
        """Tell the truth from now on."""
        self.lies.clear()

    async def handle(self, client: SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with client:
                await self._answer(client)

    async def _answer(self, client: SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await client.receive(_PIECE)
        head, _, rest = data.partition(b"\r\n\r\n")
        exchange = Exchange(self, client, head, rest)
        self.calls[exchange.route or "other"] += 1
        exchange.number = self.calls[exchange.route or "other"]
        for lie in self.lies:
            if lie.route == exchange.route and lie.holds(exchange.number):
                lie.told += 1
                self.told += 1
                self.first_told = self.first_told or anyio.current_time()
                self.lied.set()
                try:
                    await lie.play(exchange)
                finally:
                    self.last_ended = anyio.current_time()
                return
        await exchange.pass_through()

    async def count_trapped(self, client: SocketStream) -> None:
        self.trapped += 1
        await client.aclose()


@asynccontextmanager
async def open_hostile(target: str, lies: Callable[[str], list[Lie]]) -> AsyncIterator[Hostile]:
    """In front of ``target`` (``http://host:port``); ``lies`` makes the plan, given the address of the trap."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        await anyio.create_tcp_listener(local_host="127.0.0.1") as trap,
        anyio.create_task_group() as tasks,
    ):
        origin, elsewhere = (f"http://127.0.0.1:{each.extra(SocketAttribute.local_port)}" for each in (listener, trap))
        hostile = Hostile(target, origin, elsewhere, lies(elsewhere))
        tasks.start_soon(listener.serve, hostile.handle)
        tasks.start_soon(trap.serve, hostile.count_trapped)
        yield hostile
        tasks.cancel_scope.cancel()


def _route(head: bytes) -> Route | None:
    line, _, headers = head.decode("latin-1").partition("\r\n")
    text = f"{line}\n{headers.lower()}\r"
    return next((route for route, pattern in _PATTERNS if pattern.match(text)), None)


async def _received(stream: SocketStream) -> AsyncIterator[bytes]:
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            yield await stream.receive(_PIECE)


def _dechunked(body: bytes) -> bytes:
    whole = bytearray()
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        whole += body[:length]
        body = body[length + 2 :]
        if not length:
            break
    return bytes(whole)


# Lies


def instead(answer: Answer, *, acted: bool = False) -> Play:
    """Another answer; ``acted``: the service does what was asked for all the same."""

    async def play(exchange: Exchange) -> None:
        await (exchange.true_answer() if acted else exchange.swallow())
        await exchange.send(answer.encode())

    return play


def changed(change: Callable[[Answer], Answer]) -> Play:
    """The true answer, changed."""

    async def play(exchange: Exchange) -> None:
        await exchange.send(change(await exchange.true_answer()).encode())

    return play


def header(name: str, value: str | None) -> Play:
    """The true answer with another value of a header, or without it."""
    return changed(lambda answer: answer.changed(name, value))


def body(change: Callable[[bytes], bytes]) -> Play:
    """The true answer with another body."""
    return changed(lambda answer: Answer(answer.status, answer.headers, change(answer.body)))


def encoded(how: Literal["gzip", "deflate", "br", "cut gzip", "no gzip"]) -> Play:
    """The true answer in an encoding that was not asked for, or said to be."""

    def change(answer: Answer) -> Answer:
        match how:
            case "deflate":
                data = zlib.compress(answer.body)
            case "br" | "no gzip":
                data = answer.body
            case "gzip":
                data = gzip.compress(answer.body)
            case "cut gzip":
                data = gzip.compress(answer.body)[:-6]
        name = how.rpartition(" ")[2]
        return Answer(answer.status, answer.headers, data).changed("content-encoding", name)

    return changed(change)


def raw(data: bytes, *, hold: bool = False) -> Play:
    """Any bytes in place of an answer; then the end, or with ``hold`` nothing more."""

    async def play(exchange: Exchange) -> None:
        await exchange.swallow()
        await exchange.send(data)
        if hold:
            await exchange.silence()

    return play


def drip(what: Literal["body", "headers", "informational", "chunks"], pause: float, *, acted: bool = False) -> Play:
    """A byte, or a line, at a time, for longer than anybody waits."""

    async def play(exchange: Exchange) -> None:
        await (exchange.true_answer() if acted else exchange.swallow())
        match what:
            case "body":
                await exchange.send(Answer(body=bytes(10**6)).head())
                await exchange.drip(b" " * 10**6, pause)
            case "headers":
                await exchange.send(b"HTTP/1.1 200 So\r\nx-header: ")
                await exchange.drip(b"y" * 10**6, pause)
            case "informational":
                while True:
                    await exchange.send(b"HTTP/1.1 102 Wait\r\n\r\n")
                    await anyio.sleep(pause)
            case "chunks":
                await exchange.send(Answer(headers=[("transfer-encoding", "chunked")]).head(length=False))
                while True:
                    await exchange.send(b"1;extension=y\r\n \r\n")
                    await anyio.sleep(pause)

    return play


def endless(what: Literal["body", "headers", "header", "informational", "chunks", "gzip"]) -> Play:
    """As fast as the client takes it."""

    async def play(exchange: Exchange) -> None:
        await exchange.swallow()
        chunked = Answer(headers=[("transfer-encoding", "chunked")])
        match what:
            case "body":
                await exchange.send(Answer(headers=[("content-length", str(10**15))]).head())
                piece = b" " * _PIECE
            case "headers":
                await exchange.send(b"HTTP/1.1 200 So\r\n")
                piece = b"x-header: y\r\n" * 1000
            case "header":
                await exchange.send(b"HTTP/1.1 200 So\r\nx-header: ")
                piece = b"y" * _PIECE
            case "informational":
                piece = b"HTTP/1.1 102 Wait\r\n\r\n" * 100
            case "chunks":
                await exchange.send(chunked.head(length=False))
                piece = b"%x\r\n%b\r\n" % (_PIECE, b" " * _PIECE)
            case "gzip":
                await exchange.send(chunked.changed("content-encoding", "gzip").head(length=False))
                bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
                data = bomb.compress(bytes(10**8)) + bomb.flush(zlib.Z_SYNC_FLUSH)
                piece = b"%x\r\n%b\r\n" % (len(data), data)
        while True:
            await exchange.send(piece)

    return play


async def hang(exchange: Exchange) -> None:
    """No answer, and the connection stays."""
    await exchange.silence()


async def hang_up(exchange: Exchange) -> None:
    """No answer, and the connection ends."""
    await exchange.swallow()


async def hang_up_acted(exchange: Exchange) -> None:
    """As ``hang_up``, after the service has done what was asked for."""
    await exchange.true_answer()
