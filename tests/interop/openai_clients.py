"""Clients of the ``openai`` package for both base paths of the OpenAI wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal

import anyio
from openai import AsyncOpenAI

if TYPE_CHECKING:
    from openai.types import Batch

MOUNTS = ("/v1", "/v1beta/openai")
CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
Endpoint = Literal["/v1/chat/completions", "/v1/embeddings"]


def client_of(origin: str, mount: str = "/v1") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=origin + mount, api_key="any")


def chat_line(custom_id: str, text: str, model: str = "m-1") -> bytes:
    body = {"model": model, "messages": [{"role": "system", "content": "Echo."}, {"role": "user", "content": text}]}
    return line(custom_id, CHAT, body)


def line(custom_id: str, url: str, body: object) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode() + b"\n"


def chat_lines(count: int) -> bytes:
    return b"".join(chat_line(f"r{number}", f"hello {number}") for number in range(count))


async def put(client: AsyncOpenAI, data: bytes) -> str:
    return (await client.files.create(file=("in.jsonl", data), purpose="batch")).id


async def start(client: AsyncOpenAI, data: bytes, endpoint: Endpoint = CHAT) -> Batch:
    file = await put(client, data)
    return await client.batches.create(input_file_id=file, endpoint=endpoint, completion_window="24h")


async def ended(client: AsyncOpenAI, batch: Batch) -> Batch:
    with anyio.fail_after(100):
        while True:
            batch = await client.batches.retrieve(batch.id)
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch


async def rows(client: AsyncOpenAI, file: str | None) -> list[dict[str, object]]:
    assert file
    content = await client.files.content(file)
    return [json.loads(row) for row in content.text.splitlines()]
