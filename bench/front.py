"""A server in front of a service: requests go through it, and somebody looks at the answers, or spoils them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Look = Callable[[web.Request, web.Response], Awaitable[web.Response]]


@contextlib.asynccontextmanager
async def open_front(target: str, look: Look) -> AsyncIterator[str]:
    """The origin of it. ``look`` is given each request with what ``target`` answered, and returns what is sent back."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def handle(request: web.Request) -> web.Response:
            return await look(request, await _ask(request, target, session))

        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def _ask(request: web.Request, target: str, session: aiohttp.ClientSession) -> web.Response:
    # By its Host, the addresses that the service hands out lead through here as well.
    headers = {name: value for name, value in request.headers.items() if name != "Host"} | {"Host": request.host}
    url = target + request.raw_path
    async with session.request(request.method, url, headers=headers, data=await request.read()) as found:
        body = await found.read()
    kept = {name: value for name, value in found.headers.items() if name not in ("Date", "Server")}
    return web.Response(status=found.status, headers=kept, body=body)
