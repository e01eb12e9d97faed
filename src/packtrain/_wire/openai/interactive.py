"""Interactive calls of an OpenAI-compatible endpoint: a request in Gemini's form as one of theirs, and the answer
brought back.

Texts and inline images are taken along; what these endpoints have no word for (tools, safety settings, files) is
refused rather than dropped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from ..gemini.schemas import to_json_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A finish reason that we have not met ends as OTHER.
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
#: Gemini's name of a setting -> theirs.
_SETTINGS = {
    "temperature": "temperature",
    "topP": "top_p",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "candidateCount": "n",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
}
_REFUSED = ("tools", "toolConfig", "cachedContent")


class _Message(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    message: _Message = _Message()
    finish_reason: str | None = None
    index: int = 0


class _Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _Completion(Struct, frozen=True):
    choices: list[_Choice]
    id: str = ""
    model: str = ""
    usage: _Usage | None = None


class _Vector(Struct, frozen=True):
    embedding: Raw


class _Vectors(Struct, frozen=True):
    data: list[_Vector]
    usage: _Usage | None = None


_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_vectors = msgspec.json.Decoder(_Vectors).decode
_encode = msgspec.json.Encoder().encode


def chat_request(request: Raw, model: str) -> bytes:
    """Raises ValueError, msgspec's own errors among them, for a request that cannot be put in these words."""
    asked = _members(msgspec.json.decode(request))
    for name in _REFUSED:
        if asked.get(name):
            raise ValueError(f"{name} has no counterpart at an OpenAI-compatible endpoint")
    system = asked.get("systemInstruction")
    messages = [{"role": "system", "content": _content(system)}] if system else []
    messages += [_message(content) for content in asked.get("contents") or []]
    if not messages:
        raise ValueError("contents is missing or empty")
    config = _members(asked.get("generationConfig") or {})
    settings = {theirs: config[ours] for ours, theirs in _SETTINGS.items() if ours in config}
    return _encode({"model": model, "messages": messages, **settings, **_format(config)})


def chat_answer(body: bytes) -> bytes:
    """As the Gemini API would give it. Raises ValueError for an answer that is none."""
    found = _completion(body)
    usage = found.usage or _Usage()
    candidates = [
        {
            "content": {"parts": [{"text": choice.message.content or ""}], "role": "model"},
            "finishReason": _FINISH.get(choice.finish_reason or "stop", "OTHER"),
            "index": choice.index,
        }
        for choice in found.choices
    ]
    counts = {
        "promptTokenCount": usage.prompt_tokens,
        "candidatesTokenCount": usage.completion_tokens,
        "totalTokenCount": usage.total_tokens,
    }
    names = {"modelVersion": found.model, "responseId": found.id}
    return _text({"candidates": candidates, "usageMetadata": counts, **names})


def _completion(body: bytes) -> _Completion:
    try:
        return _decode_completion(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:  # half a surrogate pair, which this parser takes
        return msgspec.convert(json.loads(body), _Completion)


def _text(value: object) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, which stays as an escape
        return json.dumps(value).encode()


def embedding_request(request: Raw, model: str) -> bytes:
    """Raises ValueError, as ``chat_request`` does."""
    asked = _members(msgspec.json.decode(request))
    text = _content(asked.get("content") or {})
    if not isinstance(text, str) or not text:
        raise ValueError("the content has no text")
    dimensions = asked.get("outputDimensionality")
    sizes = {} if dimensions is None else {"dimensions": dimensions}
    return _encode({"model": model, "input": text, "encoding_format": "float", **sizes})


def embedding_answer(body: bytes) -> bytes:
    """As the Gemini API would give it. Raises ValueError for an answer without exactly one vector."""
    found = _decode_vectors(body)
    if len(found.data) != 1:
        raise ValueError(f"the endpoint gave {len(found.data)} vectors to one text")
    tokens = found.usage.prompt_tokens if found.usage else 0
    return _encode({"tokenCount": str(tokens), "embedding": {"values": found.data[0].embedding}})


def _message(content: Any) -> dict[str, Any]:
    role = "assistant" if _members(content).get("role") == "model" else "user"
    return {"role": role, "content": _content(content)}


def _content(content: Any) -> str | list[dict[str, Any]]:
    """One text where there is nothing else."""
    parts = [_part(_members(part)) for part in _members(content).get("parts") or []]
    if all(part["type"] == "text" for part in parts):
        return "".join([part["text"] for part in parts])
    return parts


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if "inlineData" in part:
        data = _members(part["inlineData"])
        return {"type": "image_url", "image_url": {"url": f"data:{data.get('mimeType')};base64,{data.get('data')}"}}
    raise ValueError(f"a part with {', '.join(part) or 'nothing'} has no counterpart at an OpenAI-compatible endpoint")


def _format(config: Mapping[str, Any]) -> dict[str, Any]:
    schema = config.get("responseJsonSchema")
    if not schema and config.get("responseSchema"):
        schema = to_json_schema(config["responseSchema"])
    if schema:
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}
    is_json = config.get("responseMimeType") == "application/json"
    return {"response_format": {"type": "json_object"}} if is_json else {}


def _members(found: Any) -> dict[str, Any]:
    """By their names in camelCase."""
    if not isinstance(found, dict):
        raise ValueError(f"an object was expected, not {type(found).__name__}")
    return {_camel(name): value for name, value in found.items()}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)
