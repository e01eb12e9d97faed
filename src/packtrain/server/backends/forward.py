"""Forward backend: sends requests to an interactive endpoint, which gives a model server a batch API.

The path decides on the endpoint's API: Gemini for paths that end in ``/v1beta`` or ``/v1alpha``, otherwise OpenAI
(``http://127.0.0.1:8000/v1`` and similar).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import aiohttp
import anyio

from ..._errors import ApiError, InputError, TransportError
from ..._io.clock import SystemClock
from ..._io.retry import persist
from ..._model import RowError
from ..._options import CONNECT_TIMEOUT, MAX_LINE_BYTES
from ..._wire.gemini.errors import (
    GRPC_CODE,
    GRPC_DATA_LOSS,
    GRPC_INTERNAL,
    GRPC_INVALID_ARGUMENT,
    GRPC_UNAVAILABLE,
    error_of,
)
from ..._wire.http import Reply
from ..._wire.openai import interactive
from .backend import CONCURRENCY, Answer, answer_each
from .json_answers import checked_json, object_on_one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from msgspec import Raw

    from ..._io.clock import Clock
    from ..._model import Secret, Task

#: Attempts per request before its row fails, and seconds for each attempt.
TRIES = 5
TIMEOUT = 600.0


class ApiFormat(Protocol):
    """The endpoint's API: encodes requests, decodes responses. Both raise ValueError."""

    header: str

    def key(self, key: str) -> str: ...

    def encode_request(self, request: Raw, task: Task, model: str) -> tuple[str, bytes]:
        """Path relative to the endpoint, and body."""
        ...

    def decode_response(self, body: bytes, task: Task) -> bytes: ...


class GeminiFormat:
    """Sends the line's request unchanged."""

    header = "x-goog-api-key"

    def key(self, key: str) -> str:
        return key

    def encode_request(self, request: Raw, task: Task, model: str) -> tuple[str, bytes]:
        return f"/{model}:{'generateContent' if task == 'generate' else 'embedContent'}", bytes(request)

    def decode_response(self, body: bytes, task: Task) -> bytes:
        """The response on one line."""
        return object_on_one_line(body)


class OpenAIFormat:
    """Chat completions and embeddings."""

    header = "Authorization"

    def key(self, key: str) -> str:
        return f"Bearer {key}"

    def encode_request(self, request: Raw, task: Task, model: str) -> tuple[str, bytes]:
        model = model.removeprefix("models/")
        if task == "generate":
            return "/chat/completions", interactive.chat_request(request, model)
        return "/embeddings", interactive.embedding_request(request, model)

    def decode_response(self, body: bytes, task: Task) -> bytes:
        return interactive.chat_answer(body) if task == "generate" else interactive.embedding_answer(body)


class Forward:
    """At most ``concurrency`` requests are in flight, over all jobs, including those that wait for a retry."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: str,
        api_format: ApiFormat,
        *,
        concurrency: int = CONCURRENCY,
        clock: Clock | None = None,
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._format = api_format
        self._limiter = anyio.CapacityLimiter(concurrency)
        self._clock = clock or SystemClock()
        self.rows = 2 * concurrency

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        return await answer_each(requests, self._limiter, lambda request: self._one(request, task, model))

    async def _one(self, request: Raw, task: Task, model: str) -> Answer:
        try:
            path, body = self._format.encode_request(request, task, model)
        except (ValueError, RecursionError) as error:
            return RowError(code=GRPC_INVALID_ARGUMENT, message=f"The request cannot be forwarded: {error}.")
        try:
            reply = await persist(lambda: self._post(path, body), self._clock, tries=TRIES)
            if not reply.body:
                return RowError(code=GRPC_INTERNAL, message="The endpoint's response is empty.")
            return self._format.decode_response(checked_json(reply.body), task)
        except ApiError as error:
            return RowError(code=GRPC_CODE.get(error.status, GRPC_INTERNAL), message=str(error))
        except TransportError as error:
            return RowError(code=GRPC_UNAVAILABLE, message=str(error))
        except (ValueError, RecursionError) as error:
            # A code that does not pass: it was answered, and asking again is paid for again.
            return RowError(code=GRPC_DATA_LOSS, message=f"The endpoint's response is malformed: {error}.")

    async def _post(self, path: str, body: bytes) -> Reply:
        reply = await self._exchange(path, body)
        if reply.status != 200:
            raise error_of("forward", reply)
        return reply

    async def _exchange(self, path: str, body: bytes) -> Reply:
        headers = {"Content-Type": "application/json"}
        try:
            with anyio.fail_after(TIMEOUT):
                async with self._session.post(
                    self._endpoint + path, data=body, headers=headers, allow_redirects=False
                ) as response:
                    reply_headers = {name.lower(): value for name, value in response.headers.items()}
                    return Reply(status=response.status, headers=reply_headers, body=await _read(response))
        except TimeoutError as error:
            raise TransportError(f"forward: no response from the endpoint for {TIMEOUT:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransportError(f"forward: {str(error) or type(error).__name__}") from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > MAX_LINE_BYTES:
            raise ApiError("forward: the endpoint's response is too long for a line", status=413)
        pieces.append(piece)
    return b"".join(pieces)


@asynccontextmanager
async def open_forward(url: str, key: Secret | None = None) -> AsyncIterator[Forward]:
    """Raises InputError for a malformed URL."""
    endpoint = url.rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in url:
        raise InputError("backend forward:URL: give an address as in http://127.0.0.1:8000/v1, without a key in it")
    api_format: ApiFormat = GeminiFormat() if parts.path.endswith(("/v1beta", "/v1alpha")) else OpenAIFormat()
    headers = {api_format.header: api_format.key(key.reveal())} if key else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield Forward(session, endpoint, api_format)
