"""A proxy that tunnels, and a batch service with https behind it, at a name that only the proxy knows."""

from __future__ import annotations

import datetime
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import packtrain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from anyio.abc import ByteStream, SocketStream

#: As long as ``http://127.0.0.1:54321``, so that one takes the place of the other in an answer.
HOST = "batch1.example"


class ConnectProxy:
    """Tunnels to ``port`` of this machine, whatever host is asked for, or answers ``refusal``."""

    def __init__(self, port: int = 0, refusal: bytes | None = None) -> None:
        self.port = port
        self.refusal = refusal
        self.heads: list[bytes] = []

    async def handle(self, client: SocketStream) -> None:
        async with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await client.receive()
            self.heads.append(head)
            if self.refusal is not None:
                await client.send(self.refusal)
                return
            async with await anyio.connect_tcp("127.0.0.1", self.port) as server:
                await client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _relay(client, server)


@asynccontextmanager
async def open_connect_proxy(proxy: ConnectProxy) -> AsyncIterator[str]:
    """Its host and port."""
    async with _listening(proxy.handle) as port:
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def open_https_service(directory: Path) -> AsyncIterator[int]:
    """The port of a service that takes itself for ``https://HOST``; ``directory`` gets its certificate, ``ca.pem``."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_make_certificate(directory))
    async with packtrain.serving(directory / "service") as origin:
        name = origin.removeprefix("http://").encode()

        async def handle(client: ByteStream) -> None:
            async with client, await anyio.connect_tcp("127.0.0.1", int(name.rpartition(b":")[2])) as server:
                await _relay(
                    client,
                    server,
                    lambda data: data.replace(b"Host: " + HOST.encode(), b"Host: " + name),
                    lambda data: data.replace(origin.encode(), b"https://" + HOST.encode()),
                )

        async with _listening(handle, context) as port:
            yield port


@asynccontextmanager
async def _listening(
    handle: Callable[..., Awaitable[None]], context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    async def each(client: ByteStream) -> None:
        try:
            await handle(client)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError, OSError):
            return  # the other side has gone

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener = plain if context is None else TLSListener(plain, context, standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, each)
        yield plain.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def _relay(
    one: ByteStream,
    other: ByteStream,
    forth: Callable[[bytes], bytes] = bytes,
    back: Callable[[bytes], bytes] = bytes,
) -> None:
    async def pass_on(source: ByteStream, sink: ByteStream, change: Callable[[bytes], bytes]) -> None:
        try:
            async for data in source:
                await sink.send(change(data))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError):
            pass
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pass_on, one, other, forth)
        tasks.start_soon(pass_on, other, one, back)


def _make_certificate(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    (directory / "ca.pem").write_bytes(public)
    both = directory / "both.pem"
    both.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + public
    )
    return both
