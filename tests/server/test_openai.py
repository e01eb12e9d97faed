"""OpenAI wire: cases that need a manual clock or a killed service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from aiohttp import ClientSession
from anyio import to_thread

from packtrain._wire.openai.files import NewUpload
from packtrain.server.backends.echo import Echo
from packtrain.server.files import UPLOAD_LIFE
from packtrain.server.jobs import Jobs
from packtrain.server.replies import HttpError
from packtrain.server.store import open_store
from packtrain.server.wires.openai.batch_runner import BatchRunner
from packtrain.server.wires.openai.batch_store import NewBatchJob, OpenAIBatches, StoredBatch
from packtrain.server.wires.openai.errors import OpenAIError, openai_error_response, openai_error_response_no_retry
from packtrain.server.wires.openai.file_store import NewFile, OpenAIFiles
from packtrain.server.wires.openai.limits import LIMITS
from packtrain.server.wires.openai.upload_store import OpenAIUploads

from .service_calls import Calls, blobs, child, truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from msgspec import Raw

    from packtrain._model import Task
    from packtrain.server.backends.backend import Answer
    from packtrain.server.blobs import Digest
    from packtrain.server.store import Store

CHAT = "/v1/chat/completions"
MANY = 30_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """Takes one request at a time, and advances the clock so that a batch expires after three."""

    rows = 1

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._echo = Echo()

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        self._clock.now += LIMITS.window / 3
        return await self._echo.answer(requests, task=task, model=model)


def chat_lines(count: int) -> bytes:
    bodies = ({"model": "m", "messages": [{"role": "user", "content": f"hello {at}"}]} for at in range(count))
    lines = ({"custom_id": f"r{at}", "method": "POST", "url": CHAT, "body": body} for at, body in enumerate(bodies))
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def keep(store: Store, data: bytes) -> str:
    async with store.temporary_blob() as blob:
        digest = await fill(store, blob, data)
        new = NewFile(filename="in.jsonl", mime_type="", purpose="batch", life=LIMITS.file_life)
        return (await OpenAIFiles(store).add(new, blob, digest)).name


async def fill(store: Store, blob: str, data: bytes) -> Digest:
    await store.fill(blob, data)
    return await to_thread.run_sync(store.blobs.digest, blob)


async def rows(store: Store, name: str | None) -> list[Any]:
    file = await OpenAIFiles(store).get(name or "")
    assert file
    with await to_thread.run_sync(store.blobs.reader, file.blob) as lines:
        return [json.loads(line) for line in await to_thread.run_sync(lines.readlines)]


async def run(store: Store, clock: Clock, data: bytes, late: float = 0.0) -> StoredBatch:
    """A batch served by a slow backend, ``late`` seconds after it was made."""
    batches = OpenAIBatches(store)
    plan = NewBatchJob(
        file=await keep(store, data), endpoint=CHAT, task="generate", metadata="null", life=LIMITS.file_life
    )
    made = await batches.create(plan)
    clock.now += late
    job = await Jobs(store).claim([])
    assert job
    assert await BatchRunner(batches, store.blobs, Slow(clock)).serve(job)
    batch = await batches.get(made.name)
    assert batch
    return batch


async def test_expired_batch_keeps_what_is_done(directory: Path) -> None:
    """After its window a batch sends no more requests: the rest is in the error file as batch_expired."""
    clock = Clock()
    async with open_store(directory, clock=clock) as store:
        batch = await run(store, clock, chat_lines(5))
        assert batch.state == "expired"
        assert (batch.requests, batch.succeeded, batch.failed) == (5, 3, 2)
        assert [row["custom_id"] for row in await rows(store, batch.result)] == ["r0", "r1", "r2"]
        left = await rows(store, batch.error_file)
        assert [(row["custom_id"], row["response"], row["error"]["code"]) for row in left] == [
            ("r3", None, "batch_expired"),
            ("r4", None, "batch_expired"),
        ]


async def test_delete_removes_both_outputs(directory: Path) -> None:
    """Answers and errors; the input stays."""
    clock = Clock()
    async with open_store(directory, clock=clock) as store:
        batch = await run(store, clock, chat_lines(5))
        assert batch.result
        assert batch.error_file
        assert len(blobs(directory)) == 3
        assert await Jobs(store).delete(batch.name)
        assert [await OpenAIFiles(store).get(name) for name in (batch.result, batch.error_file)] == [None, None]
        assert len(blobs(directory)) == 1


async def test_pending_batch_expires(directory: Path) -> None:
    """No request is sent."""
    clock = Clock()
    async with open_store(directory, clock=clock) as store:
        batch = await run(store, clock, chat_lines(2), late=LIMITS.window)
        assert (batch.state, batch.result, batch.failed) == ("expired", None, 2)


async def test_unfinished_upload_expires(directory: Path) -> None:
    """After an hour it accepts nothing and its parts are removed; its status stays visible for a week."""
    clock = Clock()
    async with open_store(directory, clock=clock) as store:
        uploads = OpenAIUploads(store)
        new = NewUpload(bytes=3, filename="f", mime_type="t", purpose="batch")
        upload = await uploads.start(new)
        async with uploads.temporary_blob() as blob:
            part = await uploads.add(upload.id, blob, await fill(store, blob, b"abc"))
        assert len(blobs(directory)) == 1
        clock.now += LIMITS.upload_life
        with pytest.raises(OpenAIError, match="expired"):
            await uploads.parts(upload.id, [part.id])
        await uploads.sweep()
        assert blobs(directory) == []
        clock.now += UPLOAD_LIFE - LIMITS.upload_life - 1
        await uploads.sweep()
        with pytest.raises(OpenAIError, match="expired"):
            await uploads.pending(upload.id)
        clock.now += 1
        await uploads.sweep()
        with pytest.raises(OpenAIError, match="No such Upload"):
            await uploads.pending(upload.id)


async def test_input_beyond_the_limit(directory: Path) -> None:
    """A file of the Gemini wire may be larger than a batch accepts."""
    clock = Clock()
    async with open_store(directory, clock=clock) as store:
        batch = await run(store, clock, b"\n" * (LIMITS.batch_bytes + 1))
        assert batch.state == "failed"
        assert [error["code"] for error in msgspec.json.decode(batch.errors or "")] == ["file_too_large"]


def test_failed_create_is_not_retried_by_the_sdk() -> None:
    """The SDK would create a second batch; it does not retry a 4xx."""
    assert openai_error_response_no_retry(HttpError(500, "down")).headers["x-should-retry"] == "false"
    assert "x-should-retry" not in openai_error_response_no_retry(HttpError(400, "no")).headers
    assert "x-should-retry" not in openai_error_response(HttpError(500, "down")).headers


async def test_killed_in_a_batch(directory: Path) -> None:
    """After kill -9 and a new start the batch completes, with each line once and one batch in the log."""
    async with child(directory) as service, ClientSession() as session:
        calls = Calls(session, service.origin)
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        file = (await calls.call("POST", "/v1/files", data=_form(chat_lines(MANY)), headers=headers)).json["id"]
        body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        batch = (await calls.call("POST", "/v1/batches", json=body)).json["id"]
        await _until(calls, batch, "in_progress")
        service.kill()
    async with child(directory) as service, ClientSession() as session:
        calls = Calls(session, service.origin)
        done = await _until(calls, batch, "completed")
        content = await calls.call("GET", f"/v1/files/{done['output_file_id']}/content")
        found = [json.loads(line)["custom_id"] for line in content.body.splitlines()]
        assert found == [f"r{at}" for at in range(MANY)]
    assert [fact["what"] for fact in truth(directory)] == ["file_finalised", "batch_created", "batch_finished"]
    assert len(blobs(directory)) == 2


@pytest.mark.parametrize(
    "form",
    [
        b'--b\r\nContent-Disposition: form-data; name="\x07"\r\n\r\nx\r\n--b--\r\n',
        b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n",
    ],
)
async def test_form_with_a_malformed_header_is_refused(calls: Calls, form: bytes) -> None:
    """In the format of this wire."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await calls.call("POST", "/v1/files", data=form, headers=headers)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")


