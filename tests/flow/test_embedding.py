"""The client inside somebody else's service."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
from aiohttp import web
from aiohttp.test_utils import TestServer

import packtrain
from tests.flow.place import request_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from yarl import URL

    from tests.flow.place import Place

CLIENT = web.AppKey("client", packtrain.Client)
PLACE: web.AppKey[Place] = web.AppKey("place")


async def driven(app: web.Application) -> AsyncIterator[None]:
    """The client lives as long as the service does, and is driven in a task that the service can see."""
    place = app[PLACE]
    async with (
        packtrain.open_client(place.state, service=place.service) as client,
        anyio.create_task_group() as tasks,
    ):
        app[CLIENT] = client
        tasks.start_soon(client.drive)
        yield
        tasks.cancel_scope.cancel()


async def ask(request: web.Request) -> web.Response:
    """Takes rows, and answers with their keys when all of them have landed."""
    client = request.app[CLIENT]
    rows: list[dict[str, Any]] = await request.json()
    run = await client.submit(iter(rows), run_id=request.match_info["name"], model="m")
    return web.json_response([result.key async for result in client.results(run)])


async def test_several_requests_of_a_service_share_one_client(place: Place) -> None:
    """Each is a run of its own; the loop stays free for all of them."""
    app = web.Application()
    app[PLACE] = place
    app.cleanup_ctx.append(driven)
    app.router.add_post("/{name}", ask)
    answers: dict[str, list[str]] = {}

    async def call(client: aiohttp.ClientSession, url: URL, name: str, count: int) -> None:
        rows = [request_line(n) for n in range(count)]
        async with client.post(url, json=rows) as response:
            answers[name] = await response.json()

    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        async with anyio.create_task_group() as tasks:
            for name, count in (("a", 3), ("b", 40), ("c", 7)):
                tasks.start_soon(call, client, server.make_url(f"/{name}"), name, count)
        with suppress(ConnectionError):
            await server.close()
    assert {name: len(keys) for name, keys in answers.items()} == {"a": 3, "b": 40, "c": 7}
    assert answers["c"] == [f"key-{n}" for n in range(7)]
