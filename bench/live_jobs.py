"""A run with ever more jobs that live at the service at once: ``python bench/live_jobs.py --jobs 1000 10000``.

A local service in a process of its own never ends a job, since its backend gives no answer. A first client makes
the jobs, of one line each, and ends; a second one is started on its state directory. Told of the second one: the
seconds from the start of its process to its first request, its requests until it has seen all jobs, how long these
took, and what it needed until then. Requests are counted by a server in front of the service, which passes them on. A
line of JSON a row, then a table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import anyio
from aiohttp import web

import packtrain
from packtrain import Limits, Options, Service
from trials import MB, local_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINE = '{"key":"%d","request":{"contents":[{"parts":[{"text":"hello"}]}]}}\n'


async def silence(request: object, task: str, model: str) -> None:
    """The backend of the service."""
    await anyio.sleep_forever()


class Front:
    """Passes requests on to ``target``, and counts them until the list of jobs has been read to its end."""

    def __init__(self, target: str, session: aiohttp.ClientSession) -> None:
        self._target = target
        self._session = session
        self.watch()

    def watch(self) -> None:
        self.came: list[float] = []
        self.passed = anyio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        if not self.passed.is_set():
            self.came.append(time.perf_counter())
        headers = {**request.headers, "Host": request.host}
        url = self._target + request.raw_path
        async with self._session.request(request.method, url, headers=headers, data=await request.read()) as found:
            body = await found.read()
        if request.path == "/v1beta/batches" and not json.loads(body).get("nextPageToken"):
            self.passed.set()
        kept = {name: value for name, value in found.headers.items() if name not in ("Date", "Server")}
        return web.Response(status=found.status, headers=kept, body=body)


@contextlib.asynccontextmanager
async def open_front(target: str) -> AsyncIterator[tuple[Front, str]]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        front = Front(target, session)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", front.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield front, f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def client(directory: Path, origin: str, jobs: int, *, wait: bool) -> None:
    limits = Limits(shard_bytes=MB, shard_requests=1, live_jobs=jobs, stored_bytes=jobs * MB)
    service = Service(origin=origin, limits=limits, poll=(1.0, 1.0))
    async with packtrain.open_client(directory / "state", service=service, options=Options()) as opened:
        await opened.run(directory / "in.jsonl", model="m", out=directory / "out.jsonl", wait=wait)


async def measure(directory: Path, jobs: int) -> dict[str, float]:
    (directory / "in.jsonl").write_text("".join(LINE % number for number in range(jobs)))
    command = [sys.executable, __file__, "--client", str(directory), "--jobs", str(jobs)]
    with local_service(directory / "service", "--backend", "live_jobs:silence") as target:
        async with open_front(target) as (front, origin):
            began = time.perf_counter()
            await anyio.run_process([*command, "--origin", origin, "--submit"], stdout=None, stderr=None)
            made = time.perf_counter() - began
            front.watch()
            began = time.perf_counter()
            async with await anyio.open_process([*command, "--origin", origin], stdout=None, stderr=None) as process:
                await front.passed.wait()
                needed = needs(process.pid)
                process.kill()
    return {
        "jobs": jobs,
        "jobs made a second": round(jobs / made),
        "s to the first request": round(front.came[0] - began, 2),
        "requests of a pass": len(front.came),
        "s of a pass": round(front.came[-1] - front.came[0], 2),
        **needed,
    }


def needs(pid: int) -> dict[str, float]:
    """What a process has needed so far."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "CPU s": round(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), 2),
        "peak MB": round(int(status.split("VmHWM:")[1].split()[0]) * 1024 / MB),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--client", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--origin", help=argparse.SUPPRESS)
    parser.add_argument("--submit", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        anyio.run(lambda: client(given.client, given.origin, given.jobs[0], wait=not given.submit))
        return
    rows = []
    for jobs in given.jobs:
        with tempfile.TemporaryDirectory() as name:
            rows.append(anyio.run(measure, Path(name), jobs))
        print(json.dumps({"bench": "live jobs"} | rows[-1]), flush=True)
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{figure:,}" for figure in row.values()) + " |")


if __name__ == "__main__":
    main()
