"""Batch jobs over real HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import ClientSession

from packtrain.server import serving

from .service_calls import Calls, blobs, generate_line, generate_lines, truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MANY = 60_000


async def test_generate_job_answers_each_line(calls: Calls, directory: Path) -> None:
    """The output is in the metadata and in the response; each line has its answer under its key."""
    file = await calls.upload(generate_lines(50), name="files/in")
    created = (await calls.create("files/in", name="tag-1")).json
    assert "done" not in created
    assert created["metadata"]["name"] == created["name"]
    assert created["metadata"]["displayName"] == "tag-1"
    assert created["metadata"]["model"] == "models/m-1"
    assert created["metadata"]["inputConfig"] == {"fileName": file["name"]}
    operation = await calls.ended(created["name"])
    meta = operation["metadata"]
    assert meta["state"] == "BATCH_STATE_SUCCEEDED"
    assert meta["batchStats"] == {"requestCount": "50", "successfulRequestCount": "50"}
    assert meta["output"]["responsesFile"] == operation["response"]["responsesFile"]
    assert meta["output"]["responsesFile"] == created["name"].replace("batches/", "files/batch-")
    assert meta["@type"].endswith(".GenerateContentBatch")
    assert operation["response"]["@type"].endswith(".GenerateContentBatchOutput")
    results = await calls.results(operation)
    assert [row["key"] for row in results] == [f"k{number}" for number in range(50)]
    assert [_text(row) for row in results] == [f"hello {number}" for number in range(50)]
    assert [line["what"] for line in truth(directory)][-2:] == ["batch_created", "batch_finished"]


def _text(row: dict[str, dict[str, list[dict[str, dict[str, list[dict[str, str]]]]]]]) -> str:
    return row["response"]["candidates"][0]["content"]["parts"][0]["text"]


async def test_embed_job_gives_vectors(calls: Calls) -> None:
    """One vector of the requested dimension per request, in either spelling."""
    camel = {"content": {"parts": [{"text": "a red fox"}]}, "outputDimensionality": 8}
    snake = {"content": {"parts": [{"text": "a red fox"}]}, "output_dimensionality": 8}
    lines = [json.dumps({"key": str(at), "request": request}) for at, request in enumerate([camel, snake])]
    await calls.upload("\n".join(lines).encode(), name="files/in")
    operation = await calls.ended(await calls.job("files/in", task="embed"))
    assert operation["metadata"]["@type"].endswith(".EmbedContentBatch")
    rows = await calls.results(operation)
    values = [row["response"]["embedding"]["values"] for row in rows]
    assert len(values[0]) == 8
    assert values[0] == values[1]


@pytest.mark.parametrize(
    "batch",
    [
        {"display_name": "d", "input_config": {"file_name": "files/in"}},
        {"displayName": "d", "inputConfig": {"file_name": "files/in"}},
        {"displayName": "d", "input_config": {"fileName": "files/in"}, "priority": "3", "unknown": [1]},
    ],
)
async def test_both_spellings_of_every_member(calls: Calls, batch: object) -> None:
    """SDKs mix camelCase and snake_case; unknown members are ignored."""
    await calls.upload(generate_lines(1), name="files/in")
    answer = await calls.call("POST", "/v1/models/m:batchGenerateContent", json={"batch": batch})
    assert answer.status == 200
    assert answer.json["metadata"]["displayName"] == "d"


async def test_job_without_a_display_name_on_a_tuned_model(calls: Calls) -> None:
    """The SDK omits an empty name."""
    await calls.upload(generate_lines(1), name="files/in")
    body = {"batch": {"inputConfig": {"fileName": "files/in"}}}
    answer = await calls.call("POST", "/v1/tunedModels/t-1:batchGenerateContent", json=body)
    assert answer.json["metadata"]["model"] == "tunedModels/t-1"
    assert "displayName" not in answer.json["metadata"]


async def test_create_without_the_file_is_refused_at_once(calls: Calls, directory: Path) -> None:
    """Also right after its deletion: deleting the input prevents the job."""
    assert (await calls.create("files/none")).error == (404, "NOT_FOUND")
    await calls.upload(generate_lines(1), name="files/in")
    await calls.call("DELETE", "/v1beta/files/in")
    assert (await calls.create("files/in")).error == (404, "NOT_FOUND")
    assert (await calls.call("GET", "/v1beta/batches")).json == {}
    assert truth(directory, "batch_created") == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"batch": 1}',
        b'{"batch": {"inputConfig": {"fileName": 5}}}',
        b'{"batch": {"inputConfig": {"requests": {"requests": []}}}}',
        b"\xff",
    ],
)
async def test_bad_bodies_are_refused(calls: Calls, body: bytes) -> None:
    """400 with the reason, in Google's format."""
    answer = await calls.call("POST", "/v1/models/m:batchGenerateContent", data=body)
    assert answer.error == (400, "INVALID_ARGUMENT")


