"""Uploads into the local service, beside curl and google-genai, on loopback and through a slow, bad network.

    python bench/upload.py loopback --files 1 --megabytes 1000
    python bench/upload.py tls --files 1 --megabytes 1000
    python bench/upload.py far --files 1 --megabytes 1000        # 50 ms round trip
    python bench/upload.py resets --files 64 --megabytes 32      # 5 of 100 connections reset
    python bench/upload.py loopback --files 16 --megabytes 64 --uploads 1 2 4 8 --rivals "packtrain, uvloop"

Each rival is a process that loads what it needs, and then takes the time from its first call to its last answer;
``packtrain upload`` is the whole command, start included. curl sends to an upload session of its own, all files
at once; google-genai and packtrain send four side by side, or as many as ``--uploads`` says, packtrain with data
calls of ``--chunks`` MiB. What the service holds is compared by SHA-256 after each run, and deleted. The network is a
TCP proxy in this process: bytes come out 25 ms after they went in, each way; connecting costs nothing, which favours
those who connect often. In ``resets`` a connection breaks at a random byte of a file's length; bytes that left the
client beyond the files themselves were sent again. In ``tls`` a relay in this process takes the encryption off. Prints
a JSON line a run, then a table of medians.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import anyio.from_thread
import msgspec
from msgspec import Struct

import packtrain
from packtrain._wire.gemini.files import decode_hash
from packtrain.testing.proxy import Proxy, open_proxy
from tls import certify, open_relay
from trials import MB, Rival, Trial, compete, local_service, table

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where the clients look for a certificate to trust.
_TRUSTED = ("SSL_CERT_FILE", "CURL_CA_BUNDLE")
Client = Callable[[str, list[Path], packtrain.Options], Callable[[], object]]


def curl(origin: str, files: list[Path], _: packtrain.Options) -> Callable[[], object]:
    command = ["curl", "-sSf", "-X", "POST", "-H", "X-Goog-Upload-Command: upload, finalize"]
    command += ["-H", "X-Goog-Upload-Offset: 0", "-o", os.devnull, "-T"]

    def work() -> None:
        running = [subprocess.Popen([*command, str(file), _session(origin, file)]) for file in files]
        if sum(process.wait() for process in running):
            raise RuntimeError("curl failed")

    return work


def _session(origin: str, file: Path) -> str:
    way = urlsplit(origin)
    connection = (HTTPSConnection if way.scheme == "https" else HTTPConnection)(way.netloc)
    with contextlib.closing(connection):
        size = str(file.stat().st_size)
        headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
        headers |= {"X-Goog-Upload-Header-Content-Length": size, "x-goog-api-key": "none-needed"}
        connection.request("POST", "/upload/v1beta/files", b"{}", headers)
        return str(connection.getresponse().headers["X-Goog-Upload-URL"])


def genai(origin: str, files: list[Path], options: packtrain.Options) -> Callable[[], object]:
    from google import genai  # only where it is measured

    client = genai.Client(api_key="none-needed", http_options=genai.types.HttpOptions(base_url=origin))

    def send(file: Path) -> object:
        return client.files.upload(file=file, config={"mime_type": "application/jsonl"})

    def work() -> None:
        with ThreadPoolExecutor(options.uploads) as threads:
            list(threads.map(send, files))

    return work


def library(
    origin: str, files: list[Path], options: packtrain.Options, *, use_uvloop: bool = False
) -> Callable[[], object]:
    upload, service = packtrain.upload, packtrain.Service(origin=origin)

    async def send() -> None:
        await upload(files, service=service, options=options)

    return lambda: anyio.run(send, backend_options={"use_uvloop": use_uvloop})


CLIENTS: dict[str, Client] = {
    "curl -T": curl,
    "google-genai": genai,
    "packtrain, asyncio": library,
    "packtrain, uvloop": partial(library, use_uvloop=True),
}


def be_client(name: str, origin: str, options: str, *files: str) -> None:
    work = CLIENTS[name](origin, list(map(Path, files)), msgspec.json.decode(options, type=packtrain.Options))
    began, busy = time.perf_counter(), _cpu()
    work()
    seconds, busy = time.perf_counter() - began, _cpu() - busy
    print(json.dumps({"upload_seconds": round(seconds, 3), "upload_cpu_seconds": round(busy, 3)}))


def _cpu() -> float:
    """Of this process and those that it started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Network(Struct, frozen=True):
    """The way of the clients to the service."""

    origin: str
    proxy: Proxy | None = None
    env: dict[str, str] | None = None


