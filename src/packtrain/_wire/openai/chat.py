"""Chat completions: OpenAI's request as a request in Gemini's form, and the answer brought back.

System and developer messages become the system instruction; the assistant is called ``model``. Texts alone
are taken: a message with an image, a sound or a call of a tool is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Raw, Struct

if TYPE_CHECKING:
    from collections.abc import Sequence


class TextPart(Struct, frozen=True, kw_only=True):
    type: Literal["text"]
    text: str


class Message(Struct, frozen=True, kw_only=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join([part.text for part in self.content])


class Schema(Struct, frozen=True, kw_only=True):
    # Factories, here and below: a default that is raw JSON cannot be told in the schema of this struct.
    schema: Raw = msgspec.field(default_factory=lambda: Raw(b"{}"))


class ResponseFormat(Struct, frozen=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema = msgspec.field(default_factory=Schema)


class ChatRequest(Struct, frozen=True, kw_only=True):
    messages: list[Message]
    model: str
    stream: bool | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: ResponseFormat | None = None


class _Part(Struct, frozen=True):
    text: str = ""


class _Content(Struct, frozen=True):
    parts: list[_Part] = []


class _Candidate(Struct, frozen=True, rename="camel"):
    content: _Content = _Content()
    finish_reason: str = "STOP"


class _Usage(Struct, frozen=True, rename="camel"):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    total_token_count: int = 0


class _Answer(Struct, frozen=True, rename="camel"):
    candidates: list[_Candidate] = []
    usage_metadata: _Usage = _Usage()


class AnswerMessage(Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Struct, frozen=True, kw_only=True):
    index: int
    message: AnswerMessage
    finish_reason: str
    logprobs: None = None


class Usage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


_TELLING = ("system", "developer")
#: Gemini's word for the end of an answer -> OpenAI's; every other one is a filter that held it back.
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}

_decode = msgspec.json.Decoder(ChatRequest).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


def decode_request(body: bytes | Raw) -> ChatRequest:
    """Raises ValueError, msgspec's own errors among them."""
    request = _decode(body)
    if all(message.role in _TELLING for message in request.messages):
        raise ValueError("messages has none of the user or the assistant")
    if request.stream:
        raise ValueError("stream: this service answers whole; leave it out")
    if request.n not in (None, 1):
        raise ValueError("n: this service gives one answer to a request")
    return request


def to_gemini(request: ChatRequest) -> list[Raw]:
    """One request, in a list as for embeddings."""
    told = [message for message in request.messages if message.role in _TELLING]
    said = [message for message in request.messages if message.role not in _TELLING]
    asked: dict[str, Any] = {"contents": [_content(message) for message in said]}
    if told:
        asked["systemInstruction"] = {"parts": [{"text": message.text} for message in told]}
    if config := _config(request):
        asked["generationConfig"] = config
    return [Raw(_encode(asked))]


def _content(message: Message) -> dict[str, Any]:
    return {"role": "model" if message.role == "assistant" else "user", "parts": [{"text": message.text}]}


def _config(request: ChatRequest) -> dict[str, Any]:
    limit = request.max_completion_tokens
    given = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "maxOutputTokens": request.max_tokens if limit is None else limit,
        "seed": request.seed,
        "stopSequences": [request.stop] if isinstance(request.stop, str) else request.stop,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        **_format(request.response_format),
    }
    return {name: value for name, value in given.items() if value is not None}


def _format(asked: ResponseFormat | None) -> dict[str, Any]:
    if asked is None or asked.type == "text":
        return {}
    schema = asked.json_schema.schema if asked.type == "json_schema" else None
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def from_gemini(request: ChatRequest, answers: Sequence[bytes], *, id: str, created: int) -> bytes:
    """Raises ValueError when the answer holds no candidate."""
    answer = _decode_answer(answers[0])
    if not answer.candidates:
        raise ValueError("the model gave no candidate")
    usage = answer.usage_metadata
    return _encode(
        ChatCompletion(
            id=id,
            created=created,
            model=request.model,
            choices=[_choice(at, candidate) for at, candidate in enumerate(answer.candidates)],
            usage=Usage(
                prompt_tokens=usage.prompt_token_count,
                completion_tokens=usage.candidates_token_count,
                total_tokens=usage.total_token_count,
            ),
        )
    )


def _choice(index: int, candidate: _Candidate) -> Choice:
    text = "".join([part.text for part in candidate.content.parts])
    reason = _FINISH.get(candidate.finish_reason, "content_filter")
    return Choice(index=index, message=AnswerMessage(content=text), finish_reason=reason)