async def test_large_json_body_is_refused(calls: Calls) -> None:
    """20 MiB is the limit, with the real service's text, also without a declared length."""
    path, body = "/v1/models/m:batchGenerateContent", b" " * (20 * 2**20 + 1)
    answer = await calls.call("POST", path, data=body)
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert answer.json["error"]["message"] == "Request payload size exceeds the limit: 20971520 bytes."
    assert (await calls.call("POST", path, data=_pieces(body))).error == (400, "INVALID_ARGUMENT")


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 2**20):
        yield body[at : at + 2**20]


async def test_bad_lines_fail_alone(calls: Calls) -> None:
    """Each has an error of code 3 under its key if it has one; the others are answered; blank lines are skipped."""
    good = generate_line("good", "x")
    bad = [
        b"nonsense\n",
        b'{"key": 5, "request": {}}\n',
        b'{"key": "no-request"}\n',
        b'{"key": "no-contents", "request": {}}\n',
        b'{"key": "\xff", "request": {}}\n',
        b'{"key": "deep", "request": {"contents": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}\n",
    ]
    await calls.upload(b"\n".join(bad) + b"\n  \n" + good.strip(), name="files/in")
    operation = await calls.ended(await calls.job("files/in"))
    assert operation["metadata"]["batchStats"] == {
        "requestCount": "7",
        "successfulRequestCount": "1",
        "failedRequestCount": "6",
    }
    rows = await calls.results(operation)
    assert [row.get("key") for row in rows[:4]] == [None, None, "no-request", "no-contents"]
    assert {row["error"]["code"] for row in rows[:-1]} == {3}
    assert rows[-1]["key"] == "good"
    assert _text(rows[-1]) == "x"


async def test_keys_come_back_byte_for_byte(calls: Calls) -> None:
    """Escapes, newlines and quotes in keys: the JSON text of the key is copied, not re-encoded."""
    keys = [r'"\u00e9"', '"é"', r'"a\"b\n"', r'"\ud83d\ude00"', '""']
    request = b'"request": {"contents": [{"parts": [{"text": "x"}]}]}'
    await calls.upload(b"".join(b'{"key": %b, %b}\n' % (key.encode(), request) for key in keys), name="files/in")
    operation = await calls.ended(await calls.job("files/in"))
    name = operation["response"]["responsesFile"]
    body = (await calls.call("GET", f"/v1beta/{name}:download")).body
    assert [line.rpartition(b'"key":')[2] for line in body.splitlines()] == [key.encode() + b"}" for key in keys]


async def test_list_newest_first_is_stable_while_jobs_are_added(calls: Calls) -> None:
    """Pages of the requested size; each old job exactly once, although new ones are added."""
    await calls.upload(generate_lines(1), name="files/in")
    jobs = [await calls.job("files/in", name=f"tag-{number}") for number in range(25)]
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page = (await calls.call("GET", f"/v1beta/batches?pageSize=10&pageToken={token}")).json
        seen += [operation["name"] for operation in page["operations"]]
        await calls.job("files/in")
        token = page.get("nextPageToken", "")
    assert not token
    assert seen == jobs[::-1]
    assert len((await calls.call("GET", "/v1beta/batches")).json["operations"]) == 10
    assert len((await calls.call("GET", "/v1beta/batches?pageSize=1000")).json["operations"]) == 28


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("DELETE", ""), ("POST", ":cancel")])
async def test_unknown_batch_is_not_found(calls: Calls, method: str, suffix: str) -> None:
    """Unlike a file, which is forbidden."""
    assert (await calls.call(method, f"/v1beta/batches/none{suffix}")).error == (404, "NOT_FOUND")


