"""Batches, through the ``openai`` package."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest
from aiohttp import ClientSession
from openai import OpenAI

from tests.server.service_calls import Calls, generate_lines, truth

from .openai_clients import (
    CHAT,
    EMBEDDINGS,
    MOUNTS,
    chat_line,
    chat_lines,
    client_of,
    ended,
    line,
    put,
    rows,
    start,
)

if TYPE_CHECKING:
    from pathlib import Path


MANY = 30_000

#: Code, line, member.
Fault = tuple[str, int | None, str | None]


@pytest.mark.parametrize("mount", MOUNTS)
async def test_chat_batch(origin: str, mount: str, tmp_path: Path) -> None:
    """Every line has its answer under its custom_id; times, counts and metadata are as in the API."""
    async with client_of(origin, mount) as client:
        file = await put(client, chat_lines(50))
        made = await client.batches.create(
            input_file_id=file, endpoint=CHAT, completion_window="24h", metadata={"run": "7"}
        )
        assert made.id.startswith("batches/")
        assert (made.object, made.endpoint, made.input_file_id) == ("batch", CHAT, file)
        batch = await ended(client, made)
        assert batch.status == "completed"
        assert batch.metadata == {"run": "7"}
        assert batch.model == "m-1"
        assert batch.errors is None
        assert batch.error_file_id is None
        assert batch.request_counts and batch.request_counts.model_dump() == {"total": 50, "completed": 50, "failed": 0}
        times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at, batch.expires_at]
        assert times == sorted(at for at in times if at)
        assert batch.expires_at == batch.created_at + 24 * 3600
        assert batch.output_file_id
        output = await client.files.retrieve(batch.output_file_id)
        assert output.purpose == "batch_output"
        found = await rows(client, batch.output_file_id)
        assert [row["custom_id"] for row in found] == [f"r{at}" for at in range(50)]
        assert [_text(row) for row in found] == [f"hello {at}" for at in range(50)]
        assert {row["error"] for row in found} == {None}
        assert len({str(row["id"]) for row in found}) == 50
        await client.files.delete(batch.output_file_id)
    assert [fact["what"] for fact in truth(tmp_path / "service")][1:3] == ["batch_created", "batch_finished"]


def _text(row: Any) -> object:
    response = row["response"]
    assert response["status_code"] == 200
    assert response["request_id"]
    assert response["body"]["object"] == "chat.completion"
    return response["body"]["choices"][0]["message"]["content"]


async def test_embeddings_batch(origin: str) -> None:
    """Lists of texts, dimensions, single texts: one vector per text, in order."""
    bodies = [
        {"model": "e", "input": ["a red fox", "a blue fox"], "dimensions": 8},
        {"model": "e", "input": "a red fox", "dimensions": 8},
    ]
    data = b"".join(line(f"e{at}", EMBEDDINGS, body) for at, body in enumerate(bodies))
    async with client_of(origin) as client:
        batch = await ended(client, await start(client, data, EMBEDDINGS))
        several, one = [row["response"]["body"]["data"] for row in await rows(client, batch.output_file_id)]  # type: ignore[index]  # JSON
    assert [vector["index"] for vector in several] == [0, 1]
    assert several[0] == one[0]
    assert len(one[0]["embedding"]) == 8


async def test_bad_lines_go_to_the_error_file(origin: str) -> None:
    """An invalid request is in the error file with a status."""
    bad = line("bad", CHAT, {"model": "m-1", "messages": []})
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}
    other = line("image", CHAT, {"model": "m-1", "messages": [image]})
    async with client_of(origin) as client:
        batch = await ended(client, await start(client, chat_line("good", "hi") + bad + other))
        assert batch.status == "completed"
        assert batch.request_counts and batch.request_counts.model_dump() == {"total": 3, "completed": 1, "failed": 2}
        assert [row["custom_id"] for row in await rows(client, batch.output_file_id)] == ["good"]
        failures: Any = await rows(client, batch.error_file_id)
        assert [row["custom_id"] for row in failures] == ["bad", "image"]
        assert [row["response"]["status_code"] for row in failures] == [400, 400]
        assert failures[0]["response"]["body"]["error"]["type"] == "invalid_request_error"
        batch = await ended(client, await start(client, bad))
        assert (batch.status, batch.output_file_id) == ("completed", None)
        assert batch.error_file_id


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", [("empty_file", None, None)]),
        (b"\n \n", [("empty_file", None, None)]),
        (chat_line("a", "x") + b"{nonsense\n", [("invalid_json_line", 2, None)]),
        (b"[1]\n", [("invalid_json_line", 1, None)]),
        (chat_line("a", "\xe9").replace(b"\\u00e9", b"\xe9"), [("invalid_json_line", 1, None)]),
        (chat_line("a", "x") + b"\n" + chat_line("a", "y"), [("duplicate_custom_id", 3, None)]),
        (chat_line("a", "x") + line("b", EMBEDDINGS, {"model": "m-1"}), [("url_mismatch", 2, "url")]),
        (chat_line("a", "x") + chat_line("b", "x", "m-2"), [("model_mismatch", 2, "body.model")]),
        (chat_line("a", "x", "../m"), [("invalid_model", 1, "body.model")]),
        (chat_line("", "x"), [("missing_required_parameter", 1, "custom_id")]),
        (
            b'{"custom_id":"a","method":"GET","url":"/v1/chat/completions"}',
            [("invalid_method", 1, "method"), ("missing_required_parameter", 1, "body")],
        ),
        (b"".join(chat_line(str(at), "x") for at in range(50_002)), [("too_many_tasks", 50_001, None)]),
    ],
    ids=lambda value: value[0][0] if isinstance(value, list) else "",
)
async def test_file_that_is_not_valid(
    origin: str, data: bytes, expected: list[tuple[str, int | None, str | None]]
) -> None:
    """The batch fails with the errors of its lines, and no request is sent."""
    async with client_of(origin) as client:
        batch = await ended(client, await start(client, data))
    assert batch.status == "failed"
    assert batch.failed_at
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    assert batch.errors and batch.errors.data
    assert [(error.code, error.line, error.param) for error in batch.errors.data] == expected


async def test_too_many_texts(origin: str) -> None:
    """For embeddings the texts count, not the lines."""
    data = b"".join(line(str(at), EMBEDDINGS, {"model": "e", "input": ["x"] * 2000}) for at in range(26))
    async with client_of(origin) as client:
        batch = await ended(client, await start(client, data, EMBEDDINGS))
    assert batch.errors and batch.errors.data
    assert [(error.code, error.line) for error in batch.errors.data] == [("too_many_tasks", 26)]


async def test_reported_errors_are_bounded(origin: str) -> None:
    """A file of garbage is not read to its end."""
    async with client_of(origin) as client:
        batch = await ended(client, await start(client, b"nonsense\n" * 5000))
    assert batch.errors and batch.errors.data
    assert len(batch.errors.data) == 100


async def test_create_is_refused(origin: str) -> None:
    """Unknown files, endpoints, windows and metadata: the error names the member."""
    async with client_of(origin) as client:
        file = await put(client, chat_lines(1))
        good: dict[str, Any] = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
        for param, value in [
            ("endpoint", "/v1/videos"),
            ("completion_window", "1h"),
            ("metadata", {"k": "v" * 513}),
            ("metadata", {str(at): "v" for at in range(17)}),
        ]:
            with pytest.raises(openai.BadRequestError) as error:
                await client.batches.create(**{**good, param: value})
            assert error.value.param == param
        with pytest.raises(openai.NotFoundError) as missing:
            await client.batches.create(**{**good, "input_file_id": "files/none"})
        assert missing.value.param == "input_file_id"
        with pytest.raises(openai.BadRequestError):
            await client.batches.create(**{**good, "metadata": {"k": 1}})
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve("batches/none")
        assert [batch async for batch in client.batches.list()] == []


async def test_cancel_keeps_what_is_done(origin: str) -> None:
    """cancelling, then cancelled; each line is in one of the two files, the rest as batch_cancelled."""
    async with client_of(origin) as client:
        batch = await start(client, chat_lines(MANY))
        while batch.status == "validating":
            batch = await client.batches.retrieve(batch.id)
        batch = await client.batches.cancel(batch.id)
        assert batch.status in ("cancelling", "cancelled")
        batch = await ended(client, batch)
        assert batch.status == "cancelled"
        assert batch.cancelling_at and batch.cancelled_at
        done: Any = await rows(client, batch.output_file_id) if batch.output_file_id else []
        left: Any = await rows(client, batch.error_file_id)
        assert {row["error"]["code"] for row in left} == {"batch_cancelled"}
        assert sorted(row["custom_id"] for row in [*done, *left]) == sorted(f"r{at}" for at in range(MANY))
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(batch.id)
        with pytest.raises(openai.NotFoundError):
            await client.batches.cancel("batches/none")


@pytest.mark.parametrize("mount", MOUNTS)
def test_sync_client(origin: str, mount: str) -> None:
    """Create, poll, list over many pages and read through the sync client."""
    with OpenAI(base_url=origin + mount, api_key="any") as client:
        file = client.files.create(file=("in.jsonl", chat_lines(3)), purpose="batch")
        made = [client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h") for _ in range(5)]
        assert [batch.id for batch in client.batches.list(limit=2)] == [batch.id for batch in made][::-1]
        deadline = time.monotonic() + 100
        while (batch := client.batches.retrieve(made[-1].id)).status != "completed":
            assert time.monotonic() < deadline
        assert batch.output_file_id
        lines = client.files.content(batch.output_file_id).text.splitlines()
        assert [json.loads(row)["custom_id"] for row in lines] == ["r0", "r1", "r2"]


async def test_one_store_two_wires(origin: str) -> None:
    """A file of the Gemini wire is an input here, a batch created here is listed there; not vice versa."""
    async with client_of(origin, "/v1beta/openai") as client, ClientSession() as session:
        calls = Calls(session, origin)
        await calls.upload(chat_lines(2), name="files/mine")
        made = await client.batches.create(input_file_id="files/mine", endpoint=CHAT, completion_window="24h")
        batch = await ended(client, made)
        operation = (await calls.call("GET", f"/v1/{batch.id}")).json
        assert operation["response"]["responsesFile"] == batch.output_file_id
        assert operation["metadata"]["batchStats"]["successfulRequestCount"] == "2"
        await calls.upload(generate_lines(1), name="files/gemini-input")
        job = await calls.job("files/gemini-input")
        assert [batch.id async for batch in client.batches.list()] == [batch.id]
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve(job)
        listed = (await calls.call("GET", "/v1/batches")).json["operations"]
        assert [operation["name"] for operation in listed] == [job, batch.id]
        assert (await calls.call("DELETE", f"/v1/{batch.id}")).status == 200
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve(batch.id)
