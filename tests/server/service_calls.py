"""A plain HTTP client, written against the protocol, independent of packtrain's encoders."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp import ClientResponse, ClientSession

GRANULARITY = 262144
CHILD = """
import sys, anyio, pathlib
from packtrain.server import serving
async def main():
    async with serving(pathlib.Path(sys.argv[1])) as origin:
        print(origin, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


class Answer:
    """A complete response."""

    def __init__(self, response: ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """HTTP status and Google's status name, both from the error body."""
        assert self.headers["Content-Type"].startswith("application/json"), self.headers
        error = self.json["error"]
        assert error["code"] == self.status
        assert error["message"]
        assert "Traceback" not in error["message"]
        return error["code"], error["status"]


class Calls:
    def __init__(self, session: ClientSession, origin: str) -> None:
        self.session = session
        self.origin = origin

    async def call(self, method: str, path: str, *, data: Any = None, **options: Any) -> Answer:
        # aiohttp warns of large bodies passed as bytes.
        options["data"] = io.BytesIO(data) if isinstance(data, bytes) else data
        url = path if path.startswith("http") else self.origin + path
        async with self.session.request(method, url, **options) as response:
            return Answer(response, await response.read())

    async def start(self, *, size: int | None = None, version: str = "v1beta", **file: object) -> Answer:
        headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
        if size is not None:
            headers["X-Goog-Upload-Header-Content-Length"] = str(size)
        return await self.call("POST", f"/upload/{version}/files", headers=headers, json={"file": file})

    async def url(self, *, size: int, **file: str) -> str:
        answer = await self.start(size=size, **file)
        assert answer.status == 200, answer.body
        return answer.headers["X-Goog-Upload-URL"]

    async def command(self, url: str, command: str, *, offset: int | None = None, data: Any = None) -> Answer:
        headers = {"X-Goog-Upload-Command": command}
        if offset is not None:
            headers["X-Goog-Upload-Offset"] = str(offset)
        # aiohttp writes even an empty body in a separate task, whose failure would go unnoticed.
        return await self.call("POST", url, headers=headers, data=data or None)

    async def received(self, url: str) -> int:
        answer = await self.command(url, "query")
        assert answer.headers["X-Goog-Upload-Status"] == "active"
        return int(answer.headers["X-Goog-Upload-Size-Received"])

    async def upload(self, data: bytes, **file: object) -> Any:
        """The finished file, as in the response."""
        answer = await self.start(size=len(data), version="v1beta", **file)
        assert answer.status == 200, answer.body
        url = answer.headers["X-Goog-Upload-URL"]
        answer = await self.command(url, "upload, finalize", offset=0, data=data)
        assert answer.status == 200, answer.body
        return answer.json["file"]

    async def create(self, file: str, *, task: str = "generate", name: str = "job") -> Answer:
        method = {"generate": "batchGenerateContent", "embed": "asyncBatchEmbedContent"}[task]
        batch = {"displayName": name, "inputConfig": {"fileName": file}}
        return await self.call("POST", f"/v1beta/models/m-1:{method}", json={"batch": batch})

    async def job(self, file: str, *, task: str = "generate", name: str = "job") -> str:
        answer = await self.create(file, task=task, name=name)
        assert answer.status == 200, answer.body
        return str(answer.json["name"])

    async def ended(self, job: str) -> Any:
        """The operation, once it has ended."""
        return await self.until(job, lambda operation: bool(operation.get("done")))

    async def until(self, job: str, reached: Any) -> Any:
        with anyio.fail_after(100):
            while True:
                operation = (await self.call("GET", f"/v1beta/{job}")).json
                if reached(operation):
                    return operation

    async def results(self, operation: Any) -> list[Any]:
        name = operation["response"]["responsesFile"]
        answer = await self.call("GET", f"/v1beta/{name}:download?alt=media")
        assert answer.status == 200
        return [json.loads(line) for line in answer.body.splitlines()]


def generate_lines(count: int, text: str = "hello") -> bytes:
    return b"".join(generate_line(f"k{number}", f"{text} {number}") for number in range(count))


def generate_line(key: str, text: str) -> bytes:
    request = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return json.dumps({"key": key, "request": request}).encode() + b"\n"


def digest_of(file: Any) -> str:
    """The hex text inside the base64 of ``sha256Hash``."""
    return base64.b64decode(file["sha256Hash"]).decode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def truth(directory: Path, what: str | None = None) -> list[Any]:
    lines = [json.loads(line) for line in (directory / "truth.jsonl").read_bytes().splitlines()]
    return [line for line in lines if what in (None, line["what"])]


class Child:
    """The service in a separate process, which tests kill."""

    def __init__(self, process: subprocess.Popen[str], origin: str) -> None:
        self._process = process
        self.origin = origin

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def interrupt(self) -> int:
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout=100)


@asynccontextmanager
async def child(directory: Path) -> AsyncIterator[Child]:
    process = await anyio.to_thread.run_sync(_start, directory)
    assert process.stdout
    with process.stdout as out:
        try:
            origin = await anyio.to_thread.run_sync(out.readline)
            yield Child(process, origin.strip())
        finally:
            process.kill()
            process.wait()


def _start(directory: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def blobs(directory: Path) -> list[Path]:
    return list((directory / "blobs").iterdir())
