"""The steps of the guide's Python samples, with google-genai alone and with openai."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from google.genai import types
from openai import OpenAI
from pydantic import ValidationError

from .genai_calls import EMBEDDER, MODEL, client, generate_file, inline_requests, named, result_name, texts
from .openai_clients import CHAT, chat_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google import genai

# What the package says of its embedding jobs.
pytestmark = pytest.mark.filterwarnings("ignore:.*experimental")

COMPLETED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}


@pytest.fixture
def sdk(origin: str) -> Iterator[genai.Client]:
    with client(origin) as found:
        yield found


def waited_for(sdk: genai.Client, job: types.BatchJob) -> types.BatchJob:
    """Polls by state names, as the guide does."""
    deadline = time.monotonic() + 100
    while job.state is None or job.state.name not in COMPLETED:
        assert time.monotonic() < deadline
        job = sdk.batches.get(name=named(job.name))
    return job


def test_results_of_a_file_decoded_in_memory(sdk: genai.Client, tmp_path: Path) -> None:
    """Upload with a config object, create, poll, download, read line by line."""
    config = types.UploadFileConfig(display_name="requests", mime_type="jsonl")
    file = sdk.files.upload(file=generate_file(tmp_path / "in.jsonl"), config=config)
    job = waited_for(sdk, sdk.batches.create(model=MODEL, src=named(file.name), config={"display_name": "file job"}))
    assert job.state
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    lines = sdk.files.download(file=result_name(job)).decode("utf-8").splitlines()
    parsed: list[Any] = [json.loads(line) for line in lines if line]
    found = [row["response"]["candidates"][0]["content"]["parts"][0]["text"] for row in parsed]
    assert found == ["text 0", "text 1", "text 2"]


def test_upload_from_memory(sdk: genai.Client) -> None:
    """Any reader with a MIME type is accepted."""
    line = json.dumps({"key": "k", "request": {"contents": [{"parts": [{"text": "hi"}]}]}})
    file = sdk.files.upload(file=io.BytesIO(line.encode()), config={"mime_type": "application/jsonl"})
    job = waited_for(sdk, sdk.batches.create(model=f"models/{MODEL}", src=named(file.name)))
    assert json.loads(sdk.files.download(file=result_name(job)))["key"] == "k"


def test_configured_inline_requests(sdk: genai.Client) -> None:
    """Instructions, tools and temperature under ``config``."""
    request = types.InlinedRequest(
        contents=[types.Content(role="user", parts=[types.Part(text="hi")])],
        config=types.GenerateContentConfig(
            system_instruction="Be a cat.", tools=[types.Tool(google_search=types.GoogleSearch())], temperature=0.7
        ),
    )
    job = waited_for(sdk, sdk.batches.create(model=MODEL, src=[request], config={"display_name": "inline job"}))
    assert texts(job) == ["hi"]


@pytest.mark.parametrize("extra", [{"system_instructions": "Be a cat."}, {"tools": [{"google_search": {}}]}])
def test_configuration_next_to_the_contents(sdk: genai.Client, extra: dict[str, Any]) -> None:
    """The package refuses such samples, and no job is created."""
    request: Any = {"contents": [{"parts": [{"text": "hi"}], "role": "user"}], **extra}
    with pytest.raises(ValidationError):
        sdk.batches.create(model=MODEL, src=[request])
    assert list(sdk.batches.list()) == []


def test_sdk_leaves_out_error_and_counts_of_a_job(sdk: genai.Client) -> None:
    """A job with only failed rows has succeeded."""
    job = waited_for(sdk, sdk.batches.create(model=MODEL, src=[inline_requests()[2]]))
    assert job.state is types.JobState.JOB_STATE_SUCCEEDED
    assert texts(job) == [None]
    assert (job.error, job.completion_stats) == (None, None)


def test_embeddings_with_one_config(sdk: genai.Client, tmp_path: Path) -> None:
    """A file of requests with different dimensions."""
    path = tmp_path / "in.jsonl"
    request = {"output_dimensionality": 8, "content": {"parts": [{"text": "a fox"}]}}
    path.write_text(json.dumps({"key": "request_1", "request": request}))
    file = sdk.files.upload(file=str(path), config={"mime_type": "application/json", "display_name": "texts"})
    source = types.EmbeddingsBatchJobSource(file_name=file.name)
    job = waited_for(sdk, sdk.batches.create_embeddings(model=EMBEDDER, src=source, config={"display_name": "e"}))
    row = json.loads(sdk.files.download(file=result_name(job)))
    assert len(row["response"]["embedding"]["values"]) == 8


def test_both_packages_together(sdk: genai.Client, origin: str) -> None:
    """Upload and download by google-genai, the batch itself by openai at the compatible path."""
    file = sdk.files.upload(file=io.BytesIO(chat_lines(2)), config={"mime_type": "jsonl", "display_name": "requests"})
    with OpenAI(base_url=f"{origin}/v1beta/openai/", api_key="any") as other:
        batch = other.batches.create(input_file_id=named(file.name), endpoint=CHAT, completion_window="24h")
        deadline = time.monotonic() + 100
        while batch.status not in ("completed", "failed", "cancelled", "expired"):
            assert time.monotonic() < deadline
            batch = other.batches.retrieve(batch.id)
        assert batch.id in [found.id for found in other.batches.list()]
    assert batch.status == "completed"
    rows = sdk.files.download(file=named(batch.output_file_id)).decode().splitlines()
    assert [json.loads(row)["custom_id"] for row in rows] == ["r0", "r1"]


def test_embeddings_by_openai(sdk: genai.Client, origin: str) -> None:
    """The same for vectors: another endpoint in the lines and in the batch."""
    body = {"model": EMBEDDER, "input": "a fox", "dimensions": 8}
    line = {"custom_id": "request_0", "method": "POST", "url": "/v1/embeddings", "body": body}
    file = sdk.files.upload(file=io.BytesIO(json.dumps(line).encode()), config={"mime_type": "jsonl"})
    with OpenAI(base_url=f"{origin}/v1beta/openai/", api_key="any") as other:
        batch = other.batches.create(input_file_id=named(file.name), endpoint="/v1/embeddings", completion_window="24h")
        deadline = time.monotonic() + 100
        while (batch := other.batches.retrieve(batch.id)).status != "completed":
            assert time.monotonic() < deadline
    row = json.loads(sdk.files.download(file=named(batch.output_file_id)))
    assert len(row["response"]["body"]["data"][0]["embedding"]) == 8