class Bench:
    """One kind of network in front of the service at ``origin``."""

    def __init__(self, kind: str, directory: Path, origin: str, network: Network, files: list[Path]) -> None:
        self.kind = kind
        self.directory = directory
        self.origin = origin
        self.network = network
        self.proxy = network.proxy
        self.files = files
        self.size = sum(file.stat().st_size for file in files)
        self.digests = sorted(map(_sha256, files))
        self._before = 0, 0

    def run(self, names: list[str], settings: list[packtrain.Options], rounds: int) -> list[Trial]:
        rivals = [self._rival(name, options) for name in names for options in settings]
        bench = f"upload {self.kind}" + (", settings" if len(settings) > 1 else "")
        trials = compete(bench, rivals, size=self.size, rounds=rounds, directory=self.directory)
        return [_uploading(trial) for trial in trials]

    def _rival(self, name: str, options: packtrain.Options) -> Rival:
        files, way = [str(file) for file in self.files], self.network.origin
        if name in CLIENTS:
            command = [sys.executable, __file__, "--client", name, way, msgspec.json.encode(options).decode(), *files]
        else:
            command = [sys.executable, "-m", "packtrain", "upload", *files, "--service", way, "--wire", "gemini"]
            command += ["--uploads", str(options.uploads)]
        return Rival(
            name=name if options == packtrain.Options() else f"{name}, {_told(options)}",
            command=command,
            prepare=self._prepare,
            check=self._check,
            env=self.network.env,
        )

    def _prepare(self) -> None:
        if self.proxy:
            self._before = self.proxy.bytes_sent, self.proxy.cuts

    def _check(self) -> dict[str, int | float | str]:
        facts: dict[str, int | float | str] = {}
        said = (self.directory / "said.txt").read_text().splitlines()[-1]
        if said.startswith("{"):
            facts |= json.loads(said)
        if self.proxy:
            again = self.proxy.bytes_sent - self._before[0] - self.size
            facts |= {
                "sent_again_percent": round(100 * again / self.size, 3),
                "resets": self.proxy.cuts - self._before[1],
            }
        held = self._asked("GET", "/v1beta/files?pageSize=100")["files"]
        for file in held:
            self._asked("DELETE", f"/v1beta/{file['name']}")
        if sorted(decode_hash(file["sha256Hash"]) or "" for file in held) != self.digests:
            raise RuntimeError("the service holds other files than were sent")
        return facts

    def _asked(self, method: str, path: str) -> dict[str, list[dict[str, str]]]:
        request = urllib.request.Request(self.origin + path, method=method, headers={"x-goog-api-key": "none-needed"})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own service
            found: dict[str, list[dict[str, str]]] = json.loads(answer.read())
            return found


def _told(options: packtrain.Options) -> str:
    return f"{options.uploads} at once, {options.chunk_bytes >> 20} MiB a call"


def _uploading(trial: Trial) -> Trial:
    """Without what the process needed to load."""
    if "upload_seconds" not in trial.facts:
        return trial
    seconds, cpu = float(trial.facts["upload_seconds"]), float(trial.facts["upload_cpu_seconds"])
    return msgspec.structs.replace(trial, seconds=seconds, cpu_seconds=cpu)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _network(kind: str, origin: str, size: int, seed: int, directory: Path) -> Iterator[Network]:
    """Reset: 5 connections of 100, each at a random byte of a file's length."""
    chance = random.Random(seed)

    def budget() -> int | None:
        return chance.randrange(size) if kind == "resets" and chance.random() < 0.05 else None

    if kind == "loopback":
        yield Network(origin)
    elif kind == "tls":
        certificate = certify(directory)
        with open_relay(origin, certificate) as relayed:
            yield Network(relayed, env=os.environ | dict.fromkeys(_TRUSTED, str(certificate)))
    else:
        with (
            anyio.from_thread.start_blocking_portal(backend_options={"use_uvloop": True}) as portal,
            portal.wrap_async_context_manager(open_proxy(origin, budget=budget, delay=0.025)) as proxy,
        ):
            yield Network(proxy.origin, proxy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("loopback", "tls", "far", "resets"))
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--megabytes", type=int, default=1000, help="of each file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--rivals", nargs="+", help="all, of which in resets only packtrain's come to an end")
    parser.add_argument("--uploads", type=int, nargs="+", default=[packtrain.Options().uploads], help="side by side")
    parser.add_argument("--chunks", type=int, nargs="+", default=[packtrain.Options().chunk_bytes >> 20], help="in MiB")
    parser.add_argument("--directory", type=Path, help="for the files, and for the service's")
    chosen = parser.parse_args()
    every = [*CLIENTS, "packtrain upload"]
    names = chosen.rivals or [name for name in every if chosen.network != "resets" or "packtrain" in name]
    settings = [packtrain.Options(uploads=n, chunk_bytes=size << 20) for n in chosen.uploads for size in chosen.chunks]
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        directory, files = Path(name), []
        for number in range(chosen.files):
            file = directory / f"{number}.jsonl"
            with file.open("wb") as content:
                content.writelines(itertools.repeat(random.Random(number).randbytes(MB), chosen.megabytes))
            files.append(file)
        with (
            local_service(directory / "service") as origin,
            _network(chosen.network, origin, chosen.megabytes * MB, chosen.seed, directory) as network,
        ):
            bench = Bench(chosen.network, directory, origin, network, files)
            trials = bench.run(names, settings, chosen.rounds)
    print(f"\n{table(trials, against=trials[0].rival)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--client"]:
        be_client(*sys.argv[2:])
    else:
        main()
