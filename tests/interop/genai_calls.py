"""Shared clients and inputs of the google-genai tests."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from google import genai
from google.oauth2.credentials import Credentials

from .genai_features import has

if TYPE_CHECKING:
    from pathlib import Path

    from google.genai import types

MODEL = "gemini-2.5-flash"
EMBEDDER = "gemini-embedding-001"
BIG = 100_000_000
ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}


def client(origin: str) -> genai.Client:
    return genai.Client(api_key="any", http_options={"base_url": origin})


def credentials() -> Credentials:
    return Credentials(token="any")  # type: ignore[no-untyped-call]  # the package has no types


def generate_file(path: Path, count: int = 3) -> str:
    return _written(path, "contents", lambda text: [{"parts": [{"text": text}]}], count)


def embed_file(path: Path, count: int = 3) -> str:
    return _written(path, "content", lambda text: {"parts": [{"text": text}]}, count)


def _written(path: Path, member: str, value: Any, count: int) -> str:
    rows = [{"key": f"k{at}", "request": {member: value(f"text {at}")}} for at in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def big_file(path: Path) -> Path:
    """Incompressible bytes."""
    path.write_bytes(os.urandom(BIG))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inline_requests() -> list[types.InlinedRequestDict]:
    requests: list[types.InlinedRequestDict] = [
        {"contents": [{"parts": [{"text": "one"}], "role": "user"}]},
        {
            "contents": [{"parts": [{"text": "two"}], "role": "user"}],
            "config": {"system_instruction": {"parts": [{"text": "be a cat"}]}, "temperature": 0.2},
        },
        {"config": {"temperature": 0.2}},  # contents are missing
    ]
    if has("sends metadata"):
        for number, request in enumerate(requests, start=1):
            request["metadata"] = {"key": f"m-{number}"}
    return requests


def vectors(job: types.BatchJob) -> list[list[float]]:
    assert job.dest
    assert job.dest.inlined_embed_content_responses
    return [_values(row) for row in job.dest.inlined_embed_content_responses]


def _values(row: types.InlinedEmbedContentResponse) -> list[float]:
    assert row.response
    assert row.response.embedding
    assert row.response.embedding.values
    return row.response.embedding.values


def keys(data: bytes | None) -> list[str]:
    assert data is not None
    return [json.loads(line)["key"] for line in data.splitlines()]


def is_over(job: types.BatchJob) -> bool:
    return state(job) in ENDED


def state(job: types.BatchJob) -> str:
    """The state as newer versions report it; older ones pass some raw values on."""
    return named(job.state).replace("BATCH_", "JOB_")


def inlined(job: types.BatchJob) -> list[types.InlinedResponse]:
    assert job.dest
    assert job.dest.inlined_responses
    return job.dest.inlined_responses


def texts(job: types.BatchJob) -> list[str | None]:
    return [row.response.text if row.response else None for row in inlined(job)]


def result_name(job: types.BatchJob) -> str:
    assert job.dest
    assert job.dest.file_name
    return job.dest.file_name


def named(value: str | None) -> str:
    assert value
    return value
