"""A run with ever more jobs that live at the service at once: ``python bench/live_jobs.py --jobs 1000 10000``.

A local service in a process of its own never ends a job, since its backend gives no answer. A first client makes
the jobs, of one line each, and ends; a second one is started on its state directory. Told of the second one: the
seconds from the start of its process until its first request is answered, its requests until it has seen all jobs, how
long these took, and what it needed until then. A line of JSON a row, then a table.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

import packtrain
from packtrain import Limits, Options, Service
from trials import MB, local_service, tell

if TYPE_CHECKING:
    from aiohttp import web

LINE = '{"key":"%d","request":{"contents":[{"parts":[{"text":"hello"}]}]}}\n'


async def silence(request: object, task: str, model: str) -> None:
    """The backend of the service."""
    await anyio.sleep_forever()


class Watch:
    """When requests were answered, until the list of jobs had been read to its end."""

    def __init__(self) -> None:
        self.answered: list[float] = []
        self.passed = anyio.Event()

    async def look(self, request: web.Request, answer: web.Response) -> web.Response:
        if not self.passed.is_set():
            self.answered.append(time.perf_counter())
        if request.path == "/v1beta/batches" and "nextPageToken" not in (answer.text or ""):
            self.passed.set()
        return answer


async def client(directory: Path, origin: str, jobs: int, *, wait: bool) -> None:
    limits = Limits(shard_bytes=MB, shard_requests=1, live_jobs=jobs, stored_bytes=jobs * MB)
    service = Service(origin=origin, limits=limits, poll=(1.0, 1.0))
    async with packtrain.open_client(directory / "state", service=service, options=Options()) as opened:
        await opened.run(directory / "in.jsonl", model="m", out=directory / "out.jsonl", wait=wait)


async def measure(directory: Path, jobs: int) -> dict[str, float]:
    from front import open_front  # the clients, which are timed, need no server

    (directory / "in.jsonl").write_text("".join(LINE % number for number in range(jobs)))
    command = [sys.executable, __file__, "--client", str(directory), "--jobs", str(jobs), "--origin"]
    watch = Watch()
    with local_service(directory / "service", "--backend", "live_jobs:silence") as target:
        async with open_front(target, lambda request, answer: watch.look(request, answer)) as origin:
            began = time.perf_counter()
            await anyio.run_process([*command, origin, "--submit"], stdout=None, stderr=None)
            made = time.perf_counter() - began
            watch = Watch()
            began = time.perf_counter()
            async with await anyio.open_process([*command, origin], stdout=None, stderr=None) as process:
                await watch.passed.wait()
                needed = needs(process.pid)
                process.kill()
    return {
        "jobs": jobs,
        "jobs made a second": round(jobs / made),
        "s to the first answer": round(watch.answered[0] - began, 2),
        "requests of a pass": len(watch.answered),
        "s of a pass": round(watch.answered[-1] - watch.answered[0], 2),
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
    tell("live jobs", (row(jobs) for jobs in given.jobs))


def row(jobs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        return anyio.run(measure, Path(name), jobs)


if __name__ == "__main__":
    main()
