"""Uploads in parts, through the ``openai`` package."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import openai
import pytest
from openai import OpenAI

from tests.server.service_calls import blobs

from .openai_clients import MOUNTS, chat_lines, client_of, ended

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 12_000


@pytest.mark.parametrize("mount", MOUNTS)
def test_sdk_uploads_in_parts(origin: str, mount: str, tmp_path: Path) -> None:
    """upload_file_chunked splits, sends and completes with the MD5; the content is the same."""
    source = tmp_path / "data.bin"
    source.write_bytes(DATA)
    with OpenAI(base_url=origin + mount, api_key="any") as client:
        upload = client.uploads.upload_file_chunked(
            file=source,
            mime_type="application/octet-stream",
            purpose="user_data",
            part_size=1_000_000,
            md5=hashlib.md5(DATA, usedforsecurity=False).hexdigest(),
        )
        assert upload.status == "completed"
        assert upload.file
        assert (upload.file.bytes, upload.file.filename) == (len(DATA), "data.bin")
        assert client.files.content(upload.file.id).content == DATA
    assert len(blobs(tmp_path / "service")) == 1


@pytest.mark.parametrize("mount", MOUNTS)
async def test_parts_in_the_requested_order(origin: str, mount: str) -> None:
    """part_ids gives the order; a repeated completion returns the same file."""
    async with client_of(origin, mount) as client:
        upload = await client.uploads.create(bytes=6, filename="f", mime_type="text/plain", purpose="user_data")
        assert upload.status == "pending"
        assert upload.expires_at == upload.created_at + 3600
        second = await client.uploads.parts.create(upload.id, data=b"def")
        first = await client.uploads.parts.create(upload.id, data=b"abc")
        await client.uploads.parts.create(upload.id, data=b"unused")
        done = await client.uploads.complete(upload.id, part_ids=[first.id, second.id])
        again = await client.uploads.complete(upload.id, part_ids=[first.id, second.id])
        assert done == again
        assert done.file
        assert (await client.files.content(done.file.id)).content == b"abcdef"


async def test_completions_that_are_refused(origin: str) -> None:
    """Parts of other uploads, repeated parts, missing bytes, another MD5; the upload can still be completed."""
    async with client_of(origin) as client:
        upload = await client.uploads.create(bytes=6, filename="f", mime_type="text/plain", purpose="user_data")
        other = await client.uploads.create(bytes=6, filename="f", mime_type="text/plain", purpose="user_data")
        part = await client.uploads.parts.create(upload.id, data=b"abc")
        foreign = await client.uploads.parts.create(other.id, data=b"def")
        for ids in ([part.id, foreign.id], [part.id, part.id], [part.id], []):
            with pytest.raises(openai.BadRequestError) as error:
                await client.uploads.complete(upload.id, part_ids=ids)
            assert error.value.param == "part_ids"
        last = await client.uploads.parts.create(upload.id, data=b"def")
        with pytest.raises(openai.BadRequestError) as error:
            await client.uploads.complete(upload.id, part_ids=[part.id, last.id], md5="0" * 32)
        assert error.value.param == "md5"
        done = await client.uploads.complete(upload.id, part_ids=[part.id, last.id])
        assert done.status == "completed"


async def test_cancelled_upload(origin: str, tmp_path: Path) -> None:
    """Its blobs are removed; further calls are refused."""
    async with client_of(origin) as client:
        upload = await client.uploads.create(bytes=3, filename="f", mime_type="text/plain", purpose="user_data")
        part = await client.uploads.parts.create(upload.id, data=b"abc")
        assert (await client.uploads.cancel(upload.id)).status == "cancelled"
        with pytest.raises(openai.BadRequestError):
            await client.uploads.complete(upload.id, part_ids=[part.id])
        with pytest.raises(openai.BadRequestError):
            await client.uploads.parts.create(upload.id, data=b"abc")
        with pytest.raises(openai.NotFoundError):
            await client.uploads.cancel("upload_none")
        with pytest.raises(openai.BadRequestError) as error:
            await client.uploads.create(bytes=9 * 10**9, filename="f", mime_type="t", purpose="user_data")
        assert error.value.param == "bytes"
    assert blobs(tmp_path / "service") == []


async def test_batch_of_a_file_in_parts(origin: str) -> None:
    """A batch accepts it like any other file."""
    data = chat_lines(100)
    async with client_of(origin) as client:
        upload = await client.uploads.create(
            bytes=len(data), filename="in.jsonl", mime_type="application/jsonl", purpose="batch"
        )
        parts = [
            await client.uploads.parts.create(upload.id, data=data[at : at + 5000]) for at in range(0, len(data), 5000)
        ]
        done = await client.uploads.complete(upload.id, part_ids=[part.id for part in parts])
        assert done.file
        batch = await client.batches.create(
            input_file_id=done.file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        batch = await ended(client, batch)
        assert batch.request_counts and batch.request_counts.completed == 100
