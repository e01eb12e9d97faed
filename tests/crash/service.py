"""Kill the local service again and again while clients upload to it and run jobs, and audit what it kept.

``python -m tests.crash.service --kills 100`` is the long form. Clients upload files in chunks and create a job of
each, and go on as the protocol says whenever the service dies under their hands: ask how much of an upload is
stored, ask whether a job is there. When the last kill is done they finish what they began. Then everything that they
were told of must be there once, and the audit of the directory must find nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from aiohttp import ClientError, ClientSession, ClientTimeout
from msgspec import Struct

from packtrain.testing.audit.history import read_history
from packtrain.testing.audit.service import audit_service
from tests.server.service_calls import GRANULARITY, Calls, child, digest_of, generate_lines, sha256

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")

CLIENTS = 4
#: Of one file: up to 6 MB, so that both ways of taking a body in are met.
MOST_LINES = 12_000
TEXT = "x" * 400
#: What a dying service does to a call.
TORN = (ClientError, OSError, json.JSONDecodeError)


class Told(Struct):
    """What clients were told of, by display name: digests of files, names of jobs."""

    files: dict[str, str] = {}
    jobs: dict[str, str] = {}


class Torment:
    """A service that is killed, and clients that do not give up. ``seed`` fixes the loads and the waits."""

    def __init__(self, directory: Path, *, kills: int, seed: int, longest_life: float) -> None:
        self._directory = directory
        self._kills = kills
        self._seed = seed
        self._longest_life = longest_life
        self._origin = ""
        self._calm = anyio.Event()
        self._finished = anyio.Event()
        self.told = Told()

    async def run(self) -> None:
        """Returns when the last kill is done and the clients have finished what they began."""
        async with ClientSession(timeout=ClientTimeout(total=60)) as session, anyio.create_task_group() as tasks:
            tasks.start_soon(self._lives)
            async with anyio.create_task_group() as clients:
                for number in range(CLIENTS):
                    clients.start_soon(self._work, session, number)
            self._finished.set()

    async def _lives(self) -> None:
        chance = random.Random(self._seed)
        for _ in range(self._kills):
            async with child(self._directory) as process:
                self._origin = process.origin
                await anyio.sleep(chance.uniform(0.05, self._longest_life))
                process.kill()
        self._calm.set()
        async with child(self._directory) as process:
            self._origin = process.origin
            await self._finished.wait()

    async def _work(self, session: ClientSession, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        count = 0
        while not self._calm.is_set():
            await self._load(session, f"load {number} {count}", chance)
            count += 1

    async def _load(self, session: ClientSession, name: str, chance: random.Random) -> None:
        """One file, one job, its answers; at times they are deleted in the end."""
        lines = chance.randrange(1, MOST_LINES)
        data = generate_lines(lines, TEXT)
        url = await self._insist(session, lambda calls: calls.url(size=len(data), display_name=name))
        file = await self._insist(session, lambda calls: _send(calls, url, data, chance))
        self.told.files[name] = sha256(data)
        assert digest_of(file) == sha256(data), name
        job = await self._insist(session, lambda calls: _find_or_create(calls, file["name"], name))
        self.told.jobs[name] = job
        operation = await self._insist(session, lambda calls: calls.ended(job))
        rows = await self._insist(session, lambda calls: calls.results(operation))
        assert [row["key"] for row in rows] == [f"k{line}" for line in range(lines)], name
        for gone in chance.sample([job, file["name"]], chance.choice([0, 0, 1, 2])):
            await self._insist(session, partial(_delete, name=gone))

    async def _insist(self, session: ClientSession, step: Callable[[Calls], Awaitable[T]]) -> T:
        while True:
            try:
                return await step(Calls(session, self._origin))
            except TORN:
                await anyio.sleep(0.02)


async def _send(calls: Calls, url: str, data: bytes, chance: random.Random) -> Any:
    """The finished file; goes on wherever the service is."""
    url = calls.origin + url[url.index("/upload/") :]
    while True:
        answer = await calls.command(url, "query")
        if answer.headers["X-Goog-Upload-Status"] == "final":
            return answer.json["file"]
        stored = int(answer.headers["X-Goog-Upload-Size-Received"])
        end = min(len(data), stored + GRANULARITY * chance.randrange(1, 40))
        command = "upload, finalize" if end == len(data) else "upload"
        answer = await calls.command(url, command, offset=stored, data=data[stored:end])
        if answer.status == 200 and end == len(data):
            return answer.json["file"]


async def _find_or_create(calls: Calls, file: str, name: str) -> str:
    token = ""
    while True:
        page = (await calls.call("GET", "/v1beta/batches", params={"pageSize": "100", "pageToken": token})).json
        for operation in page.get("operations", []):
            if operation["metadata"]["displayName"] == name:
                return str(operation["name"])
        token = page.get("nextPageToken", "")
        if not token:
            return await calls.job(file, name=name)


async def _delete(calls: Calls, name: str) -> None:
    """A job that is gone gives 404, a file 403: an earlier call did it, whose answer was lost."""
    answer = await calls.call("DELETE", f"/v1beta/{name}")
    assert answer.status in (200, 403, 404), answer.body


def audit(directory: Path, told: Told) -> list[str]:
    """What is wrong with the directory, and with what clients were told."""
    history = read_history(directory)
    made = [life.display_name for life in history.jobs.values()]
    return [
        *audit_service(directory),
        *(
            f"{name}: finished {history.finished.get(name, 0)} times"
            for name in told.files
            if history.finished.get(name) != 1
        ),
        *(f"{name}: {made.count(name)} jobs" for name in told.jobs if made.count(name) != 1),
        *(
            f"{job}: a client was told of it, the truth was not"
            for job in told.jobs.values()
            if job not in history.jobs
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--longest-life", type=float, default=1.5, help="seconds between two kills at the most")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "service"
        torment = Torment(directory, kills=chosen.kills, seed=chosen.seed, longest_life=chosen.longest_life)
        anyio.run(torment.run)
        findings = audit(directory, torment.told)
    figures = {
        "kills": chosen.kills,
        "seed": chosen.seed,
        "seconds": round(time.monotonic() - began),
        "files": len(torment.told.files),
        "jobs": len(torment.told.jobs),
        "findings": findings,
    }
    print(json.dumps(figures))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
