"""A receiver of events over real HTTP, which checks signatures by the published rules, without packtrain's code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncIterator, Sequence

HANG = 0


class Received:
    """One call."""

    def __init__(self, request: web.Request, body: bytes) -> None:
        self.path = request.path
        self.headers = request.headers
        self.body = body
        self.id = request.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    def signed_with(self, secret: str) -> bool:
        """Standard Webhooks: HMAC-SHA256 over id, time and body, among the entries of the header."""
        assert secret.startswith("whsec_")
        content = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        digest = hmac.new(base64.b64decode(secret[6:]), content, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(digest).decode()}" in self.headers["webhook-signature"].split(" ")

    def claims(self, jwks: Any) -> Any:
        """The claims of the JWT, after checking its signature."""
        head, payload, signature = self.headers["webhook-signature"].split(".")
        header = json.loads(_bytes(head))
        assert header["alg"] == "RS256"
        (key,) = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
        numbers = RSAPublicNumbers(*(int.from_bytes(_bytes(key[name])) for name in ("e", "n")))
        numbers.public_key().verify(_bytes(signature), f"{head}.{payload}".encode(), PKCS1v15(), SHA256())
        return json.loads(_bytes(payload))


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Receiver:
    """Answers 200, or the statuses in ``answers`` for a path first; HANG means no response."""

    def __init__(self) -> None:
        self.origin = ""
        self.received: list[Received] = []
        self.answers: dict[str, deque[int]] = {}
        self._came = anyio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        self.received.append(Received(request, await request.read()))
        self._came.set()
        self._came = anyio.Event()
        waiting = self.answers.get(request.path)
        status = waiting.popleft() if waiting else 200
        if status == HANG:
            await anyio.sleep_forever()
        return web.Response(status=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else {})

    async def until(self, count: int, path: str = "/hook") -> Sequence[Received]:
        """The calls to a path, once there are ``count``."""
        with anyio.fail_after(100):
            while len(found := [call for call in self.received if call.path == path]) < count:
                await self._came.wait()
        return found


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()
