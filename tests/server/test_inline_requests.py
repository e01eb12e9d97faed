"""Jobs with inline requests, over real HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from packtrain.server import serving

from .service_calls import Answer, Calls, blobs, generate_lines, truth

if TYPE_CHECKING:
    from pathlib import Path

GENERATE, EMBED = "batchGenerateContent", "asyncBatchEmbedContent"


def prompt(text: str) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


async def create(calls: Calls, requests: list[Any], method: str = GENERATE) -> Answer:
    batch = {"displayName": "inline-job", "inputConfig": {"requests": {"requests": requests}}}
    body = json.dumps({"batch": batch}).encode()
    return await calls.call("POST", f"/v1beta/models/m-1:{method}", data=body)


async def ended(calls: Calls, requests: list[Any], method: str = GENERATE) -> Any:
    created = await create(calls, requests, method)
    assert created.status == 200, created.body
    return await calls.ended(created.json["name"])


async def test_results_appear_twice_in_the_job(calls: Calls, directory: Path) -> None:
    """Nested, in metadata.output and in response; metadata is unchanged; no file is listed."""
    requests = [{"request": prompt("one"), "metadata": {"key": "m-1", "n": 1}}, {"request": prompt("zwei: \u00e4")}]
    operation = await ended(calls, requests)
    meta = operation["metadata"]
    assert meta["batchStats"] == {"requestCount": "2", "successfulRequestCount": "2"}
    assert "inputConfig" not in meta or not meta["inputConfig"]
    assert meta["@type"].endswith(".GenerateContentBatch")
    assert operation["response"].pop("@type").endswith(".GenerateContentBatchOutput")
    assert operation["response"] == meta["output"]
    rows = meta["output"]["inlinedResponses"]["inlinedResponses"]
    assert [row.get("metadata") for row in rows] == [{"key": "m-1", "n": 1}, None]
    texts = [row["response"]["candidates"][0]["content"]["parts"][0]["text"] for row in rows]
    assert texts == ["one", "zwei: \u00e4"]
    assert (await calls.call("GET", "/v1beta/files")).json == {}
    assert [line["file"] for line in truth(directory, "batch_created")] == [""]


async def test_embeddings_inline(calls: Calls) -> None:
    """One request, one vector, in their order."""
    requests = [{"request": {"content": {"parts": [{"text": text}]}, "outputDimensionality": 8}} for text in "abc"]
    operation = await ended(calls, requests, EMBED)
    assert operation["metadata"]["@type"].endswith(".EmbedContentBatch")
    rows = operation["response"]["inlinedResponses"]["inlinedResponses"]
    assert [len(row["response"]["embedding"]["values"]) for row in rows] == [8, 8, 8]
    assert {row["response"]["tokenCount"] for row in rows} == {"1"}


async def test_row_errors_have_no_details(calls: Calls) -> None:
    """A code, a message and the metadata: the official SDK cannot read a job with more in it."""
    operation = await ended(calls, [{"request": {}, "metadata": {"key": "bad"}}, {"request": prompt("good")}])
    bad, good = operation["response"]["inlinedResponses"]["inlinedResponses"]
    assert bad["metadata"] == {"key": "bad"}
    assert set(bad["error"]) == {"code", "message"}
    assert bad["error"]["code"] == 3
    assert "response" in good
    assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"


async def test_list_leaves_inline_results_out(calls: Calls) -> None:
    """It names the result files of other jobs."""
    await ended(calls, [{"request": prompt("one")}])
    await calls.upload(generate_lines(1), name="files/in")
    await calls.ended(await calls.job("files/in"))
    newest, older = (await calls.call("GET", "/v1beta/batches")).json["operations"]
    assert newest["response"]["responsesFile"]
    assert older["done"]
    assert "response" not in older
    assert "output" not in older["metadata"]


async def test_snake_case_and_text_over_several_lines(calls: Calls) -> None:
    """The layout of the JSON does not matter."""
    batch = {"batch": {"display_name": "d", "input_config": {"requests": {"requests": [{"request": prompt("a\nb")}]}}}}
    body = json.dumps(batch, indent=4).encode()
    created = await calls.call("POST", f"/v1/models/m:{GENERATE}", data=body)
    operation = await calls.ended(created.json["name"])
    (row,) = operation["response"]["inlinedResponses"]["inlinedResponses"]
    assert row["response"]["candidates"][0]["content"]["parts"][0]["text"] == "a\nb"


@pytest.mark.parametrize(
    "requests",
    [[], [1], [{}], [{"request": 1}], [{"request": None}], [{"request": {}, "metadata": 1}]],
)
async def test_invalid_request_lists_are_refused(calls: Calls, directory: Path, requests: Any) -> None:
    """No job is created, and no bytes are left behind."""
    answer = await create(calls, [{"request": prompt("x")}, *requests] if requests else requests)
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert (await calls.call("GET", "/v1beta/batches")).json == {}
    assert blobs(directory) == []


async def test_deep_requests_are_refused(calls: Calls) -> None:
    """Not with an internal error."""
    deep = b"[" * 100_000 + b"]" * 100_000
    body = b'{"batch":{"inputConfig":{"requests":{"requests":[{"request":{"contents":%b}}]}}}}' % deep
    assert (await calls.call("POST", f"/v1/models/m:{GENERATE}", data=body)).error == (400, "INVALID_ARGUMENT")


async def test_file_and_requests_together_are_refused(calls: Calls) -> None:
    """Only one of the two is allowed."""
    await calls.upload(generate_lines(1), name="files/in")
    config = {"fileName": "files/in", "requests": {"requests": [{"request": prompt("x")}]}}
    answer = await calls.call("POST", f"/v1/models/m:{GENERATE}", json={"batch": {"inputConfig": config}})
    assert answer.error == (400, "INVALID_ARGUMENT")


async def test_nearly_20_megabytes_inline(calls: Calls) -> None:
    """All come back once, with their metadata."""
    count = 19
    requests = [{"request": prompt("x" * 1_000_000), "metadata": {"key": str(at)}} for at in range(count)]
    operation = await ended(calls, requests)
    rows = operation["response"]["inlinedResponses"]["inlinedResponses"]
    assert [row["metadata"]["key"] for row in rows] == [str(at) for at in range(count)]


async def test_restart_and_delete(directory: Path) -> None:
    """A pending job survives a restart; its delete removes input and output."""
    async with ClientSession() as session:
        async with serving(directory, workers=0) as origin:
            job = (await create(Calls(session, origin), [{"request": prompt("x")}])).json["name"]
        async with serving(directory) as origin:
            calls = Calls(session, origin)
            operation = await calls.ended(job)
            assert operation["metadata"]["batchStats"]["successfulRequestCount"] == "1"
            assert (await calls.call("DELETE", f"/v1beta/{job}")).json == {}
            assert (await calls.call("GET", f"/v1beta/{job}")).error[0] == 404
    assert blobs(directory) == []
