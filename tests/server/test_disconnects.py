"""Interactive calls: cancellation on disconnect, and the memory budget of bodies."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import ClientSession

from packtrain.server import serving
from packtrain.server.limits import Limits

from .raw_http import PATIENCE, head, wire
from .service_calls import Calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from msgspec import Raw

    from packtrain._model import Task
    from packtrain.server.backends.backend import Answer

GENERATE = ("/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "x" * 700}]}]})
CHAT = ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x" * 700}]})


class Hanging:
    """Never answers long requests."""

    rows = None

    def __init__(self) -> None:
        self.asked, self.free = anyio.Event(), anyio.Event()

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        if len(bytes(requests[0])) > 500:
            self.asked.set()
            try:
                await anyio.sleep_forever()
            finally:
                self.free.set()
        return [b"{}"] * len(requests)

    @asynccontextmanager
    async def asking(self, origin: str, path: str, body: object) -> AsyncIterator[None]:
        """A client waits for its answer during the block, then disconnects."""
        text = json.dumps(body).encode()
        async with wire(origin) as line:
            fields = ("Authorization: Bearer any", f"Content-Length: {len(text)}")
            await line.send(head("POST", path, *fields) + text)
            with anyio.fail_after(PATIENCE):
                await self.asked.wait()
            yield


@pytest.mark.parametrize(("path", "body"), [GENERATE, CHAT])
async def test_call_is_cancelled_when_its_client_disconnects(directory: Path, path: str, body: object) -> None:
    """The backend is cancelled, and its slot is free."""
    backend = Hanging()
    async with serving(directory, backend=backend) as origin:
        async with backend.asking(origin, path, body):
            assert not backend.free.is_set()
        with anyio.fail_after(PATIENCE):
            await backend.free.wait()


async def test_bodies_of_all_calls_have_one_budget(directory: Path) -> None:
    """503 beyond the budget; memory is released at the end of a call."""
    backend, limits = Hanging(), Limits(all_bodies=1000)
    async with serving(directory, backend=backend, limits=limits) as origin, ClientSession() as session:
        calls, path = Calls(session, origin), GENERATE[0]
        short = {"contents": [{"parts": [{"text": "x" * 400}]}]}
        async with backend.asking(origin, *GENERATE):
            refused = await calls.call("POST", path, json=short)
            assert refused.error == (503, "UNAVAILABLE")
            assert refused.headers["Retry-After"] == "1"
        with anyio.fail_after(PATIENCE):
            await backend.free.wait()
            while (await calls.call("POST", path, json=short)).status == 503:
                pass
        assert [(await calls.call("POST", path, json=short)).status for _ in range(3)] == [200] * 3
