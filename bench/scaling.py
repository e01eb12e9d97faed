"""How a run grows with its number of jobs: ``python bench/scaling.py --jobs 1000 10000``.

The whole client, with its manifest and files in ``--directory``, against a service that lives in this program and in
virtual time: the loop's clock stands still while anything works, and leaps to the next timer when all wait. Shards are
tiny and taken for ``--shard-gb`` each, the store for one of 18 GB, the line for one of ``--megabits``; a job takes
between ``--shortest`` and ``--longest`` minutes. Tells for each number of jobs how long the run would have taken, what
it asked of the service, and what it cost here. A line of JSON a row, then a table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import resource
import selectors
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from msgspec import Struct

from packtrain._client import Client
from packtrain._flow.run import ClientContext, Meter
from packtrain._flow.shares import Shares
from packtrain._io.spool import Spool
from packtrain._manifest.sqlite import open_sqlite
from packtrain._model import FileState, JobPage, JobState, Limits, RemoteFile, RemoteJob
from packtrain._options import GB, Options
from packtrain._providers.gemini import CAPABILITIES
from packtrain._providers.service import Service
from packtrain._rules.upload import Answer
from trials import tell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from packtrain._io.request_file import ShardReader
    from packtrain._manifest.base import Manifest
    from packtrain._model import Task

START = 1.8e9
STORE_GB = 18
LINES = 2
LIVE_JOBS = 100
ROUND_TRIP = 0.05
PAGE = 100


class Busy:
    """Whether anybody works outside of the loop: worker threads, or the manifest's own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> bool:
        return self.calls > 0 or anyio.to_thread.current_default_thread_limiter().borrowed_tokens > 0


class Selector(selectors.DefaultSelector):
    """Time passes only here, and only when nobody works."""

    def __init__(self, busy: Busy) -> None:
        super().__init__()
        self.now = 0.0
        self._busy = busy

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            if self._busy():
                return super().select(None)  # whoever works wakes the loop
            if ready := super().select(0):
                return ready
            self.now += timeout
            return []
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: Selector) -> None:
        self._virtual = selector
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual.now


class VirtualClock:
    def __init__(self, seed: int) -> None:
        self.jitter = random.Random(seed).random

    def now(self) -> float:
        return START + anyio.current_time()

    def monotonic(self) -> float:
        return anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class Counted:
    """A manifest whose calls are known to ``busy`` while they last."""

    def __init__(self, manifest: Manifest, busy: Busy) -> None:
        self._manifest = manifest
        self._busy = busy

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._manifest, name)
        if not callable(verb):
            return verb

        async def call(*args: object, **kwargs: object) -> object:
            self._busy.calls += 1
            try:
                return await verb(*args, **kwargs)
            finally:
                self._busy.calls -= 1

        return call


class Job(Struct):
    name: str
    tag: str
    file: str
    made_at: float
    ends_at: float


class Download(Struct):
    content: bytes
    offset: int
    total: int | None
    etag: str | None = None
    vouched: bool = True

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self.content[self.offset :]


