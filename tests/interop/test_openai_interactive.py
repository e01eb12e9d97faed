"""Chat completions and embeddings, through the ``openai`` package."""

from __future__ import annotations

import math

import openai
import pytest
from openai import OpenAI

from .openai_clients import MOUNTS, client_of


@pytest.mark.parametrize("mount", MOUNTS)
async def test_chat(origin: str, mount: str) -> None:
    """Echo answers with the text of the last message, in any format."""
    async with client_of(origin, mount) as client:
        answer = await client.chat.completions.create(
            model="m-1",
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "second"},
                {"role": "user", "content": [{"type": "text", "text": "th"}, {"type": "text", "text": "ird"}]},
            ],
            temperature=0.5,
            max_completion_tokens=100,
            stop=["x"],
        )
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "third", "stop")
    assert (answer.object, answer.model) == ("chat.completion", "m-1")
    assert answer.id.startswith("chatcmpl-")
    assert answer.usage and answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("mount", MOUNTS)
async def test_embeddings(origin: str, mount: str) -> None:
    """One unit vector per text, in order, equal as floats and as base64."""
    async with client_of(origin, mount) as client:
        packed = await client.embeddings.create(model="e", input=["red fox", "blue whale"], dimensions=16)
        plain = await client.embeddings.create(
            model="e", input=["red fox", "blue whale"], dimensions=16, encoding_format="float"
        )
        one = await client.embeddings.create(model="e", input="red fox", dimensions=16)
    assert [vector.index for vector in packed.data] == [0, 1]
    for vector, other in zip(packed.data, plain.data, strict=True):
        assert len(vector.embedding) == 16
        assert math.isclose(math.hypot(*vector.embedding), 1, abs_tol=1e-4)
        assert vector.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert one.data[0].embedding == packed.data[0].embedding
    assert packed.usage.prompt_tokens > 0


def test_sync_client(origin: str) -> None:
    """The same through the sync client, its raw and its streaming responses."""
    with OpenAI(base_url=f"{origin}/v1", api_key="any") as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert raw.headers["x-request-id"].startswith("req_")
        assert raw.parse().choices[0].message.content == "hi"
        with client.embeddings.with_streaming_response.create(model="e", input="fox") as response:
            assert len(response.parse().data[0].embedding) == 256


async def test_invalid_requests(origin: str) -> None:
    """400 in OpenAI's format, so that the SDK raises BadRequestError."""
    async with client_of(origin) as client:
        with pytest.raises(openai.BadRequestError) as error:
            await client.chat.completions.create(model="m", messages=[])
        assert error.value.type == "invalid_request_error"
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="../m", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="e", input=[1, 2, 3])
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="e", input=["fox", ""])
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="e", input="fox", dimensions=100_000)
