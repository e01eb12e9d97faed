"""Embeddings: OpenAI's request as requests in Gemini's form, one for each text, and the answers brought back."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Raw, Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Texts of one request.
MAX_INPUTS = 2048


class EmbeddingRequest(Struct, frozen=True, kw_only=True):
    """Arrays of token numbers are not taken: they are a model's own."""

    input: str | list[str]
    model: str
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] = "float"

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class _Values(Struct, frozen=True):
    values: list[float]


class _Answer(Struct, frozen=True, rename="camel"):
    embedding: _Values
    token_count: int | str = 0


class Embedding(Struct, frozen=True, kw_only=True):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


_decode = msgspec.json.Decoder(EmbeddingRequest).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes | Raw) -> EmbeddingRequest:
    """Raises ValueError, msgspec's own errors among them."""
    request = _decode(body)
    if not 0 < len(request.texts) <= MAX_INPUTS:
        raise ValueError(f"input has {len(request.texts)} texts, not 1 to {MAX_INPUTS}")
    if not all(request.texts):
        raise ValueError("input has an empty text")
    return request


def to_gemini(request: EmbeddingRequest) -> list[Raw]:
    return [Raw(_encode(_content(text, request.dimensions))) for text in request.texts]


def _content(text: str, dimensions: int | None) -> dict[str, Any]:
    asked: dict[str, Any] = {"content": {"parts": [{"text": text}]}}
    return asked if dimensions is None else {**asked, "outputDimensionality": dimensions}


def from_gemini(request: EmbeddingRequest, answers: Sequence[bytes]) -> bytes:
    """Raises ValueError for answers that hold no vector."""
    found = [_decode_answer(answer) for answer in answers]
    tokens = sum(int(answer.token_count) for answer in found)
    data = [Embedding(index=at, embedding=_vector(request, answer)) for at, answer in enumerate(found)]
    return _encode(
        EmbeddingList(data=data, model=request.model, usage=Usage(prompt_tokens=tokens, total_tokens=tokens))
    )


def _vector(request: EmbeddingRequest, answer: _Answer) -> list[float] | str:
    """The SDK asks for base64 by itself: little-endian floats of 32 bits."""
    values = answer.embedding.values
    if request.encoding_format == "float":
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