class SimulatedService:
    """Files, jobs and a line of limited speed; every call is counted."""

    def __init__(self, *, seconds_a_byte: float, minutes: tuple[float, float], seed: int) -> None:
        self._seconds_a_byte = seconds_a_byte
        self._minutes = minutes
        self._random = random.Random(seed)
        self._line = anyio.Lock()
        self.calls: Counter[str] = Counter()
        self.most_live = 0
        self._live = 0
        self.capabilities = CAPABILITIES
        self._sizes: dict[str, tuple[str, int]] = {}
        self._files: dict[str, bytes] = {}
        self._jobs: dict[str, Job] = {}

    @property
    def uploads(self) -> SimulatedService:
        return self

    async def start_upload(self, *, name: str, display_name: str, size: int) -> Answer:
        await self._called("start")
        self._sizes[name] = (display_name, size)
        return Answer(status=200, upload_status="active", session=f"http://127.0.0.1:1/{name}")

    async def send(self, session: str, reader: ShardReader, *, offset: int, length: int, finalize: bool) -> Answer:
        await self._called("send")
        async with self._line:
            await anyio.sleep(length * self._seconds_a_byte)
        name = session.partition(":1/")[2]
        self._files[name] = self._files.get(name, b"") + reader.read(offset, length)
        return Answer(status=200, upload_status="final" if finalize else "active", received=offset + length)

    async def query_upload(self, session: str) -> Answer:
        raise NotImplementedError(session)

    def owns(self, session: str) -> bool:
        return session.startswith("http://127.0.0.1:1/")

    def read_receipt(self, receipt: bytes) -> RemoteFile | None:
        return None

    async def find_file(self, name: str) -> RemoteFile | None:
        await self._called("find file")
        content = self._files.get(name)
        if content is None:
            return None
        return RemoteFile(
            name=name,
            state=FileState.READY,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            display_name=self._sizes[name][0],
        )

    def now(self) -> float:
        return START + anyio.current_time()

    async def delete_file(self, name: str) -> None:
        await self._called("delete file")
        self._files.pop(name, None)

    async def create(
        self, *, model: str, task: Task, tag: str, file: str, requests: ShardReader | None = None
    ) -> RemoteJob:
        await self._called("create")
        now = anyio.current_time()
        self._live += 1
        self.most_live = max(self.most_live, self._live)
        ends_at = now + 60 * self._random.uniform(*self._minutes)
        job = Job(f"batches/{len(self._jobs)}", tag, file, now, ends_at)
        self._jobs[job.name] = job
        asyncio.get_running_loop().call_at(ends_at, self._end, job)
        return self._shown(job)

    def _end(self, job: Job) -> None:
        self._live -= 1
        rows = [json.loads(line)["key"] for line in self._files[job.file].splitlines()]
        answers = [f'{{"key":"{key}","response":{{"candidates":[]}}}}\n' for key in rows]
        self._files[f"files/results-{job.name[8:]}"] = "".join(answers).encode()
        self._sizes[f"files/results-{job.name[8:]}"] = ("", 0)

    def _shown(self, job: Job) -> RemoteJob:
        done = job.ends_at <= anyio.current_time()
        return RemoteJob(
            name=job.name,
            state=JobState.SUCCEEDED if done else JobState.RUNNING,
            display_name=job.tag,
            result_file=f"files/results-{job.name[8:]}" if done else None,
            created_at=START + job.made_at,
            requests=LINES,
        )

    async def find_job(self, name: str) -> RemoteJob | None:
        await self._called("find job")
        return self._shown(self._jobs[name])

    async def list_page(self, token: str | None) -> JobPage:
        """The newest first; the service forgets jobs after two days."""
        await self._called("list page")
        begin, kept = int(token or 0), anyio.current_time() - 48 * 3600
        newest = len(self._jobs) - begin
        names = (f"batches/{number}" for number in range(newest - 1, max(-1, newest - 1 - PAGE), -1))
        page = tuple(self._shown(job) for name in names if (job := self._jobs[name]).made_at > kept)
        return JobPage(page, str(begin + PAGE) if len(page) == PAGE and newest > PAGE else None)

    async def cancel(self, name: str) -> None:
        raise NotImplementedError(name)

    @contextlib.asynccontextmanager
    async def download(self, name: str, *, offset: int, etag: str | None = None) -> AsyncIterator[Download]:
        await self._called("download")
        content = self._files[name]
        yield Download(content, offset, len(content))

    async def _called(self, what: str) -> None:
        self.calls[what] += 1
        await anyio.sleep(ROUND_TRIP)


def line(number: int) -> bytes:
    return b'{"key":"%012d","request":{"contents":[{"parts":[{"text":"a"}]}]}}' % number


async def measure(directory: Path, jobs: int, given: argparse.Namespace, busy: Busy) -> dict[str, float]:
    shard_bytes = LINES * (len(line(0)) + 1)
    service = SimulatedService(
        seconds_a_byte=given.shard_gb * GB * 8 / shard_bytes / (given.megabits * 1e6),
        minutes=(given.shortest, given.longest),
        seed=given.seed,
    )
    stored = int(shard_bytes * STORE_GB / given.shard_gb)
    limits = Limits(shard_bytes=shard_bytes, live_jobs=LIVE_JOBS, stored_bytes=stored)
    began = time.process_time()
    async with open_sqlite(directory / "manifest.db") as manifest:
        client = ClientContext(
            spool=Spool(directory),
            manifest=Counted(manifest, busy),
            provider=service,
            clock=VirtualClock(given.seed),
            service=Service(origin="http://127.0.0.1:1", limits=limits),
            options=Options(shard_requests=LINES),
            shares=Shares(Options()),
            meter=Meter(),
            place="http://127.0.0.1:1",
        )
        rows: Iterator[bytes] = (line(number) for number in range(jobs * LINES))
        summary = await Client(client).run(rows, model="m", out=directory / "out.jsonl")
    assert summary.complete
    assert summary.jobs_created == jobs == service.calls["create"]
    assert summary.answered == jobs * LINES
    seconds = time.process_time() - began
    hours = anyio.current_time() / 3600
    return {
        "jobs": jobs,
        "hours": round(hours, 1),
        "most jobs at once": service.most_live,
        "calls a job": round(sum(service.calls.values()) / jobs, 2),
        "list pages a job": round(service.calls["list page"] / jobs, 3),
        "CPU ms a job": round(seconds / jobs * 1e3, 1),
        "CPU s an hour": round(seconds / hours, 1),
        "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
    }


def row(jobs: int, given: argparse.Namespace) -> dict[str, float]:
    busy = Busy()
    options = {"loop_factory": lambda: VirtualLoop(Selector(busy))}
    with tempfile.TemporaryDirectory(dir=given.directory) as name:
        call: Callable[[], Awaitable[dict[str, float]]] = partial(measure, Path(name), jobs, given, busy)
        return anyio.run(call, backend_options=options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--shard-gb", type=float, default=2.0)
    parser.add_argument("--megabits", type=float, default=1_000)
    parser.add_argument("--shortest", type=float, default=5, help="minutes of a job")
    parser.add_argument("--longest", type=float, default=60, help="minutes of a job")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the files of the runs stand for a while")
    given = parser.parse_args()
    tell("scaling", (row(jobs, given) for jobs in given.jobs))


if __name__ == "__main__":
    main()
