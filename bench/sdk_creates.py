"""Jobs that one create makes when its answer is lost, for the official clients and for packtrain.

Each case has a service of its own, and in front of it a server that passes everything on, but spoils the answer to
the first create: the job exists, its maker does not hear of it. What was made is read from the service's truth.jsonl.

    python bench/sdk_creates.py [CLIENT ...]

prints a table, then one JSON object a case. Needs the packages of the dependency group ``interop``. The rows of
packtrain take a minute each for ``hang``: that is how long it waits for the answer to a create.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import anyio
import httpx2
import openai
from aiohttp import web
from anyio.from_thread import start_blocking_portal
from google import genai

import packtrain
from front import open_front

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FAULTS = ("none", "accept, then drop", "accept, then 503", "accept, then hang")
#: Seconds that the official clients are told to wait for an answer; they have no limit of their own worth waiting for.
PATIENCE = 3.0
#: Seconds to look for jobs that a late second request makes.
AFTERMATH = 1.0
CREATE = re.compile(r"/(?:[^/]+/)*(?:models/[^/:]+:batchGenerateContent|batches)")
LINE = {"key": "k", "request": {"contents": [{"parts": [{"text": "hello"}]}]}}
CHAT = {
    "custom_id": "k",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "m", "messages": [{"role": "user", "content": "hello"}]},
}


class Case(NamedTuple):
    client: str
    fault: str
    #: Requests to create a job that reached the service.
    posts: int
    jobs: int
    #: Jobs that were still to be paid for in the end: made and not cancelled.
    kept: int
    outcome: str
    seconds: float


class Front:
    """Counts the requests to create a job; the answer to the first one goes wrong as ``fault`` says."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self.posts = 0

    async def look(self, request: web.Request, answer: web.Response) -> web.Response:
        if request.method == "POST" and CREATE.fullmatch(request.path):
            self.posts += 1
            fault, self._fault = self._fault, "none"
            return await _spoil(request, fault) or answer
        return answer


async def _spoil(request: web.Request, fault: str) -> web.Response | None:
    if fault == "accept, then hang":
        await anyio.sleep_forever()
    if fault == "accept, then drop" and request.transport:
        request.transport.abort()
    if fault == "none":
        return None
    error = {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}
    return web.json_response({"error": error}, status=503)


@contextlib.asynccontextmanager
async def serving_behind(front: Front, directory: Path) -> AsyncIterator[str]:
    async with packtrain.serving(directory) as target, open_front(target, front.look) as origin:
        yield origin


def google_client(origin: str, *, retries: bool) -> genai.Client:
    retry = genai.types.HttpRetryOptions(attempts=5, initial_delay=0.1) if retries else None
    options = genai.types.HttpOptions(base_url=origin, timeout=int(PATIENCE * 1000), retry_options=retry)
    return genai.Client(api_key="any", http_options=options)


def google_sync(origin: str, directory: Path, *, retries: bool = False) -> None:
    with google_client(origin, retries=retries) as client:
        file = client.files.upload(file=_input(directory, LINE), config={"mime_type": "jsonl"})
        client.batches.create(model="m", src=str(file.name))


def google_async(origin: str, directory: Path, *, retries: bool = False) -> None:
    async def create() -> None:
        async with google_client(origin, retries=retries).aio as client:
            file = await client.files.upload(file=_input(directory, LINE), config={"mime_type": "jsonl"})
            await client.batches.create(model="m", src=str(file.name))

    anyio.run(create)


def openai_sync(origin: str, directory: Path) -> None:
    with openai.OpenAI(api_key="any", base_url=f"{origin}/v1", timeout=PATIENCE) as client:
        with Path(_input(directory, CHAT)).open("rb") as data:
            file = client.files.create(file=data, purpose="batch")
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def ours(origin: str, directory: Path) -> None:
    service = packtrain.Service(origin=origin, poll=(0.05, 0.2), settle=0.6)

    async def run() -> None:
        async with packtrain.open_client(directory / "state", service=service) as client:
            source = Path(_input(directory, LINE))
            summary = await client.run(source, model="m", out=directory / "out.jsonl")
            assert summary.answered == 1

    anyio.run(run)


CLIENTS: dict[str, Callable[[str, Path], None]] = {
    "google-genai sync": google_sync,
    "google-genai async": google_async,
    "google-genai sync, retries": lambda *given: google_sync(*given, retries=True),
    "google-genai async, retries": lambda *given: google_async(*given, retries=True),
    "openai": openai_sync,
    "packtrain": ours,
}


def measure(client: str, fault: str) -> Case:
    with tempfile.TemporaryDirectory() as name:
        directory, front = Path(name), Front(fault)
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(serving_behind(front, directory / "service")) as origin,
        ):
            began = time.monotonic()
            outcome = _outcome(CLIENTS[client], origin, directory)
            seconds = time.monotonic() - began
            time.sleep(AFTERMATH)
        made = _truth(directory, "batch_created")
        return Case(
            client, fault, front.posts, len(made), len(made - _truth(directory, "batch_cancelled")), outcome, seconds
        )


def _outcome(call: Callable[[str, Path], None], origin: str, directory: Path) -> str:
    try:
        call(origin, directory)
    except (
        genai.errors.APIError,
        httpx2.HTTPError,
        openai.OpenAIError,
        aiohttp.ClientError,
        TimeoutError,
        packtrain.PacktrainError,
    ) as error:
        return type(error).__name__
    return "success"


def _truth(directory: Path, what: str) -> set[str]:
    lines = map(json.loads, (directory / "service" / "truth.jsonl").read_bytes().splitlines())
    return {line["name"] for line in lines if line["what"] == what}


def _input(directory: Path, line: object) -> str:
    path = directory / "in.jsonl"
    path.write_text(json.dumps(line) + "\n")
    return str(path)


def table(cases: list[Case]) -> str:
    found = {(case.client, case.fault): case for case in cases}
    clients = dict.fromkeys(case.client for case in cases)
    rows = [["", *FAULTS], *([client, *(_cell(found[client, fault]) for fault in FAULTS)] for client in clients)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _cell(case: Case) -> str:
    posts, jobs = ("" if count == 1 else "s" for count in (case.posts, case.jobs))
    return f"{case.posts} POST{posts}, {case.jobs} job{jobs}, {case.outcome}"


def main() -> None:
    warnings.simplefilter("ignore")  # the packages' own
    chosen = sys.argv[1:] or list(CLIENTS)
    cases = [measure(client, fault) for client in chosen for fault in FAULTS]
    print(table(cases))
    for case in cases:
        print(json.dumps(case._asdict()))


if __name__ == "__main__":
    main()
