"""TLS in front of a service that has none, by a certificate made for the moment."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PIECE = 1 << 18


def certify(directory: Path) -> Path:
    """A certificate for this machine, and its key, in one file, which serves as the authority as well."""
    file = directory / "certificate.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", file, "-out", file.with_suffix(".crt")], check=True, capture_output=True)
    with file.open("ab") as both:
        both.write(file.with_suffix(".crt").read_bytes())
    return file


@contextlib.contextmanager
def open_relay(origin: str, certificate: Path) -> Iterator[str]:
    """The address where ``origin`` speaks TLS: a thread for each connection, and nothing held back."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    target = urlsplit(origin)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, context, (target.hostname, target.port)), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def _serve(listener: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed
            return
        threading.Thread(target=_relay, args=(client, context, target), daemon=True).start()


def _relay(client: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    with (
        contextlib.suppress(OSError),
        client,
        socket.create_connection(target) as service,
        context.wrap_socket(client, server_side=True) as wire,
    ):
        buffer = memoryview(bytearray(_PIECE))
        while True:
            ready = [wire] if wire.pending() else select.select([wire, service], [], [])[0]
            if wire in ready:
                if not (count := wire.recv_into(buffer)):
                    return
                service.sendall(buffer[:count])
            elif answer := service.recv(_PIECE):
                # The service does not know that it is asked by TLS; a header may be longer than it was.
                wire.sendall(answer.replace(b"-URL: http:", b"-URL: https:"))
            else:
                return
