"""Echo backend, which needs no model: returns texts, and turns them into vectors by their words.

The vectors are lexical, not neural: texts are close when they share words, whatever these mean.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from ..._io.threads import in_thread
from ..._model import RowError, Task
from ..._wire.gemini.errors import GRPC_INVALID_ARGUMENT
from ..._wire.gemini.schemas import to_json_schema
from .schema_sample import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_DIMENSIONS = 256
MAX_DIMENSIONS = 4096

#: Raised for malformed schemas.
_BAD_SCHEMA = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)

_WORD = re.compile(r"[^\W_]+")
#: Frequent English words, left out of the vectors.
# fmt: off
_STOP_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "from", "has", "have", "if", "in",
    "into", "is", "it", "its", "no", "not", "of", "on", "or", "such", "that", "the", "their", "then",
    "there", "these", "they", "this", "to", "was", "were", "which", "will", "with", "you", "your",
})
# fmt: on


class Part(Struct, frozen=True):
    text: str = ""


class Content(Struct, frozen=True, omit_defaults=True):
    parts: list[Part] = []
    role: str = ""

    @property
    def text(self) -> str:
        return "".join([part.text for part in self.parts])


class Config(Struct, frozen=True, kw_only=True):
    """The generation settings that matter here: the format of the answer."""

    mime_type: str = msgspec.field(default="", name="responseMimeType")
    mime_type_snake: str = msgspec.field(default="", name="response_mime_type")
    schema: Any = msgspec.field(default=None, name="responseSchema")
    schema_snake: Any = msgspec.field(default=None, name="response_schema")
    json_schema: Any = msgspec.field(default=None, name="responseJsonSchema")
    json_schema_snake: Any = msgspec.field(default=None, name="response_json_schema")

    def answer(self, text: str) -> str:
        """The text, as JSON where requested. Raises ValueError for a schema that cannot be met."""
        if schema := self.json_schema or self.json_schema_snake:
            return _json(sample(schema, text))
        if schema := self.schema or self.schema_snake:
            return _json(sample(to_json_schema(schema), text))
        return _json(text) if "application/json" in (self.mime_type, self.mime_type_snake) else text


class GenerateRequest(Struct, frozen=True, kw_only=True):
    contents: list[Content] = []
    config: Config | None = msgspec.field(default=None, name="generationConfig")
    config_snake: Config | None = msgspec.field(default=None, name="generation_config")

    def answer(self) -> str:
        text, config = self.contents[-1].text, self.config or self.config_snake
        return config.answer(text) if config else text


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class EmbedRequest(Struct, frozen=True, kw_only=True):
    content: Content
    camel: int | None = msgspec.field(default=None, name="outputDimensionality")
    snake: int | None = msgspec.field(default=None, name="output_dimensionality")


class Candidate(Struct, frozen=True, rename="camel"):
    content: Content
    finish_reason: str
    index: int


class Usage(Struct, frozen=True, rename="camel"):
    prompt_token_count: int
    candidates_token_count: int
    total_token_count: int


class GenerateResponse(Struct, frozen=True, rename="camel"):
    candidates: list[Candidate]
    usage_metadata: Usage
    model_version: str
    response_id: str


class Embedding(Struct, frozen=True):
    values: list[float]


class EmbedResponse(Struct, frozen=True, rename="camel"):
    token_count: str
    embedding: Embedding


class Echo:
    """Answers a generate request with the text of its last content, an embed request with ``embed`` of it.

    A request with a response schema gets a valid value with that text in its strings. Answers are deterministic.
    """

    rows = None

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[bytes | RowError]:
        return await in_thread(answer_all, requests, task, model.rpartition("/")[2])


def answer_all(requests: Sequence[Raw], task: Task, model: str) -> list[bytes | RowError]:
    answer = _generator(model) if task == "generate" else _embedder()
    return [_checked(answer, request) for request in requests]


def _checked(answer: Callable[[Raw], bytes], request: Raw) -> bytes | RowError:
    try:
        return answer(request)
    except (msgspec.DecodeError, RecursionError, *_BAD_SCHEMA) as error:
        return RowError(code=GRPC_INVALID_ARGUMENT, message=f"The request cannot be answered: {error}.")


def _generator(model: str) -> Callable[[Raw], bytes]:
    decode, encode = msgspec.json.Decoder(GenerateRequest).decode, msgspec.json.Encoder().encode

    def generate(request: Raw) -> bytes:
        decoded = decode(request)
        if not decoded.contents:
            raise ValueError("contents is missing or empty")
        text = decoded.answer()
        prompt_tokens, answer_tokens = count_tokens(decoded.contents[-1].text), count_tokens(text)
        return encode(
            GenerateResponse(
                candidates=[Candidate(Content(parts=[Part(text)], role="model"), "STOP", 0)],
                usage_metadata=Usage(prompt_tokens, answer_tokens, prompt_tokens + answer_tokens),
                model_version=model,
                response_id=hashlib.blake2b(request, digest_size=12).hexdigest(),
            )
        )

    return generate


def _embedder() -> Callable[[Raw], bytes]:
    decode, encode = msgspec.json.Decoder(EmbedRequest).decode, msgspec.json.Encoder().encode

    def answer(request: Raw) -> bytes:
        decoded = decode(request)
        dimensions = decoded.camel or decoded.snake or DEFAULT_DIMENSIONS
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"outputDimensionality {dimensions} is not between 1 and {MAX_DIMENSIONS}")
        text = decoded.content.text
        return encode(EmbedResponse(str(count_tokens(text)), Embedding(embed(text, dimensions))))

    return answer


def count_tokens(text: str) -> int:
    """An estimate: four characters per token."""
    return (len(text) + 3) // 4


def embed(text: str, dimensions: int) -> list[float]:
    """A unit vector: each word adds 1 + log(count) to a bucket, with a sign, both chosen by its hash.

    So the dot product of two vectors is the cosine similarity of their word counts, apart from collisions.
    Raises ValueError for a text without a visible character.
    """
    text_words = words(text)
    if not text_words:
        raise ValueError("the content has no text")
    buckets: dict[int, float] = {}
    for word, count in Counter(text_words).items():
        digest = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        bucket, weight = (digest >> 1) % dimensions, 1.0 + math.log(count)
        buckets[bucket] = buckets.get(bucket, 0.0) + (weight if digest & 1 else -weight)
    if not any(buckets.values()):  # all words cancelled out
        buckets = {next(iter(buckets)): 1.0}
    length = math.hypot(*buckets.values())
    vector = [0.0] * dimensions
    for bucket, value in buckets.items():
        vector[bucket] = round(value / length, 6)
    return vector


def words(text: str) -> list[str]:
    """Lower-case words without stop words; the stop words too if there are no others."""
    all_words = _WORD.findall(text.lower())
    return [word for word in all_words if word not in _STOP_WORDS] or all_words or text.split()
