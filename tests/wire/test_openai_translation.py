"""OpenAI's requests as Gemini's, and the answers brought back."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from packtrain._wire.openai import chat, embeddings
from packtrain._wire.openai.errors import encode_error, status_of


def _chat(**members: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}).encode()


def test_chat_request() -> None:
    """Roles, system texts and every parameter find their place; what was not asked is left out."""
    body = _chat(
        messages=[
            {"role": "system", "content": "a"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "developer", "content": [{"type": "text", "text": "d"}]},
            {"role": "user", "content": "e"},
        ],
        max_tokens=5,
        max_completion_tokens=0,
        stop="x",
        seed=7,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    )
    (request,) = chat.to_gemini(chat.decode_request(body))
    assert json.loads(bytes(request)) == {
        "systemInstruction": {"parts": [{"text": "a"}, {"text": "d"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "b"}]},
            {"role": "model", "parts": [{"text": "c"}]},
            {"role": "user", "parts": [{"text": "e"}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 0,
            "stopSequences": ["x"],
            "seed": 7,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
        },
    }
    (plain,) = chat.to_gemini(chat.decode_request(_chat()))
    assert set(json.loads(bytes(plain))) == {"contents"}


@pytest.mark.parametrize(
    "members",
    [
        {"messages": []},
        {"messages": [{"role": "system", "content": "a"}]},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"n": 2},
        {"stream": True},
        {"model": 1},
    ],
)
def test_chat_requests_that_cannot_be_answered(members: dict[str, object]) -> None:
    """Refused, rather than answered without what was asked."""
    with pytest.raises(ValueError):
        chat.decode_request(_chat(**members))


@pytest.mark.parametrize(("word", "reason"), [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter")])
def test_why_an_answer_ended(word: str, reason: str) -> None:
    """Gemini's words are more than OpenAI's."""
    candidate = {"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "finishReason": word}
    answer = json.dumps({"candidates": [candidate]}).encode()
    found = json.loads(chat.from_gemini(chat.decode_request(_chat()), [answer], id="i", created=1))
    (choice,) = found["choices"]
    assert (choice["message"]["content"], choice["finish_reason"], choice["index"]) == ("ab", reason, 0)


def test_answer_without_a_candidate() -> None:
    """A blocked prompt is an error, not an empty success."""
    with pytest.raises(ValueError, match="no candidate"):
        chat.from_gemini(chat.decode_request(_chat()), [b"{}"], id="i", created=1)


def test_vectors_as_base64() -> None:
    """Floats of 32 bits, the low byte first; the count of tokens is that of all texts, number or text."""
    body = b'{"model":"e","input":["a","b"],"encoding_format":"base64"}'
    answers = [
        b'{"embedding":{"values":[0.5,-1]},"tokenCount":"2"}',
        b'{"embedding":{"values":[0.25,0]},"tokenCount":3}',
    ]
    found = json.loads(embeddings.from_gemini(embeddings.decode_request(body), answers))
    values = [struct.unpack("<2f", base64.b64decode(vector["embedding"])) for vector in found["data"]]
    assert values == [(0.5, -1.0), (0.25, 0.0)]
    assert found["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_errors() -> None:
    """The type follows from the status; a row's gRPC number has the status of an interactive call."""
    assert json.loads(encode_error(429, "slow")) == {
        "error": {"message": "slow", "type": "rate_limit_error", "param": None, "code": None}
    }
    assert json.loads(encode_error(503, "down"))["error"]["type"] == "server_error"
    assert [status_of(code) for code in (3, 8, 13, None)] == [400, 429, 500, 500]
