"""Many uploads at once into the local service, beside bare sockets that take the same bytes.

    python bench/service_uploads.py --uploads 64 --megabytes 16 --rounds 5

The rivals are processes of plain blocking sockets, a thread a connection: one throws the bytes away, one stores them
(write and fsync), one stores and hashes them with SHA-256, which is what the service owes its clients. All are fed
by the same threads from the same memory, in turn, and every answer of the service is checked against the digest of
what was sent. Prints a JSON line a run, then a table of medians.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MB = 10**6
PIECE = 1 << 20
DUTIES = ("discard", "store", "store and hash")


def sink(duty: str, directory: Path, size: int) -> None:
    """Takes ``size`` bytes from each connection and answers with one byte when its duty is done, for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_take, args=(connection, duty, directory, size), daemon=True).start()


def _take(connection: socket.socket, duty: str, directory: Path, size: int) -> None:
    buffer, digest, left = memoryview(bytearray(PIECE)), hashlib.sha256(), size
    with connection, tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        while left and (count := connection.recv_into(buffer)):
            left -= count
            if duty != "discard":
                file.write(buffer[:count])
            if duty == "store and hash":
                digest.update(buffer[:count])
        if duty != "discard":
            os.fsync(file.fileno())
        connection.sendall(b".")


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[tuple[int, Callable[[], float]]]:
    """The port that it listens on, and its CPU seconds so far."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().rsplit(":", 1)[1]), lambda: _cpu(process.pid)
        finally:
            process.kill()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def feed_sink(port: int, data: bytes, _: str) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        if connection.recv(1) != b".":
            raise RuntimeError("the sink broke off")


def feed_service(port: int, data: bytes, digest: str) -> None:
    connection = HTTPConnection("127.0.0.1", port)
    with contextlib.closing(connection):
        headers = {
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(len(data)),
            "x-goog-api-key": "none-needed",
        }
        connection.request("POST", "/upload/v1beta/files", b"{}", headers)
        started = connection.getresponse()
        started.read()
        url = started.headers["X-Goog-Upload-URL"]
        headers = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
        connection.request("POST", url[url.index("/upload/") :], data, headers)
        file = json.loads(connection.getresponse().read())["file"]
    # The service sends the digest as base64 of its hexadecimal text, as the real one does.
    if base64.b64decode(file["sha256Hash"]).decode() != digest:
        raise RuntimeError(f"{file['name']}: the service has other bytes than were sent")


def measure(name: str, command: list[str], feed: Callable[[int, bytes, str], None], data: bytes, times: int) -> float:
    """MB/s, from the first connection to the last answer."""
    digest = hashlib.sha256(data).hexdigest()
    with _process(command) as (port, cpu), ThreadPoolExecutor(times) as threads:
        before = cpu()
        began = time.perf_counter()
        for done in [threads.submit(feed, port, data, digest) for _ in range(times)]:
            done.result()
        seconds = time.perf_counter() - began
        row = {"receiver": name, "seconds": round(seconds, 3), "cpu_seconds": round(cpu() - before, 2)}
    rate = len(data) * times / MB / seconds
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MB
    print(json.dumps(row | {"mb_per_second": round(rate), "peak_mb_of_any_so_far": round(peak)}), flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=64)
    parser.add_argument("--megabytes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sink", choices=DUTIES, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    size = chosen.megabytes * MB
    if chosen.sink:
        sink(chosen.sink, chosen.directory, size)
    data = random.Random(0).randbytes(size)
    rates: dict[str, list[float]] = {}
    for _ in range(chosen.rounds):
        for name in (*DUTIES, "service"):
            with tempfile.TemporaryDirectory() as directory:
                if name == "service":
                    command = [sys.executable, "-m", "packtrain", "serve", "--dir", directory, "--port", "0"]
                    rate = measure(name, command, feed_service, data, chosen.uploads)
                else:
                    command = [sys.executable, __file__, "--sink", name, "--directory", directory]
                    rate = measure(
                        name, [*command, "--megabytes", str(chosen.megabytes)], feed_sink, data, chosen.uploads
                    )
                rates.setdefault(name, []).append(rate)
    ours = statistics.median(rates["service"])
    print(f"\n{'receiver':<16} {'MB/s':>6} {'least':>6} {'most':>6}  service against it")
    for name, row in rates.items():
        middle = statistics.median(row)
        print(f"{name:<16} {middle:6.0f} {min(row):6.0f} {max(row):6.0f}  {ours / middle:.2f}")


if __name__ == "__main__":
    main()
