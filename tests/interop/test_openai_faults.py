"""Injected faults on the OpenAI wire, seen by the ``openai`` package."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI

from packtrain.server import serving
from packtrain.testing import Drop, Edit, Expire, FaultPlan, List, Results, Status, Truncate
from tests.server.service_calls import truth

from .openai_clients import CHAT, chat_lines, ended, put, rows, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CREATE = "openai.batches.create"
CONTENT = "openai.files.content"


@asynccontextmanager
async def client_of(directory: Path, *rules: Any, max_retries: int = 0) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(directory, faults=FaultPlan(rules=rules)) as origin,
        AsyncOpenAI(base_url=f"{origin}/v1", api_key="any", max_retries=max_retries) as client,
    ):
        yield client


@pytest.mark.parametrize(("acted", "jobs"), [(False, 0), (True, 1)])
async def test_a_create_is_dropped_before_or_after_it_is_acted_on(tmp_path: Path, acted: bool, jobs: int) -> None:
    """The client sees the same; the log shows what happened."""
    async with client_of(tmp_path, Drop(route=CREATE, calls=(1,), acted=acted)) as client:
        with pytest.raises(openai.APIConnectionError):
            await start(client, chat_lines(1))
    assert len(truth(tmp_path, "batch_created")) == jobs
    (fault,) = truth(tmp_path, "fault")
    assert (fault["do"], fault["route"]) == ("drop", CREATE)


async def test_sdk_repeats_a_create_after_a_lost_response(tmp_path: Path) -> None:
    """By default: two batches for one call."""
    async with client_of(tmp_path, Drop(route=CREATE, calls=(1,), acted=True), max_retries=2) as client:
        batch = await start(client, chat_lines(1))
    made = [fact["name"] for fact in truth(tmp_path, "batch_created")]
    assert len(made) == 2
    assert made[1] == batch.id


async def test_status_has_the_format_of_this_wire(tmp_path: Path) -> None:
    """The package reads its message."""
    async with client_of(tmp_path, Status(route="openai.*", status=429, message="Too much.", times=1)) as client:
        with pytest.raises(openai.RateLimitError) as error:
            await put(client, b"x")
        assert error.value.body == {"message": "Too much.", "type": error.value.type, "param": None, "code": None}
        assert await put(client, b"x")


async def test_a_download_is_cut(tmp_path: Path) -> None:
    """The package notices it only with the length."""
    rules = [Truncate(route=CONTENT, at=3, calls=(1,)), Truncate(route=CONTENT, at=3, calls=(2,), length=False)]
    async with client_of(tmp_path, *rules) as client:
        file = await put(client, b"abcdef")
        with pytest.raises(openai.APIConnectionError):
            await client.files.content(file)
        assert (await client.files.content(file)).content == b"abc"
        assert (await client.files.content(file)).content == b"abcdef"


async def test_h8_metadata_does_not_come_back(tmp_path: Path) -> None:
    """A member is removed from every response with a batch."""
    async with client_of(tmp_path, Edit(route="openai.batches.*", member="metadata")) as client:
        file = await put(client, chat_lines(1))
        batch = await client.batches.create(
            input_file_id=file, endpoint=CHAT, completion_window="24h", metadata={"run": "7"}
        )
        assert (await ended(client, batch)).metadata is None


async def test_lists_are_empty_or_endless(tmp_path: Path) -> None:
    """Items are missing, and pages do not end."""
    rules = [List(route="openai.batches.list", how="empty", calls=(1,)), List(route="openai.files.list", how="looping")]
    async with client_of(tmp_path, *rules) as client:
        batch = await start(client, chat_lines(1))
        assert [found async for found in client.batches.list()] == []
        assert [found.id async for found in client.batches.list()] == [batch.id]
        assert (await client.files.list()).has_more


async def test_file_expires_before_the_create(tmp_path: Path) -> None:
    """The batch is refused."""
    async with client_of(tmp_path, Expire(route=CREATE)) as client:
        with pytest.raises(openai.NotFoundError):
            await start(client, chat_lines(1))
    assert truth(tmp_path, "file_deleted")[0]["reason"] == "expired"


@pytest.mark.parametrize(
    ("how", "ids"),
    [
        ("reversed", ["r2", "r1", "r0"]),
        ("missing", ["r1", "r2"]),
        ("repeated", ["r0", "r1", "r2", "r0"]),
        ("conflicting", ["r0", "r0", "r1", "r2"]),
        ("unknown", ["nobody-asked", "r0", "r1", "r2"]),
    ],
)
async def test_results_are_changed_on_the_disk(tmp_path: Path, how: Any, ids: list[str]) -> None:
    """The rows keep the format of this wire."""
    async with client_of(tmp_path, Results(route=CONTENT, how=how)) as client:
        batch = await ended(client, await start(client, chat_lines(3)))
        found = await rows(client, batch.output_file_id)
    assert [row["custom_id"] for row in found] == ids
    assert [row["error"] is None for row in found] == [how != "conflicting", *[True] * (len(ids) - 1)]
