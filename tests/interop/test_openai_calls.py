"""Calls of the ``openai`` package not covered elsewhere, sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest
from anyio import to_thread
from openai import OpenAI

from .genai_calls import BIG, big_file, digest
from .openai_clients import CHAT, chat_lines, client_of, put

if TYPE_CHECKING:
    from pathlib import Path


def test_100_megabytes_there_and_back(origin: str, tmp_path: Path) -> None:
    """One form, streamed from a file; a download streamed to a file."""
    path, copy = big_file(tmp_path / "big.jsonl"), tmp_path / "copy.jsonl"
    with OpenAI(base_url=f"{origin}/v1", api_key="any") as client:
        file = client.files.create(file=path, purpose="batch")
        assert file.bytes == BIG
        with client.files.with_streaming_response.content(file.id) as response:
            response.stream_to_file(copy)
    assert digest(copy) == digest(path)


async def test_100_megabytes_in_parts(origin: str, tmp_path: Path) -> None:
    """Two parts, sent by the package; a streamed download."""
    path, copy = await to_thread.run_sync(big_file, tmp_path / "big.jsonl"), tmp_path / "copy.jsonl"
    async with client_of(origin) as client:
        upload = await client.uploads.upload_file_chunked(file=path, mime_type="application/jsonl", purpose="batch")
        assert upload.file
        assert upload.file.bytes == BIG
        async with client.files.with_streaming_response.content(upload.file.id) as response:
            await response.stream_to_file(copy)
    assert await to_thread.run_sync(digest, copy) == await to_thread.run_sync(digest, path)


async def test_file_is_ready_at_once(origin: str) -> None:
    """It is processed as soon as it exists."""
    async with client_of(origin) as client:
        file = await put(client, b"x")
        assert (await client.files.wait_for_processing(file)).status == "processed"


def test_files_sync(origin: str) -> None:
    """Retrieve, wait, content, list over pages, delete."""
    with OpenAI(base_url=f"{origin}/v1", api_key="any") as client:
        made = [client.files.create(file=(f"{at}", b"x%d" % at), purpose="batch") for at in range(5)]
        assert client.files.retrieve(made[0].id) == made[0]
        assert client.files.wait_for_processing(made[0].id).status == "processed"
        assert client.files.content(made[1].id).content == b"x1"
        assert [file.id for file in client.files.list(limit=2)] == [file.id for file in made][::-1]
        client.files.delete(made[0].id)
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(made[0].id)


def test_cancel_sync(origin: str) -> None:
    """Of a batch that has not ended."""
    with OpenAI(base_url=f"{origin}/v1", api_key="any") as client:
        file = client.files.create(file=("in.jsonl", chat_lines(20_000)), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")


def test_uploads_sync(origin: str) -> None:
    """Created, sent in parts, completed; another one cancelled."""
    with OpenAI(base_url=f"{origin}/v1", api_key="any") as client:
        upload = client.uploads.create(bytes=6, filename="f", mime_type="text/plain", purpose="user_data")
        parts = [client.uploads.parts.create(upload.id, data=data).id for data in (b"abc", b"def")]
        done = client.uploads.complete(upload.id, part_ids=parts)
        assert done.file
        assert client.files.content(done.file.id).content == b"abcdef"
        other = client.uploads.create(bytes=1, filename="f", mime_type="text/plain", purpose="user_data")
        assert client.uploads.cancel(other.id).status == "cancelled"


async def test_list_of_batches_over_pages(origin: str) -> None:
    """Newest first, each once, while others are created."""
    async with client_of(origin) as client:
        file = await put(client, chat_lines(1))

        async def make() -> str:
            return (await client.batches.create(input_file_id=file, endpoint=CHAT, completion_window="24h")).id

        made = [await make() for _ in range(7)]
        first = await client.batches.list(limit=3)
        await make()
        found = [batch.id async for batch in first]
    assert found == made[::-1]
