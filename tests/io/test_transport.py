"""Where the key goes, what is followed, and what counts as sent."""

from __future__ import annotations

import contextlib
import gzip
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from anyio.abc import SocketAttribute

from packtrain._errors import InputError, ProtocolError, TransportError
from packtrain._io.transport import FileRange, checked_url, open_transport
from packtrain._model import Secret
from packtrain._options import MAX_REPLY_BYTES, MIB, Policy
from packtrain._providers.service import Service
from packtrain._wire.http import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream

    from packtrain._io.transport import Transport

pytestmark = pytest.mark.both_loops

KEY = "sentinel-key"


class Echo:
    """A server that keeps what it was sent, and answers as it is told."""

    def __init__(self) -> None:
        self.seen: list[web.Request] = []
        self.hang_up = False
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if request.path == "/drip":
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(b" ")
                    await anyio.sleep(0.01)
        if self.hang_up and request.transport is not None:
            request.transport.abort()
        if request.path == "/endless":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(MAX_REPLY_BYTES // MIB + 1):
                await response.write(bytes(MIB))
            return response
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def speaking(policy: Policy | None = None) -> AsyncIterator[tuple[Transport, Echo, str]]:
    echo = Echo()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo.handle)
    async with TestServer(app) as server:
        origin = str(server.make_url("")).rstrip("/")
        keys = {"x-goog-api-key": Secret(KEY)}
        async with open_transport(origin, credentials=keys, connections=2, policy=policy) as transport:
            yield transport, echo, origin


async def test_the_key_goes_to_paths_below_the_origin_and_in_a_header() -> None:
    """Never into the address."""
    async with speaking() as (transport, echo, _):
        await transport.send(Call(name="x", operation="x", method="GET", target="/v1beta/files/x"))
        assert echo.seen[0].headers["x-goog-api-key"] == KEY
        assert KEY not in str(echo.seen[0].rel_url)


async def test_the_key_does_not_go_to_an_address_that_the_service_gave() -> None:
    """An upload session is authorised by its address alone."""
    async with speaking() as (transport, echo, origin):
        await transport.send(Call(name="x", operation="x", method="POST", target=f"{origin}/upload?upload_id=1"))
        assert KEY not in str(dict(echo.seen[0].headers))


async def test_a_post_without_a_body_says_that_it_has_none() -> None:
    """Front ends answer 411 to a POST that tells no length."""
    async with speaking() as (transport, echo, _):
        await transport.send(Call(name="x", operation="x", method="POST", target="/v1beta/batches/1:cancel"))
        assert echo.seen[0].headers["Content-Length"] == "0"


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """Wherever it leads."""
    async with speaking() as (transport, echo, origin):
        echo.status, echo.headers = 307, {"Location": f"{origin}/elsewhere"}
        reply = await transport.send(Call(name="x", operation="x", method="POST", target="/v1beta/batches", body=b"x"))
        assert reply.status == 307
        assert len(echo.seen) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2:80/upload",
        "https://127.0.0.1:80/upload",
        "http://127.0.0.1:81/upload",
        "http://user@127.0.0.1:80/upload",
        "http://127.0.0.1:80/" + "x" * 5000,
        "http://127.0.0.1:80/a\r\nHost: b",
        "file:///etc/passwd",
        "//127.0.0.1:80/upload",
        "http://[bad",
        "http://127.0.0.1:80 /upload",
        "http://127.0.0.1:99999/upload",
        "http://127.0.0.1:80\\@elsewhere/upload",
        "http://127.0.0.1:80@elsewhere/upload",
        "",
    ],
)
def test_an_upload_address_elsewhere_is_refused(url: str) -> None:
    """Another host, port or scheme, a user name, control characters, or no end to it."""
    with pytest.raises(ProtocolError):
        checked_url(url, "http://127.0.0.1:80")


async def test_an_answer_without_end_is_refused() -> None:
    """Control messages are short."""
    async with speaking() as (transport, _, _):
        with pytest.raises(ProtocolError, match="more than"):
            await transport.send(Call(name="x", operation="x", method="GET", target="/endless"))


