"""Interactive calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .service_calls import generate_line

if TYPE_CHECKING:
    from .service_calls import Answer, Calls


def contents(*texts: str) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": [{"text": text}]} for text in texts]


async def ask(calls: Calls, verb: str, body: object, version: str = "v1beta") -> Answer:
    return await calls.call("POST", f"/{version}/models/m-1:{verb}", json=body)


async def test_generate_answers_as_a_job_does(calls: Calls) -> None:
    """The same request has the same answer, interactive or in a job, in every version."""
    await calls.upload(generate_line("k", "hello"), name="files/in")
    (row,) = await calls.results(await calls.ended(await calls.job("files/in")))
    for version in ("v1", "v1beta", "v1alpha"):
        answer = await ask(calls, "generateContent", {"contents": contents("hello")}, version)
        assert answer.status == 200
        assert answer.json["candidates"] == row["response"]["candidates"]


async def test_embeddings_one_or_many(calls: Calls) -> None:
    """One content one vector; several requests several, in their order."""
    one = {"content": {"parts": [{"text": "a red fox"}]}, "outputDimensionality": 8}
    other = {"content": {"parts": [{"text": "a blue bird"}]}, "output_dimensionality": 8}
    vectors = [(await ask(calls, "embedContent", request)).json["embedding"] for request in (one, other)]
    assert [len(vector["values"]) for vector in vectors] == [8, 8]
    both = await ask(calls, "batchEmbedContents", {"requests": [one, other]})
    assert both.json == {"embeddings": vectors}


async def test_count_tokens(calls: Calls) -> None:
    """Of all contents, given at the top or inside a request."""
    body = {"contents": contents("12345678", "1234")}
    assert (await ask(calls, "countTokens", body)).json == {"totalTokens": 3}
    assert (await ask(calls, "countTokens", {"generate_content_request": body})).json == {"totalTokens": 3}


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("generateContent", {}),
        ("generateContent", {"contents": 1}),
        ("embedContent", {"content": {"parts": []}}),
        ("batchEmbedContents", {}),
        ("batchEmbedContents", {"requests": [{"content": {"parts": [{"text": "x"}]}}] * 101}),
        ("batchEmbedContents", {"requests": [{"content": {"parts": [{"text": "x"}]}}, {}]}),
        ("countTokens", []),
        ("countTokens", {"contents": "x"}),
    ],
)
async def test_invalid_calls_are_refused(calls: Calls, verb: str, body: object) -> None:
    """The error of a row is the error of the call."""
    assert (await ask(calls, verb, body)).error == (400, "INVALID_ARGUMENT")