async def test_cancel_before_the_start(directory: Path) -> None:
    """CANCELLED with code 13, no output, and it never runs."""
    async with serving(directory, workers=0) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        await calls.upload(generate_lines(3), name="files/in")
        job = await calls.job("files/in")
        assert (await calls.call("POST", f"/v1beta/{job}:cancel")).json == {}
        operation = await calls.ended(job)
        assert operation["metadata"]["state"] == "BATCH_STATE_CANCELLED"
        assert operation["error"]["code"] == 13
        assert "response" not in operation
        assert (await calls.call("POST", f"/v1beta/{job}:cancel")).json == {}
    facts = [line["what"] for line in truth(directory)]
    assert facts[-2:] == ["batch_cancelled", "batch_finished"]


async def test_cancel_during_the_run(calls: Calls) -> None:
    """SUCCEEDED: finished rows are delivered, each unserved one has ``{"code": 1}``, none is missing."""
    await calls.upload(generate_lines(MANY, "x" * 200), name="files/in")
    job = await calls.job("files/in")
    await calls.until(job, lambda operation: operation["metadata"]["state"] == "BATCH_STATE_RUNNING")
    await calls.call("POST", f"/v1beta/{job}:cancel")
    operation = await calls.ended(job)
    assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    rows = await calls.results(operation)
    assert [row["key"] for row in rows] == [f"k{number}" for number in range(MANY)]
    served = sum("response" in row for row in rows)
    assert 0 < served < MANY
    assert [row["error"] for row in rows[served:]] == [{"code": 1}] * (MANY - served)
    assert operation["metadata"]["batchStats"]["failedRequestCount"] == str(MANY - served)


async def test_delete_removes_the_output_too(calls: Calls, directory: Path) -> None:
    """The job is gone, and so is its result; the input stays."""
    await calls.upload(generate_lines(3), name="files/in")
    operation = await calls.ended(await calls.job("files/in"))
    result = operation["response"]["responsesFile"]
    assert (await calls.call("DELETE", f"/v1beta/{result}")).error[0] == 400
    assert (await calls.call("DELETE", f"/v1beta/{operation['name']}")).json == {}
    assert (await calls.call("GET", f"/v1beta/{operation['name']}")).error[0] == 404
    assert (await calls.call("GET", f"/v1beta/{result}")).error[0] == 403
    assert len(blobs(directory)) == 1
    assert [line["result"] for line in truth(directory, "batch_deleted")] == [result]


async def test_delete_stops_a_running_job(calls: Calls, directory: Path) -> None:
    """No output is created, and its bytes are removed."""
    await calls.upload(generate_lines(MANY, "x" * 200), name="files/in")
    job = await calls.job("files/in")
    await calls.until(job, lambda operation: operation["metadata"]["state"] == "BATCH_STATE_RUNNING")
    await calls.call("DELETE", f"/v1beta/{job}")
    with anyio.fail_after(100):
        while len(await anyio.to_thread.run_sync(blobs, directory)) > 1:
            await calls.call("GET", "/v1beta/batches")
    assert truth(directory, "batch_finished") == []


async def test_live_job_keeps_its_input(directory: Path) -> None:
    """Deleting the input file hides it; the job still reads it, even after a restart; then the bytes are removed."""
    async with ClientSession() as session:
        async with serving(directory, workers=0) as origin:
            calls = Calls(session, origin)
            await calls.upload(generate_lines(100), name="files/in")
            job = await calls.job("files/in")
            assert (await calls.call("DELETE", "/v1beta/files/in")).status == 200
        async with serving(directory) as origin:
            calls = Calls(session, origin)
            operation = await calls.ended(job)
            assert operation["metadata"]["batchStats"]["successfulRequestCount"] == "100"
    assert len(blobs(directory)) == 1


async def test_many_jobs_all_end(calls: Calls) -> None:
    """More jobs than workers: each runs once, in turn."""
    await calls.upload(generate_lines(10), name="files/in")
    jobs = [await calls.job("files/in") for _ in range(30)]
    states = {(await calls.ended(job))["metadata"]["state"] for job in jobs}
    assert states == {"BATCH_STATE_SUCCEEDED"}


@pytest.mark.parametrize("path", ["/", "/v1beta", "/v2/batches", "/v1beta/batches/a/b", "/v1beta/models/m:generate"])
async def test_unknown_routes_are_not_found(calls: Calls, path: str) -> None:
    """Also in Google's format."""
    assert (await calls.call("GET", path)).error == (404, "NOT_FOUND")
