"""Interactive calls, answered by the backend of the jobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from ...._io.threads import in_thread
from ...._model import RowError
from ...._options import MIB
from ...._wire.gemini.errors import HTTP_STATUS
from ...backends.echo import Content, count_tokens
from ...replies import HttpError, json_response
from ...routing import Route
from .json_body import VERSION, check_utf8, member, members, object_member, read_body, strict_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from ...._model import Task
    from ...backends.backend import Backend

#: Most bytes of one call, as in the real service.
MAX_CALL_BYTES = 20 * MIB
#: Most requests in one batchEmbedContents call.
MAX_EMBEDDINGS = 100


class _Embedded(Struct, frozen=True):
    embedding: Raw


_embedding_of = msgspec.json.Decoder(_Embedded).decode


class ModelRoutes:
    """The handlers."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[Route]:
        handlers = {
            "generateContent": self.generate,
            "embedContent": self.embed,
            "batchEmbedContents": self.embed_all,
            "countTokens": self.count,
        }
        model = VERSION + r"/((?:models|tunedModels)/[^/:]+):"
        return [
            Route(
                name=f"models.{verb}",
                method="POST",
                pattern=re.compile(model + verb),
                handler=handler,
                interactive=True,
            )
            for verb, handler in handlers.items()
        ]

    async def generate(self, request: web.Request, model: str) -> web.Response:
        return await self._one(request, "generate", model)

    async def embed(self, request: web.Request, model: str) -> web.Response:
        return await self._one(request, "embed", model)

    async def embed_all(self, request: web.Request, model: str) -> web.Response:
        requests = member(await _members(request), "requests", list[Raw], [])
        if not 0 < len(requests) <= MAX_EMBEDDINGS:
            raise HttpError(400, f"requests: give 1 to {MAX_EMBEDDINGS}, not {len(requests)}.")
        answers = await self._answer(requests, "embed", model)
        return json_response({"embeddings": [_embedding_in(one) for one in answers]})

    async def count(self, request: web.Request, model: str) -> web.Response:
        """An estimate: the models' tokenizers are not available here."""
        body = await _members(request)
        generate_request = object_member(body, "generateContentRequest") or body
        contents = member(generate_request, "contents", list[Content], [])
        return json_response({"totalTokens": sum(count_tokens(content.text) for content in contents)})

    async def _one(self, request: web.Request, task: Task, model: str) -> web.Response:
        body = await _read(request)
        (response,) = await self._answer([Raw(body)], task, model)
        return json_response(Raw(response))

    async def _answer(self, requests: Sequence[Raw], task: Task, model: str) -> list[bytes]:
        """Raises HttpError for the first request that failed."""
        return [_checked(one) for one in await self._backend.answer(requests, task=task, model=model)]


def _checked(answer: bytes | RowError) -> bytes:
    if isinstance(answer, RowError):
        raise HttpError(HTTP_STATUS.get(answer.code or 0, 500), answer.message or "The backend gave no reason.")
    return answer


def _embedding_in(answer: bytes) -> Raw:
    try:
        return _embedding_of(answer).embedding
    except msgspec.DecodeError as error:
        raise HttpError(500, f"The backend's answer has no embedding: {error}.") from error


async def _members(request: web.Request) -> dict[str, Raw]:
    return dict(await in_thread(members, await _read(request)))


async def _read(request: web.Request) -> bytes:
    body = await read_body(request, MAX_CALL_BYTES)
    check_utf8(body)
    return await in_thread(strict_json, body)
