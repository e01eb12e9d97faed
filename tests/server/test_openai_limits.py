"""Limits and quotas of the OpenAI wire."""

from __future__ import annotations

import io
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from aiohttp import ClientSession, FormData

from packtrain.server import OpenAILimits, Quotas, serving
from packtrain.server.wires.openai.validation import validate

from .service_calls import Answer as Reply
from .service_calls import Calls, blobs, generate_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from msgspec import Raw

    from packtrain._model import Task
    from packtrain.server.backends.backend import Answer

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def calls_with(directory: Path, quotas: Quotas, *, workers: int = 1) -> AsyncIterator[Calls]:
    async with serving(directory, quotas=quotas, workers=workers) as origin, ClientSession() as session:
        yield Calls(session, origin)


def chat_lines(count: int, model: str = "m-1") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    rows = [{"custom_id": f"r{at}", "method": "POST", "url": CHAT, "body": body} for at in range(count)]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


async def keep(calls: Calls, data: bytes) -> Reply:
    form = FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", data, filename="in.jsonl")
    return await calls.call("POST", "/v1/files", data=form)


async def failed(calls: Calls, data: bytes) -> Any:
    """The only error of a failed batch of these lines."""
    file = (await keep(calls, data)).json["id"]
    new = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    batch = (await calls.call("POST", "/v1/batches", json=new)).json["id"]
    with anyio.fail_after(100):
        while True:
            found = (await calls.call("GET", f"/v1/batches/{batch}")).json
            if found["status"] not in ("validating", "in_progress"):
                break
    assert found["status"] == "failed", found
    (fault,) = found["errors"]["data"]
    return fault


def is_over_quota(answer: Reply) -> bool:
    """Checks for the real service's text."""
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
    )
    error = {"message": message, "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}
    return answer.status == 429 and answer.json == {"error": error}


async def test_one_store_for_both_wires(directory: Path) -> None:
    """Files of both count; a file beyond the quota is refused and leaves nothing."""
    async with calls_with(directory, Quotas(stored_bytes=1000)) as calls:
        await calls.upload(b"x" * 600, name="files/a")
        assert is_over_quota(await keep(calls, b"y" * 401))
        upload = {"bytes": 401, "filename": "f", "mime_type": "t", "purpose": "batch"}
        assert is_over_quota(await calls.call("POST", "/v1/uploads", json=upload))
        assert len(blobs(directory)) == 1
        assert (await keep(calls, b"y" * 400)).status == 200
        assert (await calls.start(size=1)).error == (429, "RESOURCE_EXHAUSTED")


async def test_an_upload_that_no_longer_fits(directory: Path) -> None:
    """Other files used the quota: it is refused at its end."""
    async with calls_with(directory, Quotas(stored_bytes=10)) as calls:
        upload = {"bytes": 6, "filename": "f", "mime_type": "t", "purpose": "batch"}
        path = f"/v1/uploads/{(await calls.call('POST', '/v1/uploads', json=upload)).json['id']}"
        form = FormData()
        form.add_field("data", b"x" * 6, filename="upload")
        part = (await calls.call("POST", f"{path}/parts", data=form)).json["id"]
        await calls.upload(b"y" * 6, name="files/a")
        whole = {"part_ids": [part]}
        assert is_over_quota(await calls.call("POST", f"{path}/complete", json=whole))
        await calls.call("DELETE", "/v1beta/files/a")
        assert (await calls.call("POST", f"{path}/complete", json=whole)).json["status"] == "completed"


async def test_batches_beyond_the_quota(directory: Path) -> None:
    """Live jobs of both wires count."""
    async with calls_with(directory, Quotas(live_jobs=1), workers=0) as calls:
        await calls.job((await calls.upload(generate_lines(1)))["name"])
        file = (await keep(calls, chat_lines(1))).json["id"]
        new = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        assert is_over_quota(await calls.call("POST", "/v1/batches", json=new))


async def test_tokens_beyond_the_quota(directory: Path) -> None:
    """The batch fails with the real service's text, with or without the prefix of the model name."""
    tokens = len(chat_lines(10)) // 4
    quotas = Quotas(enqueued_tokens={"models/m-1": tokens - 1, "models/m-2": tokens})
    async with calls_with(directory, quotas) as calls:
        for model in ("m-1", "models/m-1"):
            fault = await failed(calls, chat_lines(10, model))
            assert (fault["code"], fault["line"], fault["param"]) == ("token_limit_exceeded", None, None)
            assert fault["message"].startswith(f"Enqueued token limit reached for {model} in organization ")
            assert f"Limit: {tokens - 1:,} enqueued tokens." in fault["message"]
        file = (await keep(calls, chat_lines(10, "m-2"))).json["id"]
        new = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        batch = (await calls.call("POST", "/v1/batches", json=new)).json["id"]
        assert (await calls.ended(batch))["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"


class Endless:
    """Never answers."""

    rows = None

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        await anyio.sleep_forever()
        raise AssertionError("unreachable")


async def test_tokens_of_both_wires_are_counted_together(directory: Path) -> None:
    """A running batch counts towards the jobs of its model on the Gemini wire."""
    lines = chat_lines(10)
    quotas = Quotas(enqueued_tokens={"models/m-1": len(lines) // 4})
    async with serving(directory, quotas=quotas, backend=Endless()) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        file = (await keep(calls, lines)).json["id"]
        new = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        batch = (await calls.call("POST", "/v1/batches", json=new)).json["id"]
        await calls.until(batch, lambda operation: operation["metadata"].get("model"))
        assert (await calls.create(file)).error == (429, "RESOURCE_EXHAUSTED")


async def test_limits_are_data(directory: Path) -> None:
    """Each can be configured."""
    lines = chat_lines(3)
    limits = OpenAILimits(requests=2, batch_bytes=len(lines), file_bytes=2 * len(lines), window=60)
    async with calls_with(directory, Quotas(openai=limits)) as calls:
        fault = await failed(calls, lines)
        assert (fault["code"], fault["line"]) == ("too_many_tasks", 3)
        fault = await failed(calls, lines + b"\n")
        assert fault["code"] == "file_too_large"
        assert fault["message"].startswith(f"The batch input file is larger than the {len(lines)} maximum")
        assert (await keep(calls, lines * 2)).status == 200
        refused = await keep(calls, lines * 2 + b"\n")
        assert (refused.status, refused.json["error"]["param"]) == (413, "file")
        batch = (await calls.call("GET", "/v1beta/openai/batches")).json["data"][0]
        assert batch["expires_at"] - batch["created_at"] == 60


async def test_a_file_has_at_most_two_gigabytes(directory: Path) -> None:
    """However it is sent, since the Gemini wire shows it too."""
    async with calls_with(directory, Quotas()) as calls:
        upload = {"bytes": 2 * 10**9, "filename": "f", "mime_type": "t", "purpose": "batch"}
        assert (await calls.call("POST", "/v1/uploads", json=upload)).status == 200
        refused = await calls.call("POST", "/v1/uploads", json={**upload, "bytes": 2 * 10**9 + 1})
        assert (refused.status, refused.json["error"]["param"]) == (400, "bytes")


def test_reported_errors_of_a_file_are_bounded() -> None:
    """Also if the last line has several."""
    lines = b'{"custom_id":"","method":"GET","url":"/","body":{}}\n' * 3
    for most in (1, 4, 7):
        found = validate(io.BytesIO(lines), len(lines), CHAT, OpenAILimits(errors=most))
        assert len(found.errors) == most
