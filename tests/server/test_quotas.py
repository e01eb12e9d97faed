"""Quotas, and the life of jobs."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession

from packtrain._model import JobState
from packtrain.server import Quotas, open_store, serving
from packtrain.server.blobs import Digest
from packtrain.server.jobs import JOB_LIFE, Counts, Jobs, NewJob

from .service_calls import Calls, blobs, generate_lines, truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def calls_with(directory: Path, quotas: Quotas) -> AsyncIterator[Calls]:
    """Jobs stay pending."""
    async with serving(directory, quotas=quotas, workers=0) as origin, ClientSession() as session:
        yield Calls(session, origin)


async def test_jobs_beyond_the_quota(directory: Path) -> None:
    """Refused with the real service's text, and nothing is created; a cancelled job frees its slot."""
    async with calls_with(directory, Quotas(live_jobs=2)) as calls:
        await calls.upload(generate_lines(1), name="files/in")
        jobs = [await calls.job("files/in") for _ in range(2)]
        refused = await calls.create("files/in")
        assert refused.error == (429, "RESOURCE_EXHAUSTED")
        error = refused.json["error"]
        assert error["message"].startswith("You exceeded your current quota")
        assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.Help"
        assert error["details"][0]["links"][0]["url"].startswith("https://ai.google.dev/")
        assert len(truth(directory, "batch_created")) == 2
        await calls.call("POST", f"/v1beta/{jobs[0]}:cancel")
        assert (await calls.create("files/in")).status == 200


async def test_tokens_beyond_the_quota(directory: Path) -> None:
    """Those of all live jobs of one model, in files or inline; other models do not count."""
    lines = generate_lines(10)
    tokens = len(lines) // 4
    quotas = Quotas(enqueued_tokens={"models/m-1": 2 * tokens + 2, "models/m-2": 1})
    async with calls_with(directory, quotas) as calls:
        await calls.upload(lines, name="files/in")
        assert [(await calls.create("files/in")).status for _ in range(3)] == [200, 200, 429]
        batch: Any = {"batch": {"inputConfig": {"requests": {"requests": [{"request": {"contents": []}}]}}}}
        statuses = {
            model: (await calls.call("POST", f"/v1/models/{model}:batchGenerateContent", json=batch)).status
            for model in ("m-1", "m-2", "m-3")
        }
        assert statuses == {"m-1": 429, "m-2": 429, "m-3": 200}
    assert len(blobs(directory)) == 2


async def test_bytes_beyond_the_quota(directory: Path) -> None:
    """At the start for the declared size, at the end for the received one; deleting a file frees space."""
    async with calls_with(directory, Quotas(stored_bytes=1000)) as calls:
        await calls.upload(b"x" * 600, name="files/a")
        assert (await calls.start(size=401)).error == (429, "RESOURCE_EXHAUSTED")
        url = (await calls.start()).headers["X-Goog-Upload-URL"]
        assert (await calls.command(url, "upload, finalize", offset=0, data=b"y" * 401)).error[0] == 429
        await calls.call("DELETE", "/v1beta/files/a")
        assert (await calls.command(url, "finalize")).status == 200


async def test_without_quotas_there_are_none(directory: Path) -> None:
    """More than a hundred jobs at a time."""
    async with calls_with(directory, Quotas()) as calls:
        await calls.upload(generate_lines(1), name="files/in")
        assert {(await calls.create("files/in")).status for _ in range(120)} == {200}


async def test_jobs_expire(directory: Path) -> None:
    """After 48 hours, pending or running, without results; a run that ends later changes nothing."""
    now = [1_000_000.0]
    async with open_store(directory, clock=lambda: now[0]) as store:
        jobs = Jobs(store)
        new = NewJob(model="models/m", task="generate", display_name="")
        first, second = [await jobs.create_inline(new, b"{}\n") for _ in range(2)]
        running = await jobs.claim([])
        assert running
        assert running.name == first.name
        now[0] += JOB_LIFE - 1
        await jobs.sweep()
        assert await jobs.progress(running, Counts()) == "continue"
        now[0] += 1
        young = await jobs.create_inline(new, b"{}\n")
        await jobs.sweep()
        assert await jobs.progress(running, Counts()) == "gone"
        async with jobs.temporary_blob() as blob:
            await jobs.succeed(running, Counts(1, 0), blob, Digest())
        found = [await jobs.get(job.name) for job in (first, second, young)]
        assert [job.state for job in found if job] == [JobState.EXPIRED, JobState.EXPIRED, JobState.PENDING]
        assert {job.result for job in found if job} == {None}
    assert len(blobs(directory)) == 1


async def test_unfinished_uploads_are_bounded_by_default(directory: Path) -> None:
    """Both wires together; one that has ended frees its slot."""
    assert (Quotas().open_uploads or 0) <= 10_000
    kept = {"purpose": "batch", "filename": "f", "bytes": 1, "mime_type": "text/plain"}
    async with calls_with(directory, Quotas(open_uploads=2)) as calls:
        url = await calls.url(size=1)
        assert (await calls.call("POST", "/v1/uploads", json=kept)).status == 200
        assert (await calls.start(size=1)).error == (429, "RESOURCE_EXHAUSTED")
        assert (await calls.call("POST", "/v1/uploads", json=kept)).status == 429
        await calls.command(url, "upload, finalize", offset=0, data=b"x")
        assert (await calls.start(size=1)).status == 200
        assert (await calls.start(size=1)).status == 429
    with closing(sqlite3.connect(directory / "service.db")) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN SELECT count(*) FROM upload WHERE state = 'active'").fetchall()
    assert "upload_active" in str(plan), "counting must not get slower with the uploads that are over"
