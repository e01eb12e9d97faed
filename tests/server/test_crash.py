"""The service in a separate process, killed with SIGKILL and restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import ClientError, ClientSession

from tests.seeds import seeded

from .service_calls import GRANULARITY, Calls, blobs, child, digest_of, generate_lines, sha256, truth

if TYPE_CHECKING:
    from pathlib import Path

LINES = 40_000


async def test_killed_during_an_upload(directory: Path) -> None:
    """Bytes that arrived survive the restart; the upload continues at any offset, and the content is right."""
    data = seeded("upload").randbytes(20 * GRANULARITY + 17)
    async with ClientSession() as session:
        async with child(directory) as process:
            calls = Calls(session, process.origin)
            url = await calls.url(size=len(data), name="files/in")
            await calls.command(url, "upload", offset=0, data=data[:GRANULARITY])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cut, calls, url, data)
                with anyio.fail_after(100):
                    await anyio.to_thread.run_sync(_grown, directory, GRANULARITY)
                process.kill()
        async with child(directory) as process:
            calls = Calls(session, process.origin)
            url = process.origin + url[url.index("/upload/") :]
            stored = await calls.received(url)
            assert GRANULARITY < stored < len(data)
            answer = await calls.command(url, "upload, finalize", offset=stored, data=data[stored:])
            assert digest_of(answer.json["file"]) == sha256(data)
    assert [line["sha256"] for line in truth(directory, "file_finalised")] == [sha256(data)]


def _grown(directory: Path, size: int) -> None:
    while not any(blob.stat().st_size > size for blob in (directory / "blobs").iterdir()):
        pass


async def _cut(calls: Calls, url: str, data: bytes) -> None:
    """A chunk without its last bytes."""

    async def body() -> object:
        yield data[GRANULARITY : 15 * GRANULARITY + 5]
        await anyio.sleep_forever()

    headers = {
        "X-Goog-Upload-Command": "upload, finalize",
        "X-Goog-Upload-Offset": str(GRANULARITY),
        "Content-Length": str(len(data) - GRANULARITY),
    }
    with pytest.raises((ClientError, OSError)):
        await calls.call("POST", url, headers=headers, data=body())


async def test_killed_during_jobs(directory: Path) -> None:
    """The job runs again, and each line is in the output exactly once; no blobs are left over."""
    async with ClientSession() as session:
        async with child(directory) as process:
            calls = Calls(session, process.origin)
            await calls.upload(generate_lines(LINES, "x" * 200), name="files/in")
            jobs = [await calls.job("files/in", name=f"tag-{number}") for number in range(3)]
            await calls.until(jobs[0], lambda operation: operation["metadata"]["state"] == "BATCH_STATE_RUNNING")
            process.kill()
        async with child(directory) as process:
            calls = Calls(session, process.origin)
            for job in jobs:
                operation = await calls.ended(job)
                rows = await calls.results(operation)
                assert [row["key"] for row in rows] == [f"k{number}" for number in range(LINES)]
                assert operation["metadata"]["batchStats"]["successfulRequestCount"] == str(LINES)
    assert sorted(line["name"] for line in truth(directory, "batch_finished")) == sorted(jobs)
    assert len(blobs(directory)) == 4


async def test_interrupt_stops_within_seconds(directory: Path) -> None:
    """Ctrl-C during a job: the process exits, and the next one runs the job again."""
    async with ClientSession() as session:
        async with child(directory) as process:
            calls = Calls(session, process.origin)
            await calls.upload(generate_lines(LINES, "x" * 200), name="files/in")
            job = await calls.job("files/in")
            await calls.until(job, lambda operation: operation["metadata"]["state"] == "BATCH_STATE_RUNNING")
            code = await anyio.to_thread.run_sync(process.interrupt)
            assert code != -9
        async with child(directory) as process:
            calls = Calls(session, process.origin)
            assert len(await calls.results(await calls.ended(job))) == LINES
