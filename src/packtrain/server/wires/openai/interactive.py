"""Interactive chat completions and embeddings, answered by the backend of the batches."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

from msgspec import Raw

from ...._io.threads import in_thread
from ...._model import RowError
from ...._wire.openai.batches import ENDPOINTS
from ...._wire.openai.errors import status_of
from ...replies import json_response
from ...routing import Route
from ..gemini.json_body import read_body
from .errors import OpenAIError, openai_error_response
from .translation import combine, translate

if TYPE_CHECKING:
    from aiohttp import web

    from ...._model import Task
    from ...backends.backend import Backend
    from .limits import OpenAILimits


class InteractiveRoutes:
    """The handlers."""

    def __init__(self, backend: Backend, limits: OpenAILimits) -> None:
        self._backend = backend
        self._limits = limits

    def routes(self) -> list[Route]:
        base = "/v1beta/openai|/v1"
        return [
            Route(
                name=f"openai.{endpoint.removeprefix('/v1/').replace('/', '.')}",
                method="POST",
                pattern=re.compile(f"(?:{base})/({endpoint.removeprefix('/v1/')})"),
                handler=self.answer_now,
                interactive=True,
                error_response=openai_error_response,
            )
            for endpoint in ENDPOINTS
        ]

    async def answer_now(self, request: web.Request, endpoint: str) -> web.Response:
        task = ENDPOINTS[f"/v1/{endpoint}"]
        body = await read_body(request, self._limits.body_bytes)
        tag, now = secrets.token_hex(16), int(time.time())
        return json_response(
            Raw(await self._answer(task, body, f"chatcmpl-{tag}", now)), {"x-request-id": f"req_{tag}"}
        )

    async def _answer(self, task: Task, body: bytes, answer_id: str, now: int) -> bytes:
        try:
            translated = await in_thread(lambda: translate(task, body, id=answer_id, created=now))
        except (ValueError, RecursionError) as error:
            raise OpenAIError(400, f"The request cannot be answered: {error}.") from error
        answer = combine(translated, await self._backend.answer(translated.requests, task=task, model=translated.model))
        if isinstance(answer, RowError):
            raise OpenAIError(status_of(answer.code), answer.message or "The model gave no reason.")
        return answer
