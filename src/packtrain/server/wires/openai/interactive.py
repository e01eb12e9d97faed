"""Chat completions and embeddings that are answered at once, by the backend that answers the batches."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

from anyio import to_thread
from msgspec import Raw

from ...._model import RowError
from ...._wire.openai.batches import ENDPOINTS
from ...._wire.openai.errors import status_of
from ...replies import answer
from ...routing import Route
from ..gemini.json_body import read_body
from .errors import Denial, deny
from .translation import ask, settle

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
                handler=self.ask,
                interactive=True,
                refuse=deny,
            )
            for endpoint in ENDPOINTS
        ]

    async def ask(self, request: web.Request, endpoint: str) -> web.Response:
        task = ENDPOINTS[f"/v1/{endpoint}"]
        body = await read_body(request, self._limits.body_bytes)
        tag, now = secrets.token_hex(16), int(time.time())
        return answer(Raw(await self._answer(task, body, f"chatcmpl-{tag}", now)), {"x-request-id": f"req_{tag}"})

    async def _answer(self, task: Task, body: bytes, answer_id: str, now: int) -> bytes:
        try:
            asked = await to_thread.run_sync(lambda: ask(task, body, id=answer_id, created=now))
        except (ValueError, RecursionError) as error:
            raise Denial(400, f"The request cannot be answered: {error}.") from error
        found = settle(asked, await self._backend.answer(asked.requests, task=task, model=asked.model))
        if isinstance(found, RowError):
            raise Denial(status_of(found.code), found.message or "The model gave no reason.")
        return found
