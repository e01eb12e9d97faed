"""The published google-genai package: asynchronous client."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread
from google.genai import errors, types
from pydantic import BaseModel, TypeAdapter

from .genai_calls import (
    BIG,
    EMBEDDER,
    MODEL,
    big_file,
    client,
    credentials,
    digest,
    embed_file,
    generate_file,
    inline_requests,
    inlined,
    is_over,
    keys,
    named,
    result_name,
    texts,
    vectors,
)
from .genai_features import has, needs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from google.genai.client import AsyncClient

# The package says of its embedding jobs that they are experimental, and in older versions of a state that they do not
# know it; it makes its session in a way that aiohttp discourages, and gives it the chunks of uploads as bytes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*experimental"),
    pytest.mark.filterwarnings("ignore:BATCH_STATE_.* is not a valid JobState"),
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]


@pytest.fixture
async def sdk(origin: str) -> AsyncIterator[AsyncClient]:
    found = client(origin).aio
    async with found if has("closes") else nullcontext():
        yield found


async def ended(sdk: AsyncClient, job: types.BatchJob) -> types.BatchJob:
    with anyio.fail_after(100):
        while not is_over(job):
            job = await sdk.batches.get(name=named(job.name))
    return job


async def upload(sdk: AsyncClient, path: str, name: str | None = None) -> types.File:
    return await sdk.files.upload(file=path, config={"mime_type": "jsonl", "display_name": "in", "name": name})


async def test_job_from_a_file(sdk: AsyncClient, tmp_path: Path) -> None:
    """Upload, create, poll, download: every key is answered."""
    file = await upload(sdk, generate_file(tmp_path / "in.jsonl"))
    assert (file.state, file.mime_type) == (types.FileState.ACTIVE, "jsonl")
    job = await sdk.batches.create(model=MODEL, src=named(file.name), config={"display_name": "job-1"})
    assert (job.display_name, job.model) == ("job-1", f"models/{MODEL}")
    job = await ended(sdk, job)
    assert job.state is types.JobState.JOB_STATE_SUCCEEDED
    assert not has("knows when a job is done") or job.done
    assert keys(await sdk.files.download(file=result_name(job))) == ["k0", "k1", "k2"]


@needs("embeds in jobs")
async def test_embedding_job_from_a_file(sdk: AsyncClient, tmp_path: Path) -> None:
    """The file name is in snake_case here."""
    file = await upload(sdk, embed_file(tmp_path / "in.jsonl"))
    job = await sdk.batches.create_embeddings(model=EMBEDDER, src={"file_name": file.name})
    assert keys(await sdk.files.download(file=result_name(await ended(sdk, job)))) == ["k0", "k1", "k2"]


async def test_inline_job(sdk: AsyncClient) -> None:
    """Answers and errors are in the job with their metadata."""
    job = await ended(sdk, await sdk.batches.create(model=MODEL, src=inline_requests()))
    assert texts(job) == ["one", "two", None]
    *_, failed = rows = inlined(job)
    assert failed.error
    assert failed.error.code == (3 if has("reads errors of rows") else None)
    if has("reads metadata"):
        assert [row.metadata for row in rows] == [{"key": f"m-{at}"} for at in (1, 2, 3)]


@needs("embeds in jobs")
async def test_inline_embeddings(sdk: AsyncClient) -> None:
    """One vector of the requested dimension per text."""
    source = types.EmbeddingsBatchJobSource(
        inlined_requests=types.EmbedContentBatch(
            contents=["one", "two"], config=types.EmbedContentConfig(output_dimensionality=8)
        )
    )
    job = await ended(sdk, await sdk.batches.create_embeddings(model=EMBEDDER, src=source))
    one, other = vectors(job)
    assert (len(one), len(other)) == (8, 8)
    assert one != other


async def test_list_of_jobs_over_many_pages(sdk: AsyncClient, tmp_path: Path) -> None:
    """Newest first, each once, while others are added."""
    file = await upload(sdk, generate_file(tmp_path / "in.jsonl"))
    made = [(await sdk.batches.create(model=MODEL, src=named(file.name))).name for _ in range(25)]
    pager = await sdk.batches.list(config={"page_size": 4})
    first = [job.name for job in pager.page]
    await sdk.batches.create(model=MODEL, src=named(file.name))
    rest = [job.name async for job in pager][len(first) :]
    assert first + rest == made[::-1]


async def test_files_get_list_delete(sdk: AsyncClient, tmp_path: Path) -> None:
    """A chosen name is kept; a deleted file is forbidden, not missing."""
    path = generate_file(tmp_path / "in.jsonl")
    made = [named((await upload(sdk, path, name=f"mine-{at}")).name) for at in range(12)]
    assert made[0] == "files/mine-0"
    assert [file.name async for file in await sdk.files.list(config={"page_size": 5})] == made[::-1]
    assert (await sdk.files.get(name=made[0])).display_name == "in"
    await sdk.files.delete(name=made[0])
    with pytest.raises(errors.ClientError, match="permission") as refused:
        await sdk.files.get(name=made[0])
    assert (refused.value.code, refused.value.status) == (403, "PERMISSION_DENIED")


async def test_cancel(sdk: AsyncClient, tmp_path: Path) -> None:
    """Before the start it ends as cancelled, later as succeeded."""
    file = await upload(sdk, generate_file(tmp_path / "in.jsonl", 20_000))
    job = await sdk.batches.create(model=MODEL, src=named(file.name))
    await sdk.batches.cancel(name=named(job.name))
    job = await ended(sdk, job)
    assert job.state in (types.JobState.JOB_STATE_CANCELLED, types.JobState.JOB_STATE_SUCCEEDED)


@needs("deletes jobs")
async def test_delete(sdk: AsyncClient, tmp_path: Path) -> None:
    """A deleted job is not found, and its results are forbidden."""
    file = await upload(sdk, generate_file(tmp_path / "in.jsonl"))
    job = await ended(sdk, await sdk.batches.create(model=MODEL, src=named(file.name)))
    await sdk.batches.delete(name=named(job.name))
    with pytest.raises(errors.ClientError) as refused:
        await sdk.batches.get(name=named(job.name))
    assert refused.value.code == 404
    with pytest.raises(errors.ClientError) as forbidden:
        await sdk.files.download(file=result_name(job))
    assert forbidden.value.code == 403


async def test_results_as_a_file(sdk: AsyncClient, tmp_path: Path) -> None:
    """The result file can be found by name, listed and downloaded as an object."""
    file = await upload(sdk, generate_file(tmp_path / "in.jsonl"))
    job = await ended(sdk, await sdk.batches.create(model=MODEL, src=named(file.name)))
    results = await sdk.files.get(name=result_name(job))
    assert results.source is types.FileSource.GENERATED
    assert results.name in [file.name async for file in await sdk.files.list()]
    assert keys(await sdk.files.download(file=results)) == ["k0", "k1", "k2"]


@needs("registers files")
async def test_files_of_a_bucket(sdk: AsyncClient) -> None:
    """Not supported; the package refuses."""
    with pytest.raises(errors.ClientError) as refused:
        await sdk.files.register_files(auth=credentials(), uris=["gs://bucket/in.jsonl"])
    assert refused.value.code == 404


async def test_100_megabytes_there_and_back(sdk: AsyncClient, tmp_path: Path) -> None:
    """An upload in many chunks; a streamed download where the version supports it."""
    path = await to_thread.run_sync(big_file, tmp_path / "big.jsonl")
    file = await upload(sdk, str(path))
    assert file.size_bytes == BIG
    copy = tmp_path / "copy.jsonl"
    if has("downloads to disk"):
        await sdk.files.download(file=named(file.name), destination=copy)
    else:
        await to_thread.run_sync(copy.write_bytes, await sdk.files.download(file=named(file.name)))
    assert await to_thread.run_sync(digest, copy) == await to_thread.run_sync(digest, path)


async def test_interactive_calls(sdk: AsyncClient) -> None:
    """Generate, embed, count."""
    assert (await sdk.models.generate_content(model=MODEL, contents="hello")).text == "hello"
    found = await sdk.models.embed_content(model=EMBEDDER, contents=["one", "two"], config={"output_dimensionality": 8})
    assert found.embeddings
    assert [len(vector.values or []) for vector in found.embeddings] == [8, 8]
    assert (await sdk.models.count_tokens(model=MODEL, contents="12345678")).total_tokens == 2


async def test_upload_of_nothing(sdk: AsyncClient, tmp_path: Path) -> None:
    """A single finalizing call without content."""
    path = tmp_path / "empty.jsonl"
    path.touch()
    assert (await upload(sdk, str(path))).state is types.FileState.ACTIVE


async def test_errors_are_read(sdk: AsyncClient) -> None:
    """The exception has code, status and message."""
    with pytest.raises(errors.ClientError) as refused:
        await sdk.batches.create(model=MODEL, src="files/none")
    assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")


class Recipe(BaseModel):
    name: str
    minutes: int


async def test_schema_in_an_inline_job_is_met(sdk: AsyncClient) -> None:
    """A schema given as a class reaches the service; the answer is valid."""
    request: types.InlinedRequestDict = {
        "contents": "a cake",
        "config": {"response_mime_type": "application/json", "response_schema": list[Recipe]},
    }
    (text,) = texts(await ended(sdk, await sdk.batches.create(model=MODEL, src=[request])))
    (recipe,) = TypeAdapter(list[Recipe]).validate_json(text or "")
    assert recipe.name == "a cake"