async def test_a_refused_connection_counts_as_not_sent() -> None:
    """Not one byte left, so that a create may be sent again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with open_transport(f"http://127.0.0.1:{port}", credentials={}, connections=1) as transport:
            with pytest.raises(TransportError) as caught:
                await transport.send(Call(name="x", operation="x", method="POST", target="/x", body=b"x"), once=True)
    assert caught.value.sent is False
    assert f"127.0.0.1:{port} cannot be reached" in str(caught.value)


async def test_a_connection_that_ends_without_an_answer_counts_as_sent() -> None:
    """The request may have been acted upon."""
    async with speaking() as (transport, echo, _):
        echo.hang_up = True
        with pytest.raises(TransportError) as caught:
            await transport.send(Call(name="x", operation="x", method="POST", target="/x", body=b"x"), once=True)
    assert caught.value.sent is True


async def test_a_create_that_is_given_up_ends_in_a_reset() -> None:
    """What is still in the buffers of this machine dies with it, instead of reaching the service later."""
    ends: list[BaseException] = []
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        origin = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        async with open_transport(origin, credentials={}, connections=1) as transport:

            async def serve(stream: SocketStream) -> None:
                async with stream:
                    await stream.receive(1)
                    sending.cancel()
                    try:
                        while True:
                            await stream.receive()
                    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
                        ends.append(error)
                tasks.cancel_scope.cancel()

            tasks.start_soon(listener.serve, serve)
            with anyio.CancelScope() as sending:
                await transport.send(Call(name="x", operation="x", method="POST", target="/x", body=b"x"), once=True)
            await anyio.sleep_forever()
    assert [type(end) for end in ends] == [anyio.BrokenResourceError]


@pytest.mark.parametrize("origin", ["http://example.com", "ftp://127.0.0.1", "https://h/path", "https://u:p@h", "h"])
def test_a_service_address_is_an_origin_and_encrypted_unless_it_is_this_machine(origin: str) -> None:
    """The key would travel in the clear."""
    with pytest.raises(InputError):
        Service(origin=origin)


@pytest.mark.parametrize("origin", [f"https://{KEY}@h", f"https://h?key={KEY}", f"http://u:{KEY}@h/path#x"])
def test_an_address_with_a_secret_in_it_is_refused_without_quoting_it(origin: str) -> None:
    """The message may end up in a log."""
    with pytest.raises(InputError) as caught:
        Service(origin=origin)
    assert KEY not in str(caught.value)


def test_a_secret_does_not_show_itself() -> None:
    """Neither in text, nor in a service that holds it."""
    secret = Secret(KEY)
    shown = f"{secret} {secret!r} {secret!s} {Service(origin='https://h', key=secret)}"
    assert KEY not in shown
    assert secret.reveal() == KEY


async def test_a_body_that_the_peer_does_not_read_ends_in_an_error() -> None:
    """Otherwise a peer that keeps the connection and reads nothing would hold the upload for ever."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        origin = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        body = FileRange(lambda _, length: bytes(length), 0, 64 * MIB, sent=lambda _: None, timeout=0.1)
        async with open_transport(origin, credentials={}, connections=1) as transport:
            with anyio.fail_after(100), pytest.raises(TransportError, match="broke before"):
                await transport.send(Call(name="x", operation="x", method="POST", target="/x"), body)


async def test_a10_an_answer_that_drips_is_given_up_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """Each byte comes in time, and the answer never ends."""
    async with speaking(Policy(read_timeout=0.3, notice_after=0.1)) as (transport, _, _):
        with anyio.fail_after(30), pytest.raises(TransportError, match=r"list of jobs: .* answered 200, but the rest"):
            await transport.send(Call(name="x", operation="list of jobs", method="GET", target="/drip"))
    assert "waiting for up to" in caplog.text


async def test_b10_an_answer_that_a_proxy_has_compressed_is_decoded() -> None:
    """With the same bounds as any other; an encoding that is unknown is named."""
    async with speaking() as (transport, echo, _):
        call = Call(name="x", operation="x", method="GET", target="/")
        echo.headers, echo.body = {"Content-Encoding": "gzip"}, gzip.compress(b"{}" * 10**6)
        assert (await transport.send(call)).body == b"{}" * 10**6
        echo.body = gzip.compress(bytes(MAX_REPLY_BYTES + 1))
        with pytest.raises(ProtocolError, match="more than"):
            await transport.send(call)
        echo.headers = {"Content-Encoding": "br"}
        with pytest.raises(TransportError, match="content encoding 'br'"):
            await transport.send(call)


async def test_b14_headers_of_64_kb_are_taken_and_longer_ones_named() -> None:
    """Proxies add them."""
    async with speaking() as (transport, echo, _):
        call = Call(name="x", operation="x", method="GET", target="/")
        echo.headers = {"X-Long": "y" * 65_000}
        assert (await transport.send(call)).status == 200
        echo.headers = {"X-Long": "y" * 66_000}
        with pytest.raises(TransportError, match="longer than 65536 bytes"):
            await transport.send(call)
