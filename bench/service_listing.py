"""A local service that holds many files and jobs: how long a page of a list takes, and how much memory it needs.

    python bench/service_listing.py --files 100000 --jobs 10000

Everything is made through the service's own HTTP interface, and every job is run to its end. Then all pages of both
lists are read, some times over, by one client, and single files and jobs at random. Prints one JSON line a figure,
milliseconds as p50, p99 and most, and the resident memory of the service.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from aiohttp import ClientSession, TCPConnector

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLIENTS = 32
LINE = b'{"key": "k", "request": {"contents": [{"parts": [{"text": "hello"}]}]}}\n'
UPLOAD = {"X-Goog-Upload-Protocol": "raw", "Content-Type": "application/jsonl"}


class Service:
    """Calls to a running one."""

    def __init__(self, session: ClientSession, origin: str, pid: int) -> None:
        self._session = session
        self._origin = origin
        self._pid = pid

    async def call(self, method: str, path: str, **options: Any) -> Any:
        async with self._session.request(method, self._origin + path, **options) as response:
            answer = await response.json()
            if response.status != 200:
                raise RuntimeError(f"{method} {path}: {response.status} {answer}")
            return answer

    async def file(self) -> str:
        answer = await self.call("POST", "/upload/v1beta/files", data=LINE, headers=UPLOAD)
        return str(answer["file"]["name"])

    async def job(self, file: str) -> str:
        job = {"displayName": "one of many", "inputConfig": {"fileName": file}}
        answer = await self.call("POST", "/v1beta/models/m:batchGenerateContent", json={"batch": job})
        return str(answer["name"])

    async def pages(self, path: str, member: str, size: int) -> tuple[list[float], list[str]]:
        """Milliseconds of each page, and the names of all that is listed."""
        times, names, token = list[float](), list[str](), ""
        while True:
            began = time.perf_counter()
            page = await self.call("GET", path, params={"pageSize": str(size), "pageToken": token})
            times.append((time.perf_counter() - began) * 1000)
            names += [item["name"] for item in page.get(member, [])]
            token = page.get("nextPageToken", "")
            if not token:
                return times, names

    def resident_mb(self) -> int:
        status = Path(f"/proc/{self._pid}/status").read_text()
        return round(int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6)


async def fill(count: int, make: Callable[[], Awaitable[str]]) -> float:
    """Seconds."""
    began, left = time.perf_counter(), iter(range(count))

    async def some() -> None:
        for _ in left:
            await make()

    async with anyio.create_task_group() as tasks:
        for _ in range(CLIENTS):
            tasks.start_soon(some)
    return time.perf_counter() - began


def tell(what: str, **figures: object) -> None:
    print(json.dumps({"what": what} | figures), flush=True)


def show(what: str, times: list[float], **more: object) -> None:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    figures = {"n": len(times), "p50_ms": cuts[49], "p99_ms": cuts[98], "most_ms": max(times)}
    tell(what, **{name: round(figure, 2) for name, figure in figures.items()}, **more)


async def single(service: Service, names: list[str], count: int) -> list[float]:
    times = []
    for name in random.Random(0).choices(names, k=count):
        began = time.perf_counter()
        await service.call("GET", f"/v1beta/{name}")
        times.append((time.perf_counter() - began) * 1000)
    return times


async def measure(service: Service, files: int, jobs: int) -> None:
    tell("empty", resident_mb=service.resident_mb())
    seconds = await fill(files, service.file)
    tell("files made", a_second=round(files / seconds), resident_mb=service.resident_mb())
    file = await service.file()
    seconds = await fill(jobs, lambda: service.job(file))
    tell("jobs made", a_second=round(jobs / seconds), resident_mb=service.resident_mb())
    began = time.perf_counter()
    while not await newest_are_done(service):  # noqa: ASYNC110 - another process tells nobody of its jobs' ends
        await anyio.sleep(1)
    tell("jobs done after", seconds=round(time.perf_counter() - began))
    times, names = list[float](), list[str]()
    for _ in range(5):
        some, names = await service.pages("/v1beta/batches", "operations", 100)
        times += some
    show("page of 100 jobs", times, listed=len(names), resident_mb=service.resident_mb())
    show("one job", await single(service, names, 2000))
    times, names = await service.pages("/v1beta/files", "files", 100)
    show("page of 100 files", times, listed=len(names), resident_mb=service.resident_mb())
    show("one file", await single(service, names, 2000))


async def newest_are_done(service: Service) -> bool:
    """The oldest are served first."""
    page = await service.call("GET", "/v1beta/batches", params={"pageSize": "1000"})
    return all(operation.get("done") for operation in page["operations"])


async def drive(origin: str, pid: int, files: int, jobs: int) -> None:
    async with ClientSession(connector=TCPConnector(limit=CLIENTS)) as session:
        await measure(Service(session, origin, pid), files, jobs)


def main(files: int, jobs: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "packtrain", "serve", "--dir", directory, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            origin = process.stdout.readline().split()[-1]
            try:
                anyio.run(drive, origin, process.pid, files, jobs)
            finally:
                process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=10_000)
    chosen = parser.parse_args()
    main(chosen.files, chosen.jobs)