async def test_invalid_utf8_in_a_filename_is_replaced(calls: Calls) -> None:
    """Headers are bytes; they are stored and returned as text."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    form = _form(b"x").replace(b"in.jsonl", b"a\xff").replace(b"\r\n\r\nx", b"\r\nContent-Type: t/\xff\r\n\r\nx")
    answer = await calls.call("POST", "/v1/files", data=form, headers=headers)
    assert (answer.status, answer.json["filename"]) == (200, "a\ufffd")


@pytest.mark.parametrize("limit", ["0", "10001", "00000000010001", "000000001" + "0" * 5000])
async def test_limit_out_of_bounds_is_refused(calls: Calls, limit: str) -> None:
    """Also with many digits."""
    answer = await calls.call("GET", f"/v1beta/openai/files?limit={limit}")
    assert (answer.status, answer.json["error"]["param"]) == (400, "limit")


def _form(data: bytes) -> bytes:
    def part(head: str, content: bytes) -> bytes:
        return f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"

    return part('name="purpose"', b"batch") + part('name="file"; filename="in.jsonl"', data) + b"--b--\r\n"


async def _until(calls: Calls, batch: str, status: str) -> Any:
    with anyio.fail_after(100):
        while (found := (await calls.call("GET", f"/v1/batches/{batch}")).json)["status"] != status:
            assert found["status"] in ("validating", "in_progress", "finalizing"), found
    return found
